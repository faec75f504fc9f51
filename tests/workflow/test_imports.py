"""Who may import whom: the packages of the library are floors of a house, and no import leads up or in a circle."""

import subprocess
import sys
from pathlib import Path

import pytest

from prerl.planning.code_lists import SCRIPTS, direct_imports, imported_files

LIBRARY = SCRIPTS / "prerl"
BELOW = {  # package -> those that it may import beside itself
    "core": set(),
    "config": {"core"},
    "objectives": {"core", "config"},
    "models": {"core", "config", "objectives"},
    "rollouts": {"core", "config", "objectives", "models"},
    "training": {"core", "config", "objectives", "models", "rollouts"},
    "data": {"core", "config", "objectives", "models", "rollouts"},
    "evaluation": {"core", "config", "objectives", "models", "rollouts"},
    "publishing": {"core", "config", "evaluation", "rollouts"},
    "planning": {"core", "config"},
}
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")


def package(file: Path) -> str:
    return file.relative_to(LIBRARY).parts[0]


def test_every_module_stands_in_a_package():
    assert {package(file) for file in MODULES} == set(BELOW)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(LIBRARY)))
def test_a_module_imports_its_own_floor_and_those_below(file):
    up = {package(other) for other in direct_imports(file)} - BELOW[package(file)] - {package(file)}
    assert not up, f"{file.relative_to(LIBRARY)} imports {up}"


def test_no_module_imports_itself_through_others():
    assert [file for file in MODULES if file in imported_files(file)] == []


@pytest.mark.parametrize("name", ["config", "planning", "publishing"])
def test_a_package_that_snakemake_or_a_figure_reads_imports_no_torch(name):
    names = [f"prerl.{name}.{file.stem}" for file in MODULES if package(file) == name]
    start = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})"
    program = f"{start}\nimport {', '.join(names)}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
