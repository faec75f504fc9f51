"""A checkout for dry runs and one in which the smoke scale has run."""

from pathlib import Path

import pytest

from checkouts import copy_checkout, snakemake


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without results, for dry runs; not to be changed."""
    return copy_checkout(tmp_path_factory.mktemp("checkout") / "workflow")


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which `scale: smoke` has run to its end (minutes). A test that changes a file restores it."""
    folder = copy_checkout(tmp_path_factory.mktemp("smoke") / "workflow")
    result = snakemake(folder, "--cores", "2", "--config", "scale=smoke")
    assert result.returncode == 0, result.stdout[-20000:]
    return folder
