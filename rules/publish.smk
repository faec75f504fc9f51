# Needs: questions, scores, contrasts and curves of each model, alignment of each base.
# Makes: results/{scale}/figures/{target}.pdf|.png, tables/{target}.csv|.md and report.html. Each target is a rule
# without wildcards, so `snakemake --cores 2 figure_thoughts` draws one.
localrules:
    report,


QUESTIONS = expand(f"{R}/{{model}}/questions.parquet", model=SCALE["models"])
SCORES = expand(f"{R}/{{model}}/scores.parquet", model=SCALE["models"])
CONTRASTS = expand(f"{R}/{{model}}/contrasts.parquet", model=SCALE["models"])
CURVES = expand(f"{R}/{{model}}/curves.parquet", model=SCALE["models"])
OOD = expand(f"{R}/{{model}}/ood.parquet", model=SCALE["models"])
OOD_CONTRASTS = expand(f"{R}/{{model}}/ood_contrasts.parquet", model=SCALE["models"])
BASES = [{"model": model, "seed": seed} for model in SCALE["models"] for seed in SCALE["seeds"]]
ALIGNMENT = [f"{BASE_RUN}/alignment.parquet".format(**base) for base in BASES]
ALIGNMENT_TOKENS = [f"{BASE_RUN}/alignment_tokens.parquet".format(**base) for base in BASES]


def publish_settings():
    """What a reader of figures and tables is told of the runs; the same for every target."""
    validation = SCALE["validation"]
    warmup_method = SCALE["warmup_sweep"]["method"]
    return settings(
        scale=config["scale"],
        models=list(SCALE["models"]),
        seeds=SCALE["seeds"],
        alignment=BASES,
        methods={
            name: {
                "parent": method.parent,
                "first_update": method.first_update,
                "last_update": method.last_update,
                "phases": [
                    {
                        "space": phase.settings.space,
                        "samples": phase.settings.samples,
                        "updates": phase.last_update - phase.first_update + 1,
                    }
                    for phase in method.phases
                ],
            }
            for name, method in METHODS.items()
        },
        main_benchmarks=benchmarks_of("main"),
        ood_benchmarks=benchmarks_of("ood"),
        ood_sets={name: "Hendrycks" for name in benchmarks_of("ood")}
        | {name: f"{task['task']}: {task['metric']}, {task['filter']}" for name, task in OOD_TASKS.items()},
        ood_left_out=OOD_LEFT_OUT,
        validation_benchmarks=validation["benchmarks"],
        warmup={"method": warmup_method, "s_values": warmup_values(SCALE, METHODS)},
        samples=SCALE["evaluation"]["samples_per_question"],
        confidence=SCALE["statistics"]["confidence"],
        bootstrap=SCALE["statistics"],
        updates=SCALE["training"]["total_updates"],
        reference_updates=SCALE["evaluation"]["reference_updates"],
        switch_update=METHODS[warmup_method].parent_update,
        validation_answers=sum(questions_of(PROBLEM_SETS[name]) for name in validation["benchmarks"])
        * validation["samples_per_question"],
        prompts_per_update=SCALE["training"]["prompts_per_update"],
    )


def study_text():
    """The numbers behind figures and tables in one paragraph, which every caption shows (reStructuredText)."""

    def sets(names):
        return ", ".join(f"``{name}`` ({questions_of(PROBLEM_SETS[name])} questions)" for name in names)

    sets_of_harness = ", ".join(f"``{name}`` ({task['questions']} questions)" for name, task in OOD_TASKS.items())
    seeds, ood, validation, alignment = SCALE["seeds"], benchmarks_of("ood"), SCALE["validation"], SCALE["alignment"]
    sentences = [
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))})",
        f"Evaluation: {SCALE['evaluation']['samples_per_question']} answers to each question of {sets(benchmarks_of('main'))}"
        + (f"; out of distribution: {sets(ood)}" if ood else "")
        + (f"; one answer to each question of {sets_of_harness}" if OOD_TASKS else ""),
        f"Validation: {validation['samples_per_question']} answers to each question of {sets(validation['benchmarks'])}",
        f"Alignment: {alignment['questions']} questions of ``{alignment['benchmark']}``, "
        f"{alignment['rollouts_per_question']} rollouts each",
        f"Training: {SCALE['training']['prompts_per_update']} prompts an update, "
        f"{SCALE['rollouts']['samples_per_prompt']} samples each",
        "All counts are those of one policy of one seed",
    ]
    return ". ".join(sentences) + "."


PUBLISH_SETTINGS = publish_settings()
STUDY = study_text()


rule figure_alignment:
    input:
        code=code("figure_alignment"),
        alignment=ALIGNMENT,
        tokens=ALIGNMENT_TOKENS,
    output:
        pdf=f"{R}/figures/figure_alignment.pdf",
        png=report(f"{R}/figures/figure_alignment.png", caption="captions/figure_alignment.rst", category="Figures"),
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/figure_alignment/all.log",
    benchmark:
        f"{R}/benchmarks/figure_alignment/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --alignment"
        " {input.alignment} --alignment-tokens {input.tokens} --pdf {output.pdf} --png {output.png} > {log}"
        " 2>&1"


