"""The code lists of rules/common.smk are what the scripts really import, and each rule has its script."""

import ast
import re

import pytest
from imports import SCRIPTS, imported_modules

RULES = SCRIPTS.parent / "rules"
PREVIEWS = {"budget", "preflight"}  # rules that make nothing
RUNNERS = {
    "show_progress",
    "launch_ranks",
    "plan_memory",
    *PREVIEWS,
}  # run snakemake or a job's script, answer a person


def written_lists() -> dict[str, list[str]]:
    for node in ast.parse((RULES / "common.smk").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES":
            return ast.literal_eval(node.value)
    raise AssertionError("rules/common.smk has no MODULES")


@pytest.mark.parametrize("script", sorted(written_lists()))
def test_code_list_is_the_real_imports(script):
    assert written_lists()[script] == sorted(imported_modules(script))


def test_each_script_is_a_rule_of_its_name():
    rules = {name for file in RULES.glob("*.smk") for name in re.findall(r"^ *rule (\w+):", file.read_text(), re.M)}
    scripts = {file.stem for file in SCRIPTS.glob("*.py")} - RUNNERS
    assert rules - {"report"} - PREVIEWS == scripts == set(written_lists())


def test_recursion_reaches_what_only_a_module_imports():
    assert "objectives" in imported_modules("train_policy")
    assert "torch" not in imported_modules("train_policy")
