# Needs: nothing.  Makes: nothing. They print what to know before the first job: its cost, and what is wrong.
from snakemake.settings.types import DeploymentMethod


localrules:
    budget,
    preflight,


def preview_settings():
    """What both need: the scale, and the current command, of which they make a dry run."""
    arguments = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    return settings(
        scale=config["scale"],
        configfiles=list(map(str, workflow.configfiles)),
        arguments=[argument for argument in arguments if argument not in ("budget", "preflight")],
        cores=workflow.cores,
        jobs=None if workflow.local_exec else workflow.nodes,  # most jobs in the queue
        submitted=[rule.name for rule in workflow.rules if not workflow.is_local(rule)],
        builds_environments=DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method,
    )


rule budget:
    params:
        settings=lambda wildcards: preview_settings(),
    retries: 0  # the profile's would repeat it
    shell:
        "python workflow_scripts/budget.py --settings {params.settings:q}"


rule preflight:
    params:
        settings=lambda wildcards: preview_settings(),
    retries: 0  # the profile's would repeat it
    shell:
        "python workflow_scripts/preflight.py --settings {params.settings:q}"
