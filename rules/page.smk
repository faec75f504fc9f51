# Needs: figures, tables, answers and their policies.  Makes: log P(y) of the answers shown, the page (index.html, page/,
# paper_vs_ours.md) and Snakemake's report.html.
from types import SimpleNamespace

from prerl.config.scales import read_files
from prerl.core.hashes import sha256_of
from prerl.publishing.labels import label


localrules:
    page,
    report,


SHOWN_FIRST = ("nsr_prerl", "grpo", "dsrl")  # their answers have log P(y) beside log P(y|x), and are shown first
SHOWN = [name for name in METHODS if whole_of(name) in CORE and evaluated_updates(name)]
SHOWN = [BASE, *sorted(SHOWN, key=lambda name: [*SHOWN_FIRST, whole_of(name)].index(whole_of(name)))]
IN_BOTH_SPACES = [BASE, *(name for name in SHOWN[1:] if whole_of(name) in SHOWN_FIRST)]
SHOWN_SEEDS = SCALE["seeds"][: SCALE["page"]["seeds"]]
# for a snakemake in a job, with --nolock because the one outside holds the lock
SAME_CONFIG = f"--configfile {' '.join(map(str, workflow.configfiles))} --config scale={config['scale']}"
TEMPLATES = sorted(str(file) for file in Path("workflow_scripts/prerl/publishing/template").iterdir())


def of_shown_runs(methods, name):
    """Files {name}.parquet of these methods and the seeds on the page, with the wildcard {model} left open."""
    return [run[name] for run in each_run(methods, name) if run["seed"] in SHOWN_SEEDS]


def main_update(method):
    """The update of a method that the page shows first, or None: of NSR-PreRL that of the claims, else the last."""
    if method not in (BASE, *SHOWN_FIRST):
        return None
    early = SCALE["evaluation"]["reference_updates"]["nsr"]
    return early if method == "nsr_prerl" and early in evaluated_updates(method) else evaluated_updates(method)[-1]


def browse_settings(wildcards):
    """The runs whose answers the page holds, with their files."""

    def of_model(run):
        return {key: value.format(**wildcards) if isinstance(value, str) else value for key, value in run.items()}

    look = json.loads(publish_settings(CORE))
    runs = each_run(SHOWN, "samples", "grades", "logprobs")
    runs = [of_model(run) for run in runs if run["seed"] in SHOWN_SEEDS]
    return settings(
        model=wildcards.model,
        answers=SCALE["page"]["answers_per_question"],
        runs=[
            run
            | {
                "label": label(look, whole_of(run["method"])),
                "updates": evaluated_updates(run["method"]),
                "main": main_update(run["method"]),
                "logprobs": run["logprobs"] if run["method"] in IN_BOTH_SPACES else None,
            }
            for run in runs
        ],
    )


def beside(wildcards):
    """Files that the page shows if they are there, with their hashes: other targets' and others' answers, controls.

    No inputs, so that a page of what there is asks for no training.
    """
    own = {Path(f"{R}/{kind}/{target}") for target in (*FIGURES, *TABLES) for kind in ("figures", "tables")}
    folders = [R, *(f"results/{name}" for name, scale in read_files()["scales"].items() if scale.get("inherits") == config["scale"])]
    files = [*Path(R).glob("external/*.md"), *Path(R).glob("figures/*.png"), *Path(R).glob("tables/*.md")]
    files += [file for folder in folders for file in Path(folder).glob("*/*_controls.*")]
    return {str(file): sha256_of(file) for file in sorted(set(files)) if file.with_suffix("") not in own}


