"""The cluster, its conda and a checkout with environments, base model and problems, once for all tests."""

import subprocess
from pathlib import Path

import pytest

from checkouts import ROOT
from cpu_build import take_cpu_build
from virtual_cluster import FAULT_TABLE, HERE, SMOKE, Checkout, Site


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Path:
    """A running cluster's folder. It is stopped at the end, whatever happens."""
    folder = tmp_path_factory.mktemp("cluster") / "slurm"
    started = subprocess.run([HERE / "cluster.sh", "up", folder], stderr=subprocess.PIPE, text=True)
    if started.returncode:
        pytest.exit(started.stderr, returncode=1)
    yield folder
    subprocess.run([HERE / "cluster.sh", "down", folder], check=True)


@pytest.fixture(scope="session")
def site(cluster, tmp_path_factory) -> Site:
    """A folder for checkouts, and a conda whose only channel is a folder."""
    folder = tmp_path_factory.mktemp("site")
    python = ROOT / ".venv-slurm/bin/python"  # has the conda solver
    subprocess.run([python, HERE / "conda_channel.py", folder / "channels/conda-forge"], check=True)
    subprocess.run([python, HERE / "conda_shim.py", "install", folder / "shim", folder / "channels"], check=True)
    return Site(folder, folder / "shim")


@pytest.fixture(scope="session")
def shop(site) -> Checkout:
    """A checkout whose environments are built, on the login node as a user does it first. Not to be run in."""
    checkout = site.checkout("shop", SMOKE)
    for name in ("train", "ood"):
        take_cpu_build(checkout.folder / f"envs/{name}.yaml")
    checkout.finish(checkout.start_command("snakemake", "--profile", "slurm", "--conda-create-envs-only"))
    return checkout


@pytest.fixture(scope="session")
def base(shop) -> Checkout:
    """A checkout with a base model and problems, made by SLURM jobs. Not to be run in."""
    checkout = shop.copy("base", SMOKE)
    data = [f"results/smoke/data/{name}.parquet" for name in ("train", "chain4", "chain6")]
    checkout.run("results/smoke/miniature/base/seed1/model/manifest.json", *data)
    return checkout


def pytest_terminal_summary(terminalreporter):
    """The table of the faults."""
    for line in FAULT_TABLE:
        terminalreporter.write_line(line)
