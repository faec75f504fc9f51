# Needs: questions, scores, contrasts and curves of each model, alignment of each base.
# Makes: results/{scale}/figures/{target}.pdf|.png|.csv|.json, tables/{target}.csv|.md, the page (index.html, page/,
# paper_vs_ours.md) and report.html, and on request the table of answers of others, external/{file}.csv|.md. Each target
# is a rule without wildcards, so `snakemake --cores 2 figure_thoughts` draws one. A new one needs a line below, a script
# and a caption.
from types import SimpleNamespace

from prerl.publishing.labels import label


localrules:
    page,
    report,
    collect_provenance,
    verify,


QUESTIONS = expand(f"{R}/{{model}}/questions.parquet", model=SCALE["models"])
SCORES = expand(f"{R}/{{model}}/scores.parquet", model=SCALE["models"])
CONTRASTS = expand(f"{R}/{{model}}/contrasts.parquet", model=SCALE["models"])
CURVES = expand(f"{R}/{{model}}/curves.parquet", model=SCALE["models"])
OOD = expand(f"{R}/{{model}}/ood.parquet", model=SCALE["models"])
OOD_CONTRASTS = expand(f"{R}/{{model}}/ood_contrasts.parquet", model=SCALE["models"])
ALIGNMENT_RUNS = [
    {"model": model, "seed": seed, "benchmark": benchmark}
    for model in SCALE["models"]
    for seed in SCALE["seeds"]
    for benchmark in ALIGNED
]
ALIGNMENT, GRADIENTS, ALIGNMENT_TOKENS = (
    [f"{BASE_RUN}/alignment/{{benchmark}}/{name}.parquet".format(**run) for run in ALIGNMENT_RUNS]
    for name in ("alignment", "gradients", "tokens")
)


def publish_settings(methods, seeds=SCALE["seeds"], models=list(SCALE["models"]), **further):
    """What a reader of figures and tables learns about the runs of these methods and seeds."""
    validation = SCALE["validation"]
    warmup_method = SCALE["warmup_sweep"]["method"]
    return settings(
        scale=config["scale"],
        reading=SCALE.get("reading"),
        verdicts=SCALE["verdicts"],
        models=models,
        seeds=seeds,
        alignment=ALIGNMENT_RUNS,
        bases=BASES,
        runs=with_parents(methods),  # what was trained for them
        methods={
            name: {
                **{key: value for key, value in SCALE["methods"].get(name, {}).items() if key != "phases"},  # its look
                "parent": METHODS[name].parent,
                "first_update": METHODS[name].first_update,
                "last_update": METHODS[name].last_update,
                "phases": [
                    {
                        "space": phase.settings.space,
                        "samples": phase.settings.samples,
                        "updates": phase.last_update - phase.first_update + 1,
                    }
                    for phase in METHODS[name].stages
                ],
            }
            for name in methods
        },
        main_benchmarks=benchmarks_of("main"),
        ood_benchmarks=benchmarks_of("ood"),
        ood_sets={name: "Hendrycks" for name in benchmarks_of("ood")}
        | {name: f"{task['task']}: {task['metric']}, {task['filter']}" for name, task in OOD_TASKS.items()},
        ood_left_out=OOD_LEFT_OUT,
        validation_benchmarks=validation["benchmarks"],
        warmup={"method": warmup_method, "s_values": warmup_values(SCALE, METHODS)},
        samples_per_question=SCALE["evaluation"]["samples_per_question"],
        confidence=SCALE["statistics"]["confidence"],
        bootstrap=SCALE["statistics"],
        updates=SCALE["training"]["total_updates"],
        reference_updates=SCALE["evaluation"]["reference_updates"],
        switch_update=METHODS[warmup_method].parent_update,
        validation_answers=sum(questions_of(PROBLEM_SETS[name]) for name in validation["benchmarks"])
        * validation["samples_per_question"],
        prompts_per_update=SCALE["training"]["prompts_per_update"],
        controls=SCALE.get("controls", {}),
        regimes=REGIMES,
        shapes={name: asdict(shape_of(model)) for name, model in SCALE["models"].items()},
        **further,
    )