rule figure_spaces:
    input:
        code=code("figure_spaces"),
        curves=CURVES,
    output:
        pdf=f"{R}/figures/figure_spaces.pdf",
        png=report(f"{R}/figures/figure_spaces.png", caption="captions/figure_spaces.rst", category="Figures"),
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/figure_spaces/all.log",
    benchmark:
        f"{R}/benchmarks/figure_spaces/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --curves"
        " {input.curves} --pdf {output.pdf} --png {output.png} > {log} 2>&1"


rule figure_thoughts:
    input:
        code=code("figure_thoughts"),
        questions=QUESTIONS,
    output:
        pdf=f"{R}/figures/figure_thoughts.pdf",
        png=report(f"{R}/figures/figure_thoughts.png", caption="captions/figure_thoughts.rst", category="Figures"),
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/figure_thoughts/all.log",
    benchmark:
        f"{R}/benchmarks/figure_thoughts/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --questions"
        " {input.questions} --pdf {output.pdf} --png {output.png} > {log} 2>&1"


rule figure_warmup:
    input:
        code=code("figure_warmup"),
        questions=QUESTIONS,
    output:
        pdf=f"{R}/figures/figure_warmup.pdf",
        png=report(f"{R}/figures/figure_warmup.png", caption="captions/figure_warmup.rst", category="Figures"),
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/figure_warmup/all.log",
    benchmark:
        f"{R}/benchmarks/figure_warmup/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --questions"
        " {input.questions} --pdf {output.pdf} --png {output.png} > {log} 2>&1"


rule figure_passk:
    input:
        code=code("figure_passk"),
        scores=SCORES,
    output:
        pdf=f"{R}/figures/figure_passk.pdf",
        png=report(f"{R}/figures/figure_passk.png", caption="captions/figure_passk.rst", category="Figures"),
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/figure_passk/all.log",
    benchmark:
        f"{R}/benchmarks/figure_passk/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --scores"
        " {input.scores} --pdf {output.pdf} --png {output.png} > {log} 2>&1"


rule figure_dynamics:
    input:
        code=code("figure_dynamics"),
        curves=CURVES,
    output:
        pdf=f"{R}/figures/figure_dynamics.pdf",
        png=report(f"{R}/figures/figure_dynamics.png", caption="captions/figure_dynamics.rst", category="Figures"),
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/figure_dynamics/all.log",
    benchmark:
        f"{R}/benchmarks/figure_dynamics/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --curves"
        " {input.curves} --pdf {output.pdf} --png {output.png} > {log} 2>&1"


rule figure_efficiency:
    input:
        code=code("figure_efficiency"),
        curves=CURVES,
    output:
        pdf=f"{R}/figures/figure_efficiency.pdf",
        png=report(f"{R}/figures/figure_efficiency.png", caption="captions/figure_efficiency.rst", category="Figures"),
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/figure_efficiency/all.log",
    benchmark:
        f"{R}/benchmarks/figure_efficiency/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --curves"
        " {input.curves} --pdf {output.pdf} --png {output.png} > {log} 2>&1"


rule table_main:
    input:
        code=code("table_main"),
        questions=QUESTIONS,
        contrasts=CONTRASTS,
    output:
        csv=report(f"{R}/tables/table_main.csv", caption="captions/table_main.rst", category="Tables"),
        md=f"{R}/tables/table_main.md",
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/table_main/all.log",
    benchmark:
        f"{R}/benchmarks/table_main/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --questions"
        " {input.questions} --contrasts {input.contrasts} --csv {output.csv} --md {output.md} > {log} 2>&1"


rule table_warmup_space:
    input:
        code=code("table_warmup_space"),
        questions=QUESTIONS,
        contrasts=CONTRASTS,
    output:
        csv=report(f"{R}/tables/table_warmup_space.csv", caption="captions/table_warmup_space.rst", category="Tables"),
        md=f"{R}/tables/table_warmup_space.md",
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/table_warmup_space/all.log",
    benchmark:
        f"{R}/benchmarks/table_warmup_space/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --questions"
        " {input.questions} --contrasts {input.contrasts} --csv {output.csv} --md {output.md} > {log} 2>&1"


rule table_ood:
    input:
        code=code("table_ood"),
        ood=OOD,
        contrasts=OOD_CONTRASTS,
    output:
        csv=report(f"{R}/tables/table_ood.csv", caption="captions/table_ood.rst", category="Tables"),
        md=f"{R}/tables/table_ood.md",
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/table_ood/all.log",
    benchmark:
        f"{R}/benchmarks/table_ood/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --ood"
        " {input.ood} --contrasts {input.contrasts} --csv {output.csv} --md {output.md} > {log} 2>&1"


rule table_claims:
    input:
        code=code("table_claims"),
        questions=QUESTIONS,
        scores=SCORES,
        curves=CURVES,
        ood=OOD,
        alignment=ALIGNMENT,
    output:
        csv=report(f"{R}/tables/table_claims.csv", caption="captions/table_claims.rst", category="Tables"),
        md=f"{R}/tables/table_claims.md",
    params:
        settings=PUBLISH_SETTINGS,
        study=STUDY,  # for the caption
    log:
        f"{R}/logs/table_claims/all.log",
    benchmark:
        f"{R}/benchmarks/table_claims/all.tsv"
    conda:
        "../envs/figures.yaml"
    shell:
        "OMP_NUM_THREADS={threads} python {input.code[0]} --settings {params.settings:q} --questions"
        " {input.questions} --scores {input.scores} --curves {input.curves} --ood {input.ood}"
        " --alignment {input.alignment} --csv {output.csv} --md {output.md} > {log} 2>&1"


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
