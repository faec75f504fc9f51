# Needs: kept checkpoints, base models, problems, data sets of the harness.  Makes: for each method and seed its answers
# (never changed once sampled), their grades and thoughts; for each model the questions, scores, contrasts and curves
# that figures and tables read, out of distribution in separate files.
localrules:
    aggregate_scores,
    aggregate_baselines,
    aggregate_controls,
    aggregate_headline,
    aggregate_ood,


HEADLINE = [name for name in ("grpo", "dsrl") if name in METHODS]
# rule -> folder of its tables in that of the model, the methods in them, the runs whose answers are
AGGREGATES = {
    "aggregate_scores": ("", CORE, with_parents(CORE)),
    "aggregate_baselines": ("baselines/", *[whole(with_parents([*BASELINES, *HEADLINE]))] * 2),
    "aggregate_headline": ("headline/", HEADLINE, HEADLINE),
    "aggregate_controls": ("controls/", whole(with_parents([*CORE, *CONTROLS])), with_parents([*CORE, *CONTROLS])),
}


def trained(wildcards):
    """What must exist before sampling: the base model, or the list of the method's kept checkpoints."""
    if wildcards.method == BASE:
        return base_manifest(wildcards)
    return f"{RUN}/checkpoints/manifest.json".format(**wildcards)


def policies(wildcards):
    """Manifests of the policies to evaluate, in the order of evaluated_updates."""
    if wildcards.method == BASE:
        return [base_manifest(wildcards)]
    folder = f"{RUN}/checkpoints".format(**wildcards)
    return [f"{folder}/update{update:06d}/manifest.json" for update in evaluated_updates(wildcards.method)]


def evaluated_updates(method):
    return [0] if method == BASE else list(METHODS[method].evaluated_updates)


rule generate_samples:
    input:
        code=code("generate_samples"),
        checkpoints=trained,
        questions=problems_of(BENCHMARKS),
    output:
        f"{RUN}/samples.parquet",
    params:
        settings=lambda wildcards: settings(
            seed=int(wildcards.seed),
            updates=evaluated_updates(wildcards.method),
            samples_per_question=SCALE["evaluation"]["samples_per_question"],
            engine=engine(),
            prompt=SCALE["prompt"],
            sampling=sampling(SCALE["evaluation"]["max_new_tokens"]),
        ),
        memory=engine_memory("generate_samples"),
        policies=policies,
        state=f"{R}/state/samples/{{model}}/{{method}}/seed{{seed}}",
    log:
        f"{R}/logs/generate_samples/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/generate_samples/{JOB}.tsv"
    priority: priority_of("generate_samples")
    threads: threads_of("generate_samples")
    resources:
        **resources_of("generate_samples"),
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policies {params.policies}"
        " --engine-memory {params.memory:q} --questions {input.questions} --state {params.state} --samples {output}"
        " > {log} 2>&1"


if OOD_LEFT_OUT and workflow.is_main_process:
    logger.info(
        f"Left out, since they run code that the model writes: {', '.join(OOD_LEFT_OUT)}. `ood.run_generated_code: true` "
        "in the scale includes them (docs/extending.md, \"Generated code\")."
    )


def ood_data(wildcards):
    """One for each task: the manifest of its data set, or the user's folder."""
    return [
        task["folder"] if "folder" in task else f"{R}/downloads/ood/{name}/manifest.json"
        for name, task in OOD_TASKS.items()
    ]


def ood_folder_files(wildcards):
    """Files of tasks that a user brings, so that an edit reruns."""
    return [file for task in OOD_TASKS.values() if "folder" in task for file in files_in(task["folder"])]


rule evaluate_ood:
    input:
        code=code("evaluate_ood"),
        checkpoints=trained,
        downloads=lambda wildcards: [path for path in ood_data(wildcards) if Path(path).name == "manifest.json"],
        user_tasks=ood_folder_files,
    output:
        f"{RUN}/ood.parquet",
    params:
        settings=lambda wildcards: settings(
            seed=int(wildcards.seed),
            update=evaluated_updates(wildcards.method)[-1],
            enable_thinking=SCALE["prompt"]["enable_thinking"],
            generation=SCALE["ood"]["generation"],
            run_generated_code=SCALE["ood"]["run_generated_code"],
            tasks=OOD_TASKS,
        ),
        memory=engine_memory("evaluate_ood"),
        policy=lambda wildcards: policies(wildcards)[-1],
        data=ood_data,
        state=f"{R}/state/ood/{{model}}/{{method}}/seed{{seed}}",
    log:
        f"{R}/logs/evaluate_ood/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/evaluate_ood/{JOB}.tsv"
    priority: priority_of("evaluate_ood")
    threads: threads_of("evaluate_ood")
    resources:
        **resources_of("evaluate_ood"),
    conda:
        "../envs/ood.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policy {params.policy}"
        " --engine-memory {params.memory:q} --data {params.data} --state {params.state} --answers {output}"
        " > {log} 2>&1"


rule grade_samples:
    input:
        code=code("grade_samples", "reward"),
        samples=f"{RUN}/samples.parquet",
        questions=problems_of(BENCHMARKS),
    output:
        f"{RUN}/grades.parquet",
    params:
        settings=settings(**SCALE["grading"], **functions("reward")),
    log:
        f"{R}/logs/grade_samples/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/grade_samples/{JOB}.tsv"
    threads: threads_of("grade_samples")
    resources:
        **resources_of("grade_samples"),
    conda:
        "../envs/evaluate.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS=1 python {input.code[0]} --settings {params.settings:q} --samples {input.samples}"
        " --questions {input.questions} --grades {output} > {log} 2>&1"