# how the organisms of a scale differ, for the target `map`
REGIMES = {
    name: {"under_prompt": corpus["careful_if_no_thinking"], "alone": corpus["careful_if_alone"]}
    for name, model in SCALE["models"].items()
    if (corpus := model.get("generated", {}).get("corpus"))
}


def study_text():
    """The numbers behind figures and tables in one paragraph, shown by every caption (reStructuredText)."""

    def sets(names):
        return ", ".join(f"``{name}`` ({questions_of(PROBLEM_SETS[name])} questions)" for name in names)

    sets_of_harness = ", ".join(f"``{name}`` ({task['questions']} questions)" for name, task in OOD_TASKS.items())
    seeds, ood, validation = SCALE["seeds"], benchmarks_of("ood"), SCALE["validation"]
    aligned = (
        f"{rollouts['questions']} questions of ``{name}``, {rollouts['rollouts_per_question']} rollouts each"
        for name, rollouts in ALIGNED.items()
    )
    sentences = [
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))})",
        f"Evaluation: {SCALE['evaluation']['samples_per_question']} answers to each question of {sets(benchmarks_of('main'))}"
        + (f"; out of distribution: {sets(ood)}" if ood else "")
        + (f"; one answer to each question of {sets_of_harness}" if OOD_TASKS else ""),
        f"Validation: {validation['samples_per_question']} answers to each question of {sets(validation['benchmarks'])}",
        f"Alignment: {'; '.join(aligned)}",
        f"Training: {SCALE['training']['prompts_per_update']} prompts an update, "
        f"{SCALE['rollouts']['samples_per_prompt']} samples each",
        "All counts are those of one policy of one seed",
    ]
    return ". ".join(sentences) + "."


STUDY = study_text()


FIGURES = {  # target -> its inputs
    "figure_alignment": {"alignment": ALIGNMENT, "gradients": GRADIENTS, "tokens": ALIGNMENT_TOKENS},
    "figure_spaces": {"curves": CURVES},
    "figure_thoughts": {"questions": QUESTIONS},
    "figure_warmup": {"questions": QUESTIONS},
    "figure_passk": {"scores": SCORES},
    "figure_dynamics": {"curves": CURVES},
    "figure_efficiency": {"curves": CURVES},
}
TABLES = {
    "table_main": {"questions": QUESTIONS, "contrasts": CONTRASTS, "curves": CURVES},
    "table_warmup_space": {"questions": QUESTIONS, "contrasts": CONTRASTS, "curves": CURVES},
    "table_ood": {"ood": OOD, "contrasts": OOD_CONTRASTS},
    "table_alignment": {"alignment": ALIGNMENT, "gradients": GRADIENTS},
    "table_efficiency": {"curves": CURVES},
    "table_claims": {"questions": QUESTIONS, "scores": SCORES, "curves": CURVES, "ood": OOD, "gradients": GRADIENTS},
}


STYLE = ["workflow_scripts/prerl/publishing/figures.mplstyle"]  # how figures look


def tables_of(aggregate, *names, models=SCALE["models"]):
    """The tables that a rule of AGGREGATES makes, of each model."""
    folder = AGGREGATES[aggregate][0]
    return {name: expand(f"{R}/{{model}}/{folder}{name}.parquet", model=models) for name in names}


