# Needs: base models, problems.  Makes: rollouts of each base and, a row per rollout, comparison and group of weights, how
# well the gradients of log P(y|x) and log P(y) align (results/{scale}/{model}/base/seed{n}/alignment/{benchmark}/); what
# training would start from (diagnosis.parquet).
ALIGNED = SCALE["alignment"]["benchmarks"]
ALIGNMENT_PROMPT = {key: value for key, value in SCALE["prompt"].items() if key != "examples"}  # x is the problem alone
ALIGNMENT_FOLDER = f"{BASE_RUN}/alignment/{{benchmark}}"
ALIGNMENT_JOB = "{model}_seed{seed}_{benchmark}"
MEASURED = ("alignment", "gradients", "tokens")  # a row a rollout, a row a comparison and group of weights, a row a token


rule sample_rollouts:
    input:
        code=code("sample_rollouts"),
        policy=base_manifest,
        questions=f"{R}/data/{{benchmark}}.parquet",
    output:
        f"{ALIGNMENT_FOLDER}/rollouts.parquet",
    params:
        settings=lambda wildcards: settings(
            seed=int(wildcards.seed),
            benchmark=wildcards.benchmark,
            questions=ALIGNED[wildcards.benchmark]["questions"],
            rollouts_per_question=ALIGNED[wildcards.benchmark]["rollouts_per_question"],
            engine=engine(),
            prompt=ALIGNMENT_PROMPT,
            sampling=sampling(SCALE["alignment"]["max_new_tokens"]),
        ),
        memory=engine_memory("sample_rollouts"),
    log:
        f"{R}/logs/sample_rollouts/{ALIGNMENT_JOB}.log",
    benchmark:
        f"{R}/benchmarks/sample_rollouts/{ALIGNMENT_JOB}.tsv"
    wildcard_constraints:
        benchmark=any_of(ALIGNED),
    threads: threads_of("sample_rollouts")
    resources:
        **resources_of("sample_rollouts"),
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policy {input.policy}"
        " --engine-memory {params.memory:q} --questions {input.questions} --rollouts {output} > {log} 2>&1"


rule measure_gradient_alignment:
    input:
        code=code("measure_gradient_alignment"),
        policy=base_manifest,
        rollouts=f"{ALIGNMENT_FOLDER}/rollouts.parquet",
        questions=f"{R}/data/{{benchmark}}.parquet",
    output:
        **{name: f"{ALIGNMENT_FOLDER}/{{job}}_of_{{jobs}}/{name}.parquet" for name in MEASURED},
    params:
        settings=lambda wildcards: settings(
            benchmark=wildcards.benchmark,
            prompt=ALIGNMENT_PROMPT,
            temperature=SCALE["rollouts"]["temperature"],
            other_problems=SCALE["alignment"]["other_problems"],
            job=int(wildcards.job) - 1,
            jobs=int(wildcards.jobs),
        ),
    log:
        f"{R}/logs/measure_gradient_alignment/{ALIGNMENT_JOB}_{{job}}_of_{{jobs}}.log",
    benchmark:
        f"{R}/benchmarks/measure_gradient_alignment/{ALIGNMENT_JOB}_{{job}}_of_{{jobs}}.tsv"
    wildcard_constraints:
        benchmark=any_of(ALIGNED),
        job=r"\d+",
        jobs=r"\d+",
    threads: threads_of("measure_gradient_alignment")
    resources:
        **resources_of("measure_gradient_alignment"),
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policy {input.policy}"
        " --rollouts {input.rollouts} --questions {input.questions} --alignment {output.alignment}"
        " --gradients {output.gradients} --tokens {output.tokens} > {log} 2>&1"


rule gather_alignment:
    input:
        code=code("gather_alignment"),
        parts=lambda wildcards: [
            f"{ALIGNMENT_FOLDER}/{job + 1}_of_{jobs}/{name}.parquet".format(**wildcards)
            for jobs in [ALIGNED[wildcards.benchmark]["jobs"]]
            for job in range(jobs)
            for name in MEASURED
        ],
    output:
        [f"{ALIGNMENT_FOLDER}/{name}.parquet" for name in MEASURED],
    log:
        f"{R}/logs/gather_alignment/{ALIGNMENT_JOB}.log",
    benchmark:
        f"{R}/benchmarks/gather_alignment/{ALIGNMENT_JOB}.tsv"
    wildcard_constraints:
        benchmark=any_of(ALIGNED),
    conda:
        "../envs/figures.yaml"
    shell:
        "PRERL_LOG={log} python {input.code[0]} --parts {input.parts} --tables {output} > {log} 2>&1"


rule diagnose_base_model:
    input:
        code=code("diagnose_base_model", "reward", "thoughts"),
        policy=base_manifest,
        questions=f"{R}/data/train.parquet",
    output:
        f"{BASE_RUN}/diagnosis.parquet",
    params:
        settings=lambda wildcards: settings(
            seed=int(wildcards.seed),
            questions=4 * SCALE["training"]["prompts_per_update"],  # as many as four updates ask
            samples=SCALE["rollouts"]["samples_per_prompt"],
            engine=engine(),
            prompt=SCALE["prompt"],
            sampling=sampling(SCALE["rollouts"]["max_new_tokens"]),
            **functions("reward", "thoughts"),
        ),
        memory=engine_memory("sample_rollouts"),
    log:
        f"{R}/logs/diagnose_base_model/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/diagnose_base_model/{{model}}_seed{{seed}}.tsv"
    threads: threads_of("sample_rollouts")
    resources:
        **resources_of("sample_rollouts"),
    conda:
        "../envs/train.yaml"
    shell:
        "PRERL_LOG={log} OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q}"
        " --policy {input.policy} --engine-memory {params.memory:q} --questions {input.questions}"
        " --diagnosis {output} > {log} 2>&1"