rule count_thoughts:
    input:
        code=code("count_thoughts", "thoughts"),
        samples=f"{RUN}/samples.parquet",
        policy=base_manifest,  # the tokenizer beside it
    output:
        f"{RUN}/thoughts.parquet",
    params:
        settings=settings(**functions("thoughts")),
    log:
        f"{R}/logs/count_thoughts/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/count_thoughts/{JOB}.tsv"
    threads: threads_of("count_thoughts")
    resources:
        **resources_of("count_thoughts"),
    conda:
        "../envs/evaluate.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
        " --samples {input.samples} --policy {input.policy} --thoughts {output} > {log} 2>&1"


def each_run(methods, *names, seeds=SCALE["seeds"]):
    """[{method, seed, name: path …}] of a model's runs, paths with the wildcard {model} left open."""
    return [
        {"method": method, "seed": seed}
        | {name: f"{R}/{{model}}/{method}/seed{seed}/{name}.parquet" for name in names}
        for method in methods
        for seed in seeds
    ]


def answered_runs(runs, *names, seeds=SCALE["seeds"]):
    """each_run of the base and of those runs that have answers."""
    return each_run([BASE, *(run for run in runs if evaluated_updates(run))], *names, seeds=seeds)


def aggregate_settings(model, methods, answered, seeds=SCALE["seeds"]):
    """methods: in the tables; answered: the runs whose answers are. The curves need the runs that they continue."""

    def spans(runs):
        return {
            name: {
                "parent": METHODS[name].parent,
                "first_update": METHODS[name].first_update,
                "last_update": METHODS[name].last_update,
            }
            for name in runs
        }

    def of_model(runs):
        return [
            {key: value.format(model=model) if isinstance(value, str) else value for key, value in run.items()}
            for run in runs
        ]

    return settings(
        bootstrap=SCALE["statistics"],
        benchmarks=BENCHMARKS,
        main_benchmarks=benchmarks_of("main"),
        validation_benchmarks=SCALE["validation"]["benchmarks"],
        seeds=seeds,
        samples_per_question=SCALE["evaluation"]["samples_per_question"],
        methods=spans(methods),
        parts=spans(name for name in with_parents(methods) if name not in methods),
        evaluations=[
            run | {"method": whole_of(run["method"]), "updates": evaluated_updates(run["method"])}
            for run in of_model(answered_runs(answered, "grades", "thoughts", seeds=seeds))
        ],
        histories=of_model(each_run(with_parents(methods), "metrics", "validation", seeds=seeds)),
    )


for aggregate, (folder, members, answered) in AGGREGATES.items():

    rule:
        name:
            aggregate
        input:
            code=code("aggregate_scores"),
            grades=[run["grades"] for run in answered_runs(answered, "grades")],
            thoughts=[run["thoughts"] for run in answered_runs(answered, "thoughts")],
            metrics=[run["metrics"] for run in each_run(with_parents(members), "metrics")],
            validation=[run["validation"] for run in each_run(with_parents(members), "validation")],
        output:
            questions=f"{R}/{{model}}/{folder}questions.parquet",
            scores=f"{R}/{{model}}/{folder}scores.parquet",
            contrasts=f"{R}/{{model}}/{folder}contrasts.parquet",
            curves=f"{R}/{{model}}/{folder}curves.parquet",
        params:
            settings=lambda wildcards, rule_members=members, rule_answered=answered: aggregate_settings(
                wildcards.model, rule_members, rule_answered
            ),
        log:
            f"{R}/logs/{aggregate}/{{model}}.log",
        benchmark:
            f"{R}/benchmarks/{aggregate}/{{model}}.tsv"
        threads: threads_of("aggregate_scores")
        resources:
            **resources_of("aggregate_scores"),
        conda:
            "../envs/evaluate.yaml"
        shell:
            # one string for all: Snakemake evaluates it again when the job runs, long after the loop
            "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
            " --questions {output.questions} --scores {output.scores} --contrasts {output.contrasts}"
            " --curves {output.curves} > {log} 2>&1"


OOD_RUNS = [
    {"method": method, "seed": seed, "update": evaluated_updates(method)[-1]}
    | {"answers": f"{R}/{{model}}/{method}/seed{seed}/ood.parquet"}
    for method in [BASE, *CORE]
    for seed in SCALE["seeds"]
    if OOD_TASKS
]


rule aggregate_ood:
    input:
        code=code("aggregate_ood"),
        questions=f"{R}/{{model}}/questions.parquet",
        answers=[run["answers"] for run in OOD_RUNS],
    output:
        answers=f"{R}/{{model}}/ood.parquet",
        contrasts=f"{R}/{{model}}/ood_contrasts.parquet",
    params:
        settings=lambda wildcards: settings(
            bootstrap=SCALE["statistics"],
            seeds=SCALE["seeds"],
            methods={name: {"last_update": METHODS[name].last_update} for name in CORE},
            ood_benchmarks=benchmarks_of("ood"),
            tasks={name: task["questions"] for name, task in OOD_TASKS.items()},
            runs=[run | {"answers": run["answers"].format(**wildcards)} for run in OOD_RUNS],
        ),
    log:
        f"{R}/logs/aggregate_ood/{{model}}.log",
    benchmark:
        f"{R}/benchmarks/aggregate_ood/{{model}}.tsv"
    threads: threads_of("aggregate_ood")
    resources:
        **resources_of("aggregate_ood"),
    conda:
        "../envs/evaluate.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --questions {input.questions}"
        " --answers {output.answers} --contrasts {output.contrasts} > {log} 2>&1"
