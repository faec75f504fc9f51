"""A `conda` that knows what `snakemake --sdm conda` (9.27) asks for, by py-rattler: for machines that reach no channel.

`python conda_shim.py install FOLDER CHANNELS` writes FOLDER/bin/conda and FOLDER/bin/activate, to be first on the path;
channel NAME of an environment then is the folder CHANNELS/NAME (conda_channel.py makes one).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import rattler
import yaml

ACTIVATE = """# sourced by Snakemake: source FOLDER/bin/activate PREFIX
export CONDA_PREFIX="$1" CONDA_SHLVL=1 CONDA_DEFAULT_ENV="$1" PATH="$1/bin:$PATH"
"""
CONDA = """#!/bin/sh
CONDA_SHIM_ROOT="{root}" CONDA_SHIM_CHANNELS="{channels}" exec "{python}" "{shim}" "$@"
"""


def install(root: Path, channels: Path) -> None:
    """Write the two programs below `root`."""
    (root / "bin").mkdir(parents=True)
    (root / "bin/activate").write_text(ACTIVATE)
    conda = root / "bin/conda"
    conda.write_text(CONDA.format(root=root, channels=channels, python=sys.executable, shim=Path(__file__).resolve()))
    conda.chmod(0o755)


async def create(prefix: Path, specs: list[str], channels: list[str]) -> None:
    """Solve and install conda packages."""
    records = await rattler.solve(
        sources=[rattler.Channel(f"file://{os.environ['CONDA_SHIM_CHANNELS']}/{channel}") for channel in channels],
        specs=specs,
        gateway=rattler.Gateway(),
        platforms=["linux-64", "noarch"],
        virtual_packages=rattler.VirtualPackage.detect(),
    )
    await rattler.install(records=records, target_prefix=str(prefix), show_progress=False)


def create_environment(file: Path, prefix: Path) -> int:
    """`conda env create`: the conda part, then the `pip:` part, by uv, which is faster; returns its exit code."""
    environment = yaml.safe_load(file.read_text())
    packages = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    pip = [line for entry in environment["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    channels = [channel for channel in environment["channels"] if channel != "nodefaults"]
    asyncio.run(create(prefix, packages, channels))
    requirements = Path(f"{prefix}.pip.txt")
    requirements.write_text("".join(f"{line}\n" for line in pip))
    # each environment lists all of its packages; uv does not read pip's variable for folders of wheels
    command = [Path(sys.executable).parent / "uv", "pip", "install", "--quiet", "--no-deps"]
    command += ["--python", prefix / "bin/python", "--requirement", requirements]
    return subprocess.call(command, env=os.environ | {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")})


def main(arguments: list[str]) -> int:
    """Answer one call of conda; what is not known is an error."""
    root = os.environ.get("CONDA_SHIM_ROOT")
    match arguments:
        case ["install", folder, channels]:
            install(Path(folder), Path(channels).resolve())
        case ["--version"]:
            print("conda 99.0.0")
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": root, "root_prefix": root, "platform": "linux-64", "envs": []}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}, "success": True}))
        case ["clean", *_]:
            pass
        case ["env", "create", *options]:
            values = dict(zip(options, options[1:], strict=False))
            return create_environment(Path(values["--file"]), Path(values["--prefix"]))
        case _:
            print("conda_shim: not known:", *arguments, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
