# Needs: what table_claims reads.  Makes: results/{scale}/more_seeds/, further seeds of the methods of one claim, and
# tables/table_more_seeds. A checkpoint, since the spread of the scale's seeds decides how many more there are.
localrules:
    aggregate_more_seeds,
    more_seeds,


checkpoint choose_seeds:
    input:
        code=code("choose_seeds"),
        questions=QUESTIONS,
        scores=SCORES,
        curves=CURVES,
    output:
        f"{R}/more_seeds/seeds.json",
    params:
        settings=publish_settings(CORE, more_seeds=SCALE["more_seeds"]),
    log:
        f"{R}/logs/choose_seeds/all.log",
    benchmark:
        f"{R}/benchmarks/choose_seeds/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
        " --questions {input.questions} --scores {input.scores} --curves {input.curves} --chosen {output}"
        " > {log} 2>&1"


def chosen_seeds():
    """What the checkpoint wrote, its methods with those that train their first phases."""
    chosen = json.loads(Path(checkpoints.choose_seeds.get().output[0]).read_text())
    return chosen | {"methods": with_parents(chosen["methods"])}


def further_files(name):
    """Input function: this file of each run of the chosen methods and seeds."""

    def paths(wildcards):
        chosen = chosen_seeds()
        list_runs = answered_runs if name in ("grades", "thoughts") else each_run
        runs = list_runs(chosen["methods"], name, seeds=chosen["seeds"])
        return [run[name].format(**wildcards) for run in runs]

    return paths


def further_settings(wildcards):
    chosen = chosen_seeds()
    return aggregate_settings(wildcards.model, whole(chosen["methods"]), chosen["methods"], chosen["seeds"])


rule aggregate_more_seeds:
    input:
        code=code("aggregate_scores"),
        chosen=f"{R}/more_seeds/seeds.json",  # Snakemake wants it named where params depend on it
        grades=further_files("grades"),
        thoughts=further_files("thoughts"),
        metrics=further_files("metrics"),
        validation=further_files("validation"),
    output:
        questions=f"{R}/more_seeds/{{model}}/questions.parquet",
        scores=f"{R}/more_seeds/{{model}}/scores.parquet",
        contrasts=f"{R}/more_seeds/{{model}}/contrasts.parquet",
        curves=f"{R}/more_seeds/{{model}}/curves.parquet",
    params:
        settings=further_settings,
    log:
        f"{R}/logs/aggregate_more_seeds/{{model}}.log",
    benchmark:
        f"{R}/benchmarks/aggregate_more_seeds/{{model}}.tsv"
    threads: threads_of("aggregate_scores")
    resources:
        **resources_of("aggregate_scores"),
    conda:
        "../envs/evaluate.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
        " --questions {output.questions} --scores {output.scores} --contrasts {output.contrasts}"
        " --curves {output.curves} > {log} 2>&1"


def table_settings(wildcards):
    chosen = chosen_seeds()
    further = {"more_seeds": SCALE["more_seeds"], "first_seeds": SCALE["seeds"], "chosen": chosen}
    return publish_settings(whole(chosen["methods"]), seeds=chosen["seeds"], reads=["questions"], **further)


rule table_more_seeds:
    input:
        code=code("table_more_seeds"),
        chosen=f"{R}/more_seeds/seeds.json",
        questions=expand(f"{R}/more_seeds/{{model}}/questions.parquet", model=SCALE["models"]),
        scores=expand(f"{R}/more_seeds/{{model}}/scores.parquet", model=SCALE["models"]),
        curves=expand(f"{R}/more_seeds/{{model}}/curves.parquet", model=SCALE["models"]),
    output:
        csv=f"{R}/tables/table_more_seeds.csv",
        md=f"{R}/tables/table_more_seeds.md",
    params:
        settings=table_settings,
        records=lambda wildcards: RECORDS,
    log:
        f"{R}/logs/table_more_seeds/all.log",
    benchmark:
        f"{R}/benchmarks/table_more_seeds/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
        " --questions {input.questions} --scores {input.scores} --curves {input.curves} --csv {output.csv}"
        " --md {output.md} --provenance {params.records} > {log} 2>&1"


rule more_seeds:
    input:
        rules.table_more_seeds.output,
