"""The code lists of the rules are what the scripts import, and each rule has its script."""

import ast
import re
import subprocess
import sys

import pytest

from checkouts import ROOT, snakemake
from prerl.planning.code_lists import SCRIPTS, code_files

PREVIEWS = {"budget", "preflight", "verify"}  # rules that make nothing
RUNNERS = {"show_progress", "watch", "launch_ranks", *PREVIEWS}  # run snakemake or a job's script
JOBS = sorted({file.stem for file in SCRIPTS.glob("*.py")} - RUNNERS)


def modules(script: str) -> set[str]:
    return {file.removeprefix("workflow_scripts/prerl/").removesuffix(".py") for file in code_files(script)[1:]}


def test_each_script_is_a_rule_of_its_name(checkout):
    listed = snakemake(checkout, "--list-rules").stdout.splitlines()
    rules = {line for line in listed if re.fullmatch(r"\w+", line)}
    of_other_scripts = {"all", "report", "baselines", "aggregate_baselines", "table_baselines"}
    of_other_scripts |= {"more_seeds", "aggregate_more_seeds"}
    of_other_scripts |= {"controls", "aggregate_controls", "map", "diagnose"}
    of_other_scripts |= {"headline", "aggregate_headline", "table_headline", "release_state"}
    assert sorted(rules - of_other_scripts - PREVIEWS) == JOBS


@pytest.mark.parametrize("script", ["train_policy", "grade_samples", "table_claims"])
def test_a_code_list_holds_what_python_loads(script):
    program = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import {script}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    names = {
        name.removeprefix("prerl.").replace(".", "/") for name in loaded if name.count(".") == 2 and "prerl." in name
    }
    assert names <= modules(script)


def test_a_module_of_one_stage_is_in_the_code_of_that_stage_alone():
    holders = {
        module: {script for script in JOBS if module in modules(script)}
        for module in ("training/trainer", "evaluation/gradient_alignment", "evaluation/grading", "publishing/plotting")
    }
    assert holders["training/trainer"] == {"train_policy"}
    assert holders["evaluation/gradient_alignment"] == {"measure_gradient_alignment"}
    assert holders["evaluation/grading"] == {"grade_samples", "compare_external"}
    assert holders["publishing/plotting"] == {script for script in JOBS if script.startswith("figure_")}
    assert "objectives/advantages" in modules("train_policy")


def test_a_reward_brings_its_file_and_modules_to_the_jobs_that_call_it(tmp_path):
    """An edit of the second grader retrains where it is the reward, and nowhere else."""
    grader = "workflow_scripts/prerl/evaluation/grading.py"
    assert grader in code_files("train_policy", ["math_verify"]) and grader not in code_files("train_policy", ["boxed"])
    own = tmp_path / "mine.py"
    own.write_text(
        "import json\nfrom prerl.evaluation.grading import verify_boxed\n\ndef score(text, answer, row): ...\n"
    )
    files = code_files("grade_samples", [f"{own}:score"])
    assert files[0] == "workflow_scripts/grade_samples.py" and (ROOT / files[1]).resolve() == own and grader in files
    assert len(files) == len(set(files))


def test_a_package_is_a_docstring():
    for file in (SCRIPTS / "prerl").rglob("__init__.py"):
        (statement,) = ast.parse(file.read_text(encoding="utf-8")).body
        assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant), file
