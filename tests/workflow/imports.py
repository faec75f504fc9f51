"""Which modules of workflow_scripts/prerl a script imports, directly or not, read from its syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


def direct_imports(file: Path) -> set[str]:
    """Names of prerl modules in the import statements of `file`, at any depth: {"files", "statistics"}."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.removeprefix("prerl.") for alias in node.names if alias.name.startswith("prerl.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "prerl":
            modules |= {alias.name for alias in node.names if (SCRIPTS / f"prerl/{alias.name}.py").is_file()}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("prerl."):
            modules.add(node.module.removeprefix("prerl."))
    return modules


def imported_modules(script: str) -> set[str]:
    """Names of all prerl modules that `workflow_scripts/{script}.py` imports, directly or through another."""
    found: set[str] = set()
    pending = direct_imports(SCRIPTS / f"{script}.py")
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending |= direct_imports(SCRIPTS / f"prerl/{module}.py")
    return found
