# Needs: figures and tables on request.  Makes: the targets that `all` leaves out.
localrules:
    baselines,
    controls,
    diagnose,
    map,
    headline,


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
