"""Runs the scripts of figures and tables on a synthetic study, as their rules do."""

import json
import runpy
import sys
import warnings
from pathlib import Path

import pytest

import synthetic
from prerl.publishing.inputs import FIGURE, TABLE

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
FIGURES = {
    "figure_alignment": ["alignment", "gradients", "tokens"],
    "figure_spaces": ["curves"],
    "figure_thoughts": ["questions"],
    "figure_warmup": ["questions"],
    "figure_passk": ["scores"],
    "figure_dynamics": ["curves"],
    "figure_efficiency": ["curves"],
    "figure_controls": ["questions", "scores", "curves"],
    "figure_map": ["questions", "curves"],
}
TABLES = {
    "table_main": ["questions", "contrasts", "curves"],
    "table_warmup_space": ["questions", "contrasts", "curves"],
    "table_ood": ["ood", "contrasts"],
    "table_alignment": ["alignment", "gradients"],
    "table_efficiency": ["curves"],
    "table_claims": ["questions", "scores", "curves", "ood", "gradients"],
    "table_controls": ["questions", "scores", "curves"],
    "table_map": ["questions", "curves"],
}
TARGETS = FIGURES | TABLES


def arguments(target: str, study: synthetic.Study, folder: Path) -> tuple[list[str], tuple[Path, ...]]:
    """Command-line arguments of one publish script, and its files."""
    kinds = FIGURE if target in FIGURES else TABLE
    outputs = tuple(folder / f"{target}.{kind}" for kind in kinds)
    given = ["--settings", json.dumps(study.config)]
    for flag in TARGETS[target]:
        own = "ood-contrasts" if (target, flag) == ("table_ood", "contrasts") else flag
        given += [f"--{flag}", *map(str, study.files[own])]
    for kind, output in zip(kinds, outputs, strict=True):
        given += [f"--{kind}", str(output)]
    return given, outputs


def run(target: str, study: synthetic.Study, folder: Path) -> tuple[Path, ...]:
    """Run one publish script in this process (a warning is an error); returns its files."""
    script = str(SCRIPTS / f"{target}.py")
    given, outputs = arguments(target, study, folder)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(sys, "argv", [script, *given])
        runpy.run_path(script, run_name="__main__")
    return outputs
