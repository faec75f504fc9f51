"""`snakemake --lint` has nothing to say but what is explained here."""

import re

import pytest

from checkouts import snakemake

MIXED = "Mixed rules and functions in same snakefile."
"""A stage's rules and the functions that make their params stand in one file: apart, a reader would need two."""
CONDA = "Specify a conda environment or container for each rule."
IN_THE_DRIVER = {
    "download_model", "import_model", "download_data", "download_ood",  # need the network
    "prepare_data", "prepare_own_data",  # need little
    "page", "report", "budget", "preflight",  # read the whole run, or run snakemake itself
}  # fmt: skip
"""Local rules that run in the driver's environment (requirements.txt), which pins what they need."""
LOG = "No log directive defined"  # of the previews, which answer the user on the terminal


PREVIEWS = ("budget", "preflight", "verify")


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_lint_has_nothing_unexplained(checkout, scale):
    said = snakemake(checkout, "--lint", "--config", f"scale={scale}").stdout
    parts = re.findall(r"^Lints for (snakefile|rule) (\S+).*:\n((?:(?!Lints for).*\n?)*)", said, re.M)
    lints = {(kind, name, lint) for kind, name, text in parts for lint in re.findall(r"^    \* (.*):$", text, re.M)}
    explained = {("rule", rule, CONDA) for rule in IN_THE_DRIVER} | {("rule", rule, LOG) for rule in PREVIEWS}
    assert {lint for lint in lints if lint not in explained and (lint[0], lint[2]) != ("snakefile", MIXED)} == set()
    assert explained & lints and any(lint == MIXED for *_, lint in lints), "an exception that is none any more"