rule measure_answers:
    input:
        code=code("measure_answers"),
        checkpoints=trained,
        samples=f"{RUN}/samples.parquet",
    output:
        f"{RUN}/logprobs.parquet",
    params:
        settings=lambda wildcards: settings(
            updates=evaluated_updates(wildcards.method),
            prompt=SCALE["prompt"],
            temperature=SCALE["rollouts"]["temperature"],
            tokens=SCALE["training"]["micro_batch_tokens"],
        ),
        policies=policies,
        # from `output`: not compared, since the policies may be gone when more answers are to be shown
        answers=lambda wildcards, output: SCALE["page"]["answers_per_question"],
    log:
        f"{R}/logs/measure_answers/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/measure_answers/{JOB}.tsv"
    wildcard_constraints:
        method=any_of(IN_BOTH_SPACES),
    priority: priority_of("measure_answers")
    threads: threads_of("measure_answers")
    resources:
        **resources_of("measure_answers"),
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policies {params.policies}"
        " --answers {params.answers} --samples {input.samples} --logprobs {output} > {log} 2>&1"


rule browse_rollouts:
    input:
        code=code("browse_rollouts"),
        samples=of_shown_runs(SHOWN, "samples"),
        grades=of_shown_runs(SHOWN, "grades"),
        logprobs=of_shown_runs(IN_BOTH_SPACES, "logprobs"),
        policy=lambda wildcards: base_manifest(SimpleNamespace(model=wildcards.model, seed=SHOWN_SEEDS[0])),
        questions=problems_of(BENCHMARKS),
    output:
        directory(f"{R}/page/rollouts/{{model}}"),
    params:
        settings=browse_settings,
    log:
        f"{R}/logs/browse_rollouts/{{model}}.log",
    benchmark:
        f"{R}/benchmarks/browse_rollouts/{{model}}.tsv"
    conda:
        "../envs/evaluate.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policy {input.policy}"
        " --questions {input.questions} --output {output} > {log} 2>&1"


rule page:
    input:
        code=code("page") + TEMPLATES,
        figures=expand(f"{R}/figures/{{target}}.{{suffix}}", target=FIGURES, suffix=["png", "csv", "json"]),
        tables=expand(f"{R}/tables/{{target}}.{{suffix}}", target=TABLES, suffix=["csv", "md"]),
        curves=CURVES,
        rollouts=expand(f"{R}/page/rollouts/{{model}}", model=SCALE["models"]),
        captions=expand("rules/captions/{target}.rst", target=[*FIGURES, *TABLES]),
        provenance=f"{R}/provenance.json",
        report=f"{R}/report.html",  # linked
        docs=["docs/claims.md", "docs/paper_map.md"],
    output:
        page=f"{R}/index.html",
        claims=f"{R}/paper_vs_ours.md",
        facts=f"{R}/page/page.json",
        training=directory(f"{R}/page/training"),
        rules=f"{R}/page/rules.dot",
    params:
        config=SAME_CONFIG,
        settings=publish_settings(CORE),
        block=lambda wildcards, output: settings(**SCALE),  # from `output`: not compared, so that it reruns nothing
        study=STUDY,
        results=lambda wildcards: R,
        beside=beside,
    log:
        f"{R}/logs/page/all.log",
    benchmark:
        f"{R}/benchmarks/page/all.tsv"
    shell:
        "snakemake {params.config} --nolock --rulegraph -- all > {output.rules} 2> {log}; "
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --results {params.results} --settings {params.settings:q}"
        " --block {params.block:q} --study {params.study:q} --curves {input.curves} --rules {output.rules} >> {log} 2>&1"


rule report:
    input:
        figures=expand(f"{R}/figures/{{target}}.png", target=FIGURES),
        tables=expand(f"{R}/tables/{{target}}.csv", target=TABLES),
        captions=expand("rules/captions/{target}.rst", target=[*FIGURES, *TABLES]),
    output:
        f"{R}/report.html",
    params:
        config=SAME_CONFIG,
    log:
        f"{R}/logs/report/all.log",
    benchmark:
        f"{R}/benchmarks/report/all.tsv"
    shell:
        "snakemake {params.config} --nolock --report {output} -- {input.figures} {input.tables} > {log} 2>&1"
