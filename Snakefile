# From a base model to every figure and table of the PreRL/DSRL paper (arXiv 2604.14142), at the scale that config.yaml names.
#
#   snakemake --cores 2                     everything: figures, tables and report in results/{scale}
#   snakemake --cores 2 figure_thoughts     one target and what it needs
#   snakemake --cores 2 baselines           the paper's baselines beside GRPO and DSRL
#   snakemake --cores 2 headline            the base, GRPO and DSRL of the first model alone
#   snakemake --cores 2 more_seeds          seeds added until a claim's interval has a stated width
#   snakemake -n --config scale=paper       the plan of another scale
#   snakemake --cores 2 verify --config against=results/reference/miniature     does this run give what that one gave?
#
# Stages: prepare -> alignment, train -> evaluate -> publish (rules/*.smk, one script a rule in workflow_scripts/).

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


include: "rules/common.smk"


wildcard_constraints:
    model=any_of(SCALE["models"]),
    method=any_of([*METHODS, BASE]),
    seed=any_of([*SCALE["seeds"], *further_seeds(SCALE)]),


include: "rules/prepare.smk"
include: "rules/alignment.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/publish.smk"
include: "rules/page.smk"
include: "rules/requests.smk"
include: "rules/more_seeds.smk"
include: "rules/compare.smk"
include: "rules/preview.smk"


# Snakemake 9.27 with a rate limit, which it always has by default, looks for new jobs once a second for every job that has
# ended: with hundreds of them that takes a fifth of a core. On one machine there is no rate to limit.
onstart:
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


# the target of a plain `snakemake`
rule all:
    default_target: True
    input:
        expand(f"{R}/figures/{{target}}.{{suffix}}", target=FIGURES, suffix=["pdf", "png", "csv"]),
        expand(f"{R}/tables/{{target}}.{{suffix}}", target=TABLES, suffix=["csv", "md"]),
        f"{R}/index.html",
        f"{R}/report.html",
        f"{R}/provenance.json",
        released(with_parents(CORE)),


# What a dry run says of a job beside its GPUs, memory and time; nothing else reads these three. driver: the environment
# that Snakemake itself runs in.
for job_rule in workflow.rules:
    if job_rule.name not in ("all", "baselines", "controls", "diagnose", "headline", "map", "more_seeds"):
        job_rule.resources["cpus"] = threads_of(job_rule.name)
        job_rule.resources["engine"] = ENGINES.get(job_rule.name, "none")
        job_rule.resources["environment"] = f"envs/{Path(job_rule.conda_env).name}" if job_rule.conda_env else "driver"
