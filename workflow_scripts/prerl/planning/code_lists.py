"""The code of a job: its script and every library module that it imports, read from the syntax trees.

Snakemake does not see a script's imports, so rules take these files as inputs: an edit reruns the job, a touch does
not. The packages' __init__.py hold only a docstring (tested), so they are left out.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from prerl.config.functions import file_of

SCRIPTS = Path(__file__).parents[2]


@cache
def direct_imports(file: Path) -> frozenset[Path]:
    """Library files named in the import statements of `file`, also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (SCRIPTS / f"{name.replace('.', '/')}.py" for name in names if name.startswith("prerl."))
    return frozenset(file for file in files if file.is_file())


@cache
def imported_files(file: Path) -> frozenset[Path]:
    """Library files that `file` imports, directly or indirectly."""
    found: set[Path] = set()
    pending = set(direct_imports(file))
    while pending:
        module = pending.pop()
        found.add(module)
        pending |= direct_imports(module) - found
    return frozenset(found)


def code_files(script: str, functions: Sequence[str] = ()) -> list[str]:
    """`workflow_scripts/{script}.py`, then its modules in alphabetical order, as paths from the project's root.

    functions: rewards and thought rules of the job (prerl.config.functions); their files and modules too.
    """
    scripts = [SCRIPTS / f"{script}.py"]
    scripts += [located[0].absolute() for function in functions if (located := file_of(function, SCRIPTS))]
    modules = {module for file in scripts for module in imported_files(file)}
    return [os.path.relpath(file, SCRIPTS.parent) for file in [*scripts, *sorted(modules - {*scripts})]]