# of the targets `baselines` and, of the first model alone, `headline`, by the script of the main table, `controls`, and `map`
MAIN = ("questions", "contrasts", "curves")
FIRST_MODEL = list(SCALE["models"])[:1]
BASELINE_TABLES = {"table_baselines": tables_of("aggregate_baselines", *MAIN)}
HEADLINE_TABLES = {"table_headline": tables_of("aggregate_headline", *MAIN, models=FIRST_MODEL)}
CONTROL_TABLES = {"table_controls": tables_of("aggregate_controls", "questions", "scores", "curves")}
CONTROL_FIGURES = {"figure_controls": CONTROL_TABLES["table_controls"]}
MAP_TABLES = {"table_map": {"questions": QUESTIONS, "curves": CURVES}}
MAP_FIGURES = {"figure_map": MAP_TABLES["table_map"]}
BASES = [{"model": model, "seed": seed} for model in SCALE["models"] for seed in SCALE["seeds"]]
DIAGNOSIS = {"table_diagnosis": {"diagnosis": [f"{BASE_RUN}/diagnosis.parquet".format(**base) for base in BASES]}}
ON_REQUEST = {**DIAGNOSIS, **BASELINE_TABLES, **HEADLINE_TABLES, **CONTROL_FIGURES, **CONTROL_TABLES}
ON_REQUEST |= {**MAP_FIGURES, **MAP_TABLES}
METHODS_OF = {  # target -> what its settings tell of; the others: CORE
    **dict.fromkeys(BASELINE_TABLES, AGGREGATES["aggregate_baselines"][1]),
    **dict.fromkeys(HEADLINE_TABLES, HEADLINE),
    **dict.fromkeys([*CONTROL_TABLES, *CONTROL_FIGURES], AGGREGATES["aggregate_controls"][1]),
}


def published(target):
    """Files of a target by suffix; the report shows the one that a browser can."""
    if target.startswith("figure"):
        folder, suffixes, shown = "figures", "pdf png csv json", "png"
    else:
        folder, suffixes, shown = "tables", "csv md", "csv"
    files = {suffix: f"{R}/{folder}/{target}.{suffix}" for suffix in suffixes.split()}
    caption = f"captions/{target}.rst"
    return files | {shown: report(files[shown], caption=caption, category=folder.capitalize())}


def file_options(wildcards, input, output):
    """An option of the script for each named input but its code, and for each output."""
    named = {name: files for name, files in [*input.items(), *output.items()] if name != "code"}
    listed = {name: [files] if isinstance(files, str) else files for name, files in named.items()}
    return " ".join(f"--{name.replace('_', '-')} {' '.join(files)}" for name, files in listed.items())


# Each target is a rule of its name: workflow_scripts/{target}.py makes it, rules/captions/{target}.rst describes it.
for target, inputs in {**FIGURES, **TABLES, **ON_REQUEST}.items():

    rule:
        name:
            target
        input:
            code=code("table_main" if target in {**BASELINE_TABLES, **HEADLINE_TABLES} else target)
            + (STYLE if target.startswith("figure") else []),
            **inputs,
        output:
            **published(target),
        params:
            settings=publish_settings(
                METHODS_OF.get(target, CORE), models=FIRST_MODEL if target in HEADLINE_TABLES else list(SCALE["models"])
            ),
            study=STUDY,  # for the caption
            files=file_options,
            records=RECORDS,
        log:
            f"{R}/logs/{target}/all.log",
        benchmark:
            f"{R}/benchmarks/{target}/all.tsv"
        conda:
            "../envs/figures.yaml"
        shell:
            # one string for all: Snakemake evaluates it again when the job runs, long after the loop
            "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} {params.files}"
            " --provenance {params.records} > {log} 2>&1"


rule collect_provenance:
    input:
        expand(f"{R}/figures/{{target}}.png", target=FIGURES),
        expand(f"{R}/tables/{{target}}.csv", target=TABLES),
        code=code("collect_provenance"),
    output:
        f"{R}/provenance.json",
    params:
        settings=publish_settings(CORE),
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


ALIGNMENT_SHOWN = ("rollouts", "alignment", "tokens")  # its answers have log P(y) beside log P(y|x)
SHOWN_SEEDS = SCALE["seeds"][: SCALE["page"]["seeds"]]
TEMPLATES = sorted(str(file) for file in Path("workflow_scripts/prerl/publishing/template").iterdir())


def of_shown_runs(methods, name):
    """Files {name}.parquet of these methods and the seeds on the page, with the wildcard {model} left open."""
    return [run[name] for run in each_run(methods, name) if run["seed"] in SHOWN_SEEDS]


