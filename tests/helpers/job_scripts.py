"""Run a job's script by its path, as a rule does."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


def run(script, *arguments):
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def succeed(script, *arguments):
    result = run(script, *arguments)
    assert result.returncode == 0, result.stderr
    return result


def fail(match, script, *arguments):
    """The script ends with an error whose last line holds `match`, and leaves no output and no temporary file."""
    result = run(script, *arguments)
    assert result.returncode != 0
    assert match in result.stderr.strip().splitlines()[-1]
    output = Path(arguments[-1])
    assert not list(output.parent.glob(f"*{output.name}*"))
