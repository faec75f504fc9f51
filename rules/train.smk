# Needs: base models, problems.  Makes: for each method and seed its metrics, validation and kept checkpoints. A method
# of several phases trains its last one; reincarnate_policy hands it the checkpoint of its parent, which trained the others.


localrules:
    release_checkpoints,
    release_state,


def start_manifest(wildcards):
    if METHODS[wildcards.method].parent is None:
        return base_manifest(wildcards)
    return f"{RUN}/start/manifest.json".format(**wildcards)


def train_settings(wildcards):
    """This method's last phase and the common settings: another method's phases change nothing here."""
    method = METHODS[wildcards.method]
    phase = method.phases[-1]
    objective = asdict(phase.settings)
    del objective["start"]  # reincarnate_policy's
    own_mean = objective.pop("token_mean")
    critic = {"critic": SCALE["critic"]} if phase.settings.estimator == "gae" else {}
    return settings(
        seed=int(wildcards.seed),
        phase={**objective, "first_update": phase.first_update, "last_update": phase.last_update},
        kept_updates=method.kept_updates,
        optimizer_updates=method.optimizer_updates,
        prompt=SCALE["prompt"],
        engine=engine(),
        sampling=sampling(SCALE["rollouts"]["max_new_tokens"]),
        samples_per_prompt=SCALE["rollouts"]["samples_per_prompt"],
        training=select(UpdateSettings, SCALE["training"]) | ({"token_mean": own_mean} if own_mean else {}),
        validation={
            "updates": scheduled_updates(SCALE["validation"]["schedule"], method),
            "samples_per_question": SCALE["validation"]["samples_per_question"],
            "sampling": sampling(SCALE["validation"]["max_new_tokens"]),
        },
        **critic,
        **functions("reward", "thoughts"),
    )


def tracker(wildcards, output):
    """Where the metrics also go. Params derived from `output` are not compared: it reruns nothing."""
    name = SCALE["training"]["tracker"]
    run = JOB.format(**wildcards)
    return json.dumps(None if name == "none" else {"name": name, "folder": f"{R}/tracking", "run": run})


rule train_policy:
    input:
        code=code("train_policy", "reward", "thoughts"),
        start=start_manifest,
        train=f"{R}/data/train.parquet",
        validation=problems_of(SCALE["validation"]["benchmarks"]),
    output:
        metrics=f"{RUN}/metrics.parquet",
        validation=f"{RUN}/validation.parquet",
        # lists the kept checkpoints beside it, which a user may delete after the evaluation
        checkpoints=f"{RUN}/checkpoints/manifest.json",
    params:
        settings=train_settings,
        memory=engine_memory("train_policy"),
        tracker=tracker,
        state=f"{R}/state/{{model}}/{{method}}/seed{{seed}}",  # resumable; no output, a failed job would lose it
        folder=RUN,
    log:
        f"{R}/logs/train_policy/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/train_policy/{JOB}.tsv"
    wildcard_constraints:
        method=any_of(METHODS),
    priority: priority_of("train_policy")
    threads: threads_of("train_policy")
    resources:
        **resources_of("train_policy"),
    conda:
        "../envs/train.yaml"
    shell:
        launcher("train_policy") + " {input.code[0]} --settings {params.settings:q} --code {input.code}"
        " --engine-memory {params.memory:q} --start {input.start} --train {input.train} --validation {input.validation}"
        # 3>&1: by Snakemake's output, which it so keeps open, show_progress.py finds the orphan of a killed run
        " --state {params.state} --tracker {params.tracker:q} --output {params.folder} 3>&1 > {log} 2>&1"


def parent_folder(wildcards):
    return f"{R}/{wildcards.model}/{METHODS[wildcards.method].parent}/seed{wildcards.seed}/checkpoints"


rule reincarnate_policy:
    input:
        code=code("reincarnate_policy"),
        checkpoints=lambda wildcards: f"{parent_folder(wildcards)}/manifest.json",
        base=base_manifest,
    output:
        f"{RUN}/start/manifest.json",
    params:
        settings=lambda wildcards: settings(
            update=METHODS[wildcards.method].parent_update,
            optimizer=METHODS[wildcards.method].phases[-1].settings.optimizer,
            start=METHODS[wildcards.method].phases[-1].settings.start,
            seed=int(wildcards.seed),
        ),
        checkpoint=lambda wildcards: "{}/update{:06d}/manifest.json".format(
            parent_folder(wildcards), METHODS[wildcards.method].parent_update
        ),
    log:
        f"{R}/logs/reincarnate_policy/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/reincarnate_policy/{JOB}.tsv"
    wildcard_constraints:
        method=any_of(name for name, method in METHODS.items() if method.parent),
    priority: priority_of("reincarnate_policy")
    threads: threads_of("reincarnate_policy")
    resources:
        **resources_of("reincarnate_policy"),
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
        " --checkpoint {params.checkpoint} --base {input.base} --start {output} > {log} 2>&1"


def readers(wildcards):
    """What is made from a run's checkpoints and state: once all of it is there, nothing reads them again."""
    core = with_parents(CORE)
    own = core if wildcards.method in core else METHODS  # what `all` trains waits for no baseline
    children = [name for name in own if METHODS[name].parent == wildcards.method]
    runs = [RUN.format(model=wildcards.model, method=name, seed=wildcards.seed) for name in [wildcards.method, *children]]
    made = [f"{run}/metrics.parquet" for run in runs]
    made += [f"{runs[0]}/samples.parquet"] if evaluated_updates(wildcards.method) else []
    made += [f"{runs[0]}/logprobs.parquet"] if wildcards.method in IN_BOTH_SPACES and int(wildcards.seed) in SHOWN_SEEDS else []
    return made + ([f"{runs[0]}/ood.parquet"] if OOD_TASKS and wildcards.method in CORE else [])


# A job cannot remove its own state: Snakemake repeats it where it was killed before Snakemake saw its end.
rule release_state:
    input:
        code=code("release_checkpoints"),
        published=f"{RUN}/checkpoints/manifest.json",
    output:
        f"{RUN}/checkpoints/state_released.json",
    params:
        run=lambda wildcards: RUN.format(**wildcards),
        state=f"{R}/state/{{model}}/{{method}}/seed{{seed}}",
    log:
        f"{R}/logs/release_state/{JOB}.log",
    wildcard_constraints:
        method=any_of(METHODS),
    priority: priority_of("release_state")
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --keep-checkpoints --run {params.run}"
        " --state {params.state} --released {output} > {log} 2>&1"


rule release_checkpoints:
    input:
        code=code("release_checkpoints"),
        readers=readers,
    output:
        f"{RUN}/checkpoints/released.json",
    params:
        run=RUN,
        state=[
            f"{R}/state/{{model}}/{{method}}/seed{{seed}}",
            f"{R}/state/samples/{{model}}/{{method}}/seed{{seed}}",
            f"{R}/state/ood/{{model}}/{{method}}/seed{{seed}}",
        ],
    log:
        f"{R}/logs/release_checkpoints/{JOB}.log",
    wildcard_constraints:
        method=any_of(METHODS),
    priority: priority_of("release_checkpoints")
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --run {params.run} --state {params.state} --released {output}"
        " > {log} 2>&1"


def released(methods, models=SCALE["models"], parts=("state_released", "released")):
    """Lists of what was removed of these runs, where the scale keeps no checkpoints."""
    if SCALE["training"]["keep_checkpoints"]:
        return []
    path = f"{RUN}/checkpoints/{{part}}.json"
    return expand(path, model=models, method=methods, seed=SCALE["seeds"], part=parts)
