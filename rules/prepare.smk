# Needs: nothing but settings (miniature), the network (paper: pinned by revision and sha256) or files of the user's.
# Makes: the base models, results/{scale}/data/{set}.parquet.
localrules:
    download_model,
    import_model,
    download_data,
    download_ood,
    prepare_data,
    prepare_own_data,


IMPORTED = ("package", "folder")  # sources of models that are neither trained here nor on the hub


def trained_here(corpus):
    """Regular expression of the models that are trained on such a corpus, `corpus` or `search`."""
    return any_of(name for name, model in SCALE["models"].items() if corpus in model.get("generated", {}))


rule pretrain_miniature_model:
    input:
        code=code("pretrain_miniature_model"),
    output:
        f"{BASE_RUN}/model/manifest.json",
    params:
        settings=lambda wildcards: settings(
            seed=int(wildcards.seed), **SCALE["models"][wildcards.model]["generated"]
        ),
    log:
        f"{R}/logs/pretrain_miniature_model/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/pretrain_miniature_model/{{model}}_seed{{seed}}.tsv"
    wildcard_constraints:
        model=trained_here("corpus"),
    threads: threads_of("pretrain_miniature_model")
    resources:
        **resources_of("pretrain_miniature_model"),
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --manifest {output}"
        " > {log} 2>&1"


use rule pretrain_miniature_model as pretrain_search_model with:
    input:
        code=code("pretrain_search_model"),
    log:
        f"{R}/logs/pretrain_search_model/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/pretrain_search_model/{{model}}_seed{{seed}}.tsv"
    wildcard_constraints:
        model=trained_here("search"),


rule prepare_miniature_data:
    input:
        code=code("prepare_miniature_data"),
    output:
        f"{R}/data/{{set}}.parquet",
    params:
        settings=lambda wildcards: settings(
            seed=SCALE["data"]["seed"],
            set=wildcards.set,
            **(PROBLEM_SETS[wildcards.set].get("generated") or PROBLEM_SETS[wildcards.set]["sums"]),
        ),
    log:
        f"{R}/logs/prepare_miniature_data/{{set}}.log",
    benchmark:
        f"{R}/benchmarks/prepare_miniature_data/{{set}}.tsv"
    wildcard_constraints:
        set=any_of(sets_of("generated", "sums")),
    priority: priority_of("prepare_miniature_data")
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --problems {output}"
        " > {log} 2>&1"


rule download_model:
    output:
        f"{R}/{{model}}/{BASE}/model/manifest.json",
    params:
        # As in download_data: the revision alone reruns this job, not its code, nor what only a check of the model reads.
        revision=lambda wildcards: SCALE["models"][wildcards.model]["hub"]["revision"],
        settings=lambda wildcards, output: settings(
            model=wildcards.model,
            repository=SCALE["models"][wildcards.model]["hub"]["repository"],
            architecture=SCALE["models"][wildcards.model]["architecture"],
            prompt=SCALE["prompt"],
            max_new_tokens=longest_answer(),
        ),
        state=f"{R}/state/downloads/{{model}}",  # what arrived; no output, a failed job would lose it
    log:
        f"{R}/logs/download_model/{{model}}.log",
    benchmark:
        f"{R}/benchmarks/download_model/{{model}}.tsv"
    wildcard_constraints:
        model=any_of(name for name, model in SCALE["models"].items() if "hub" in model),
    priority: priority_of("download_model")
    shell:
        "PRERL_LOG={log} HF_HUB_OFFLINE=$USERS_HF_HUB_OFFLINE HF_HUB_DISABLE_TELEMETRY=1 python workflow_scripts/download_model.py"
        " --revision {params.revision} --settings {params.settings:q} --state {params.state} --manifest {output} > {log} 2>&1"


def model_files(wildcards):
    """Files of a model folder of the user's: a new one reruns the job."""
    if (folder := SCALE["models"][wildcards.model].get("folder")) is None:
        return []
    if not Path(folder).is_dir():
        raise WorkflowError(f"models.{wildcards.model}.folder: {folder} is not a folder (from {Path.cwd()}); correct it")
    return sorted(str(path) for path in Path(folder).iterdir() if path.suffix in (".safetensors", ".json", ".jinja"))


rule import_model:
    input:
        model_files,
    output:
        f"{R}/{{model}}/{BASE}/model/manifest.json",
    params:
        source=lambda wildcards: settings(
            **{key: SCALE["models"][wildcards.model][key] for key in IMPORTED if key in SCALE["models"][wildcards.model]}
        ),
        settings=lambda wildcards, output: settings(  # what only a check reads; see download_model
            model=wildcards.model,
            architecture=SCALE["models"][wildcards.model]["architecture"],
            prompt=SCALE["prompt"],
            max_new_tokens=longest_answer(),
        ),
        state=f"{R}/state/downloads/{{model}}",  # what arrived; no output, a failed job would lose it
    log:
        f"{R}/logs/import_model/{{model}}.log",
    benchmark:
        f"{R}/benchmarks/import_model/{{model}}.tsv"
    wildcard_constraints:
        model=any_of(name for name, model in SCALE["models"].items() if set(IMPORTED) & set(model)),
    priority: priority_of("import_model")
    shell:
        "PRERL_LOG={log} python workflow_scripts/import_model.py --source {params.source:q} --settings {params.settings:q}"
        " --state {params.state} --manifest {output} > {log} 2>&1"


