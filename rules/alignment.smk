# Needs: base models, problems.  Makes: rollouts of each base and, one row per rollout, how well the gradients of
# log P(y|x) and log P(y) align (results/{scale}/{model}/base/seed{n}/alignment*.parquet).


rule sample_rollouts:
    input:
        code=code("sample_rollouts"),
        policy=base_manifest,
        questions=f"{R}/data/{SCALE['alignment']['benchmark']}.parquet",
    output:
        f"{BASE_RUN}/rollouts.parquet",
    params:
        settings=lambda wildcards: settings(
            seed=int(wildcards.seed),
            benchmark=SCALE["alignment"]["benchmark"],
            questions=SCALE["alignment"]["questions"],
            rollouts_per_question=SCALE["alignment"]["rollouts_per_question"],
            engine=engine(),
            prompt=SCALE["prompt"],
            sampling=sampling(SCALE["rollouts"]["max_new_tokens"]),
        ),
        memory=engine_memory("sample_rollouts"),
    log:
        f"{R}/logs/sample_rollouts/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/sample_rollouts/{{model}}_seed{{seed}}.tsv"
    threads: threads_of("sample_rollouts")
    resources:
        **resources_of("sample_rollouts"),
    conda:
        "../envs/train.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policy {input.policy}"
        " --engine-memory {params.memory:q} --questions {input.questions} --rollouts {output} > {log} 2>&1"


rule measure_gradient_alignment:
    input:
        code=code("measure_gradient_alignment"),
        policy=base_manifest,
        rollouts=f"{BASE_RUN}/rollouts.parquet",
        questions=f"{R}/data/{SCALE['alignment']['benchmark']}.parquet",
    output:
        alignment=f"{BASE_RUN}/alignment.parquet",
        tokens=f"{BASE_RUN}/alignment_tokens.parquet",
    params:
        settings=lambda wildcards: settings(
            seed=int(wildcards.seed),
            benchmark=SCALE["alignment"]["benchmark"],
            prompt=SCALE["prompt"],
            temperature=SCALE["rollouts"]["temperature"],
        ),
    log:
        f"{R}/logs/measure_gradient_alignment/{{model}}_seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/measure_gradient_alignment/{{model}}_seed{{seed}}.tsv"
    threads: threads_of("measure_gradient_alignment")
    resources:
        **resources_of("measure_gradient_alignment"),
    conda:
        "../envs/train.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --policy {input.policy}"
        " --rollouts {input.rollouts} --questions {input.questions} --alignment {output.alignment}"
        " --tokens {output.tokens} > {log} 2>&1"
