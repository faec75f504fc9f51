# Needs: questions, scores, contrasts and curves of each model, alignment of each base.
# Makes: results/{scale}/figures/{target}.pdf|.png|.csv|.json and tables/{target}.csv|.md. Each target is a rule without
# wildcards, so `snakemake --cores 2 figure_thoughts` draws one. A new one needs a line below, a script and a caption.
from prerl.publishing.provenance import MODELS, PROBLEMS


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


# what is read -> rules whose jobs are done before it is there, and the problem sets that these read
BEHIND = (
    (
        {"questions", "scores", "contrasts", "curves"},
        ["train_policy", "reincarnate_policy", "generate_samples", "grade_samples", "count_thoughts"],
        ["train", *BENCHMARKS, *SCALE["validation"]["benchmarks"]],
    ),
    ({"logprobs"}, ["measure_answers"], []),
    ({"ood"}, ["evaluate_ood"], []),
    ({"alignment", "gradients", "tokens"}, ["sample_rollouts", "measure_gradient_alignment"], list(ALIGNED)),
    ({"diagnosis"}, ["diagnose_base_model"], ["train"]),
)


def behind(reads):
    """Rules and problem sets behind a target that reads these inputs, for its provenance."""
    kinds = [(rules, sets) for names, rules, sets in BEHIND if names & set(reads)]
    return {
        "rules": [*MODELS, *PROBLEMS, *(rule for rules, _ in kinds for rule in rules)],
        "sets": sorted({name for _, sets in kinds for name in sets}),
    }


def publish_settings(methods, seeds=SCALE["seeds"], models=list(SCALE["models"]), reads=(), answered=None, **further):
    """What a reader of figures and tables learns about the runs of these methods and seeds.

    reads: see behind. answered: the runs whose answers are behind them, by default all.
    """
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
        behind=behind(reads) | {"answered": with_parents(methods) if answered is None else answered},
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
AGGREGATE_OF = {  # target -> the rule whose tables it reads; the others: aggregate_scores
    **dict.fromkeys(BASELINE_TABLES, "aggregate_baselines"),
    **dict.fromkeys(HEADLINE_TABLES, "aggregate_headline"),
    **dict.fromkeys([*CONTROL_TABLES, *CONTROL_FIGURES], "aggregate_controls"),
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
                AGGREGATES[AGGREGATE_OF.get(target, "aggregate_scores")][1],
                answered=AGGREGATES[AGGREGATE_OF.get(target, "aggregate_scores")][2],
                models=FIRST_MODEL if target in HEADLINE_TABLES else list(SCALE["models"]),
                reads=list(inputs),
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
