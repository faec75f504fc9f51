"""The examples in the library's docstrings, `>>>`, say what the code says."""

import doctest
import importlib
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "workflow_scripts"
MODULES = [path for path in sorted(LIBRARY.rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_in_docstrings(path):
    module = importlib.import_module(".".join(path.relative_to(LIBRARY).with_suffix("").parts))
    examples = doctest.testmod(module)
    assert examples.attempted and not examples.failed
