"""download_data and prepare_data through Snakemake at paper scale, and what a change of their settings reruns."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from checkouts import ROOT, copy_checkout, planned_jobs, snakemake
from fault_server import serving
from prerl.config.scales import read_files

DATA = ROOT.parent / "shared" / "data"
QUESTIONS = {
    "train": 7500, "math500": 500, "amc23": 40, "aime24": 30, "aime25": 30, "minerva": 272, "olympiadbench": 675
}  # fmt: skip
TARGETS = [f"results/paper/data/{name}.parquet" for name in QUESTIONS]

PAPER = read_files()["scales"]["paper"]["data"]
for problems in (PAPER["train"], *PAPER["benchmarks"].values()):
    if not (DATA / problems["file"]["name"]).exists():
        pytest.skip(
            f"{DATA / problems['file']['name']} is absent: put the data files there to test their rules",
            allow_module_level=True,
        )


def paper(folder: Path, data: dict, targets: list[str] = TARGETS) -> list[str]:
    """Arguments of snakemake for `targets` at paper scale, with changes of its data block."""
    config = folder / "changes.yaml"
    config.write_text(yaml.safe_dump({"scale": "paper", "scales": {"paper": {"data": data}}}))
    return ["--configfile", str(config), "--", *targets]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A checkout in which all seven sets were made from a relative mirror folder."""
    folder = copy_checkout(tmp_path_factory.mktemp("data") / "workflow")
    (folder / "mirror").symlink_to(DATA)
    result = snakemake(folder, "--cores", "2", *paper(folder, {"mirror": "mirror"}))
    assert result.returncode == 0, result.stdout
    return folder


def test_all_seven_sets_are_made(made):
    tables = {name: pq.read_table(made / f"results/paper/data/{name}.parquet") for name in QUESTIONS}
    assert {name: table.num_rows for name, table in tables.items()} == QUESTIONS
    assert tables["aime24"]["id"][7].as_py() == "aime24-07"
    assert {file.name for file in (made / "results/paper/downloads").iterdir()} == set(QUESTIONS)
    assert list((made / "results/paper/state/downloads").iterdir()) == []


def benchmarks(**files) -> dict:
    """The data block with other keys in the files of some benchmarks."""
    return {"mirror": "mirror", "benchmarks": {name: {"file": file} for name, file in files.items()}}


def test_a_touched_file_reruns_nothing(made):
    """olympiadbench has 1.5 MB, more than Snakemake reads by itself."""
    downloads = list((made / "results/paper/downloads").iterdir())
    for file in downloads:
        file.touch()
    assert max(file.stat().st_size for file in downloads) > 1_000_000
    assert planned_jobs(made, *paper(made, {"mirror": "mirror"})) == {}


def test_where_a_file_comes_from_reruns_nothing(made):
    """Another mirror, another address, even a downloaded file that was deleted: its problems are made."""
    file = made / "results/paper/downloads/math500"
    content = file.read_bytes()
    file.unlink()
    elsewhere = benchmarks(amc23={"url": "https://example.org/amc23"}) | {"mirror": "https://example.org/data"}
    jobs = planned_jobs(made, *paper(made, elsewhere))
    file.write_bytes(content)
    assert jobs == {}


def test_another_sha256_or_number_of_questions_reruns(made):
    changed = benchmarks(math500={"sha256": "0" * 64}, minerva={"questions": 271})
    assert planned_jobs(made, *paper(made, changed)) == {"download_data": 1, "prepare_data": 2}


def test_an_edit_of_the_code_downloads_nothing(made):
    names = ("download_data", "prerl/data/downloads", "prepare_data")
    scripts = [made / f"workflow_scripts/{name}.py" for name in names]
    texts = [script.read_text() for script in scripts]
    for script, text in zip(scripts, texts, strict=True):
        script.write_text(f"# a comment\n{text}")
    jobs = planned_jobs(made, *paper(made, {"mirror": "mirror"}))
    for script, text in zip(scripts, texts, strict=True):
        script.write_text(text)
    assert jobs == {"prepare_data": 7}


def test_equal_problems_made_again_rerun_no_reader(made):
    """As the README says of training: made again in a run of their own, they are inputs with the same checksum."""
    (made / "readers.smk").write_text(
        'include: "Snakefile"\nrule reader:\n    input: "results/paper/data/train.parquet"\n'
        '    output: "size"\n    shell: "wc -c {input} > {output}"\n'
    )
    reader = ["--snakefile", "readers.smk", *paper(made, {"mirror": "mirror"}, ["size"])]
    problems = paper(made, {"mirror": "mirror"}, TARGETS[:1])
    first = snakemake(made, "--cores", "1", *reader)
    again = snakemake(made, "--cores", "1", "--forcerun", "prepare_data", *problems)
    assert first.returncode == again.returncode == 0, first.stdout + again.stdout
    assert (made / TARGETS[0]).stat().st_mtime_ns > (made / "size").stat().st_mtime_ns
    assert planned_jobs(made, *reader) == {}


def test_a_failed_download_is_told_and_continued(tmp_path, monkeypatch):
    """Through Snakemake, which deletes the output of a failed job and its log before the next attempt."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    folder = copy_checkout(tmp_path / "workflow")
    target = "results/paper/data/aime24.parquet"
    with serving(DATA) as server:
        server.faults = ["drop", "403"]
        arguments = ["--cores", "1", *paper(folder, {"mirror": server.url()}, [target])]
        failed = snakemake(folder, *arguments)
        assert failed.returncode == 1 and "set data.mirror: null for the public address" in failed.stdout
        assert "Traceback" not in failed.stdout and not (folder / "results/paper/downloads/aime24").exists()
        (partial,) = (folder / "results/paper/state/downloads").iterdir()
        kept = partial.stat().st_size
        server.asked = []
        continued = snakemake(folder, *arguments)
        assert continued.returncode == 0, continued.stdout
        assert server.asked == [("aime_2024_20times.parquet", kept)] and kept > 0
    assert pq.read_table(folder / target).num_rows == 30