rule download_data:
    output:
        f"{R}/downloads/{{set}}",
    params:
        # The sha256 alone decides what the file holds, so it alone reruns this job and what follows: the script is no
        # input, and Snakemake compares no params that are derived from `output`.
        sha256=lambda wildcards: PROBLEM_SETS[wildcards.set]["file"]["sha256"],
        source=lambda wildcards, output: settings(
            mirror=SCALE["data"]["mirror"],
            **{key: PROBLEM_SETS[wildcards.set]["file"][key] for key in ("url", "name")},
        ),
        state=f"{R}/state/downloads",  # partial files; no output, a failed job would lose them
    log:
        f"{R}/logs/download_data/{{set}}.log",
    benchmark:
        f"{R}/benchmarks/download_data/{{set}}.tsv"
    wildcard_constraints:
        set=any_of(sets_of("file")),
    priority: priority_of("download_data")
    shell:
        "PRERL_LOG={log} python workflow_scripts/download_data.py --source {params.source:q} --sha256 {params.sha256}"
        " --state {params.state} --file {output} > {log} 2>&1"


rule download_ood:
    input:
        code=code("download_ood"),
    output:
        f"{R}/downloads/ood/{{task}}/manifest.json",
    params:
        settings=lambda wildcards: settings(**SCALE["ood"]["tasks"][wildcards.task]["dataset"]),
        state=f"{R}/state/ood_data",  # partial files; no output, a failed job would lose them
    log:
        f"{R}/logs/download_ood/{{task}}.log",
    benchmark:
        f"{R}/benchmarks/download_ood/{{task}}.tsv"
    wildcard_constraints:
        task=any_of(name for name, task in SCALE["ood"]["tasks"].items() if "dataset" in task),
    priority: priority_of("download_ood")
    shell:
        "PRERL_LOG={log} HF_HUB_OFFLINE=${{USERS_HF_HUB_OFFLINE:-}} HF_HUB_DISABLE_TELEMETRY=1 python {input.code[0]}"
        " --settings {params.settings:q} --state {params.state} --manifest {output} > {log} 2>&1"


rule prepare_data:
    input:
        code=code("prepare_data"),
        file=f"{R}/downloads/{{set}}",
    output:
        f"{R}/data/{{set}}.parquet",
    params:
        settings=lambda wildcards: settings(
            set=wildcards.set,
            system=SCALE["prompt"]["system"],
            **{key: PROBLEM_SETS[wildcards.set]["file"][key] for key in ("format", "name", "questions")},
            levels=PROBLEM_SETS[wildcards.set]["file"].get("levels"),
        ),
    log:
        f"{R}/logs/prepare_data/{{set}}.log",
    benchmark:
        f"{R}/benchmarks/prepare_data/{{set}}.tsv"
    wildcard_constraints:
        set=any_of(sets_of("file")),
    priority: priority_of("prepare_data")
    shell:
        "PRERL_LOG={log} python {input.code[0]} --settings {params.settings:q} --file {input.file} --problems {output} > {log} 2>&1"


rule prepare_own_data:
    input:
        code=code("prepare_own_data"),
        files=lambda wildcards: files_in(PROBLEM_SETS[wildcards.set]["own"]["path"]),
    output:
        problems=f"{R}/data/{{set}}.parquet",
        manifest=f"{R}/data/{{set}}.json",  # what was read, with its sha256
    params:
        settings=lambda wildcards: settings(
            set=wildcards.set,
            **PROBLEM_SETS[wildcards.set]["own"]["columns"],
            **{key: PROBLEM_SETS[wildcards.set]["own"].get(key) for key in ("questions", "sha256")},
        ),
        path=lambda wildcards: PROBLEM_SETS[wildcards.set]["own"]["path"],
    log:
        f"{R}/logs/prepare_own_data/{{set}}.log",
    benchmark:
        f"{R}/benchmarks/prepare_own_data/{{set}}.tsv"
    wildcard_constraints:
        set=any_of(sets_of("own")),
    priority: priority_of("prepare_own_data")
    shell:
        "PRERL_LOG={log} python {input.code[0]} --settings {params.settings:q} --path {params.path:q}"
        " --problems {output.problems} --manifest {output.manifest} > {log} 2>&1"