def browse_settings(wildcards):
    """The runs whose answers the page holds, with their files."""

    def of_model(run):
        return {key: value.format(**wildcards) if isinstance(value, str) else value for key, value in run.items()}

    look = json.loads(publish_settings(CORE))
    runs = [of_model(run) for run in each_run([BASE, *CORE], "samples", "grades") if run["seed"] in SHOWN_SEEDS]
    return settings(
        model=wildcards.model,
        answers=SCALE["page"]["answers_per_question"],
        runs=[
            run
            | {
                "label": label(look, run["method"]),
                "updates": evaluated_updates(run["method"]),
                "main": run["method"] in (BASE, "nsr_prerl", "grpo", "dsrl"),
            }
            for run in runs
        ],
        alignment=[
            run | {name: f"{ALIGNMENT_FOLDER}/{name}.parquet".format(**run) for name in ALIGNMENT_SHOWN}
            for run in ALIGNMENT_RUNS
            if run["model"] == wildcards.model and run["seed"] in SHOWN_SEEDS
        ],
    )


rule browse_rollouts:
    input:
        code=code("browse_rollouts"),
        samples=of_shown_runs([BASE, *CORE], "samples"),
        grades=of_shown_runs([BASE, *CORE], "grades"),
        alignment=[
            f"{ALIGNMENT_FOLDER.replace('{seed}', str(seed)).replace('{benchmark}', benchmark)}/{name}.parquet"
            for seed in SHOWN_SEEDS
            for benchmark in ALIGNED
            for name in ALIGNMENT_SHOWN
        ],
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
    params:
        settings=publish_settings(CORE),
        block=lambda wildcards, output: settings(**SCALE),  # from `output`: not compared, so that it reruns nothing
        study=STUDY,
        results=lambda wildcards: R,
    log:
        f"{R}/logs/page/all.log",
    benchmark:
        f"{R}/benchmarks/page/all.tsv"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --results {params.results} --settings {params.settings:q}"
        " --block {params.block:q} --study {params.study:q} --curves {input.curves} > {log} 2>&1"


rule report:
    input:
        figures=expand(f"{R}/figures/{{target}}.png", target=FIGURES),
        tables=expand(f"{R}/tables/{{target}}.csv", target=TABLES),
        captions=expand("rules/captions/{target}.rst", target=[*FIGURES, *TABLES]),
    output:
        f"{R}/report.html",
    params:
        # the same configuration for the snakemake inside; --nolock because the one outside holds the lock
        config=f"--configfile {' '.join(map(str, workflow.configfiles))} --config scale={config['scale']}",
    log:
        f"{R}/logs/report/all.log",
    benchmark:
        f"{R}/benchmarks/report/all.tsv"
    shell:
        "snakemake {params.config} --nolock --report {output} -- {input.figures} {input.tables} > {log} 2>&1"


def tables_on_request(kind, methods, targets):
    """Input function of the targets `baselines` and `controls`."""

    def files(wildcards):
        if not methods:
            raise WorkflowError(f"scale {config['scale']} has no {kind}: give a method `target: {kind}`")
        return [file for target in targets for file in published(target).values()] + released(methods)

    return files


def tables_of_map(wildcards):
    if len({tuple(shares.values()) for shares in REGIMES.values()}) < 2:
        raise WorkflowError(f"scale {config['scale']} has no map: its organisms do not differ; --config scale=map has one")
    return [file for target in [*MAP_FIGURES, *MAP_TABLES] for file in published(target).values()]


localrules:
    baselines,
    controls,
    diagnose,
    map,
    headline,


rule baselines:
    input:
        tables_on_request("baselines", BASELINES, BASELINE_TABLES),


rule controls:
    input:
        tables_on_request("controls", CONTROLS, [*CONTROL_FIGURES, *CONTROL_TABLES]),


rule map:
    input:
        tables_of_map,


rule diagnose:
    input:
        list(published("table_diagnosis").values()),


# base, GRPO and DSRL of the first model: the paper's main result, for the fewest GPU-hours
rule headline:
    input:
        list(published("table_headline").values()),
        released(with_parents(HEADLINE), FIRST_MODEL, ["state_released"]),  # other targets may read the checkpoints


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
