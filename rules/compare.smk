# Needs: tables, records of jobs, answers of others.  Makes: provenance.json, a comparison with another run, and one with
# others' answers, external/{file}.csv|.md.
localrules:
    collect_provenance,
    verify,


rule collect_provenance:
    input:
        expand(f"{R}/figures/{{target}}.png", target=FIGURES),
        expand(f"{R}/tables/{{target}}.csv", target=TABLES),
        code=code("collect_provenance"),
        logprobs=[path.format(model=model) for path in of_shown_runs(IN_BOTH_SPACES, "logprobs") for model in SCALE["models"]],
    output:
        f"{R}/provenance.json",
    params:
        settings=publish_settings(CORE, reads=["questions", "ood", "alignment", "logprobs"]),
        records=lambda wildcards: RECORDS,
    log:
        f"{R}/logs/collect_provenance/all.log",
    benchmark:
        f"{R}/benchmarks/collect_provenance/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
        " --records {params.records} --summary {output} > {log} 2>&1"


AGAINST = config.get("against")


def verified(wildcards):
    """What `verify` reads, if the command names a reference."""
    if AGAINST is None or not Path(str(AGAINST), "tables").is_dir():
        raise WorkflowError(
            f"verify: against={AGAINST}: name a folder that has tables/, as in "
            "`snakemake --cores 2 verify --config against=results/reference/miniature`"
        )
    return [f"{R}/provenance.json", *expand(f"{R}/tables/{{target}}.csv", target=TABLES)]


rule verify:
    input:
        verified,
    params:
        results=R,
        against=AGAINST,
        confidence=SCALE["statistics"]["confidence"],
    retries: 0  # the profile's would repeat it
    conda:
        "../envs/figures.yaml"
    shell:
        "python workflow_scripts/verify.py --results {params.results} --against {params.against:q}"
        " --confidence {params.confidence}"


def external_answers(wildcards):
    if "external" not in config:
        raise WorkflowError(
            "compare_external: name the file with the answers, `--config scale=... external=FILE`; docs/extending.md"
        )
    return config["external"]


def evaluated_runs(wildcards):
    """Questions tables of the models that there are: read as they stand, no input, so that nothing is trained for it."""
    tables = dict(zip(SCALE["models"], QUESTIONS))
    return settings(**{model: path for model, path in tables.items() if Path(path).is_file()})


rule compare_external:
    input:
        code=code("compare_external", "reward", "thoughts"),
        answers=external_answers,
        problems=problems_of(BENCHMARKS),
    output:
        csv=f"{R}/external/{EXTERNAL}.csv",
        md=f"{R}/external/{EXTERNAL}.md",
    params:
        settings=publish_settings(CORE, rules=SCALE["grading"] | functions("reward", "thoughts")),
        runs=evaluated_runs,
        # another evaluation is another comparison
        times=lambda wildcards: [Path(path).stat().st_mtime for path in QUESTIONS if Path(path).is_file()],
    log:
        f"{R}/logs/compare_external/{EXTERNAL}.log",
    benchmark:
        f"{R}/benchmarks/compare_external/{EXTERNAL}.tsv"
    threads: threads_of("grade_samples")
    resources:
        **resources_of("grade_samples"),
    conda:
        "../envs/evaluate.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS=1 python {input.code[0]} --settings {params.settings:q}"
        " --answers {input.answers:q} --problems {input.problems} --runs {params.runs:q} --csv {output.csv} --md {output.md} > {log} 2>&1"
