"""A job's record: what is in it, what may differ between two runs, and which processes write none."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prerl.core import provenance
from prerl.core.files import write_parquet

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {scripts!r})
from prerl.core.errors import UserError, run_main
def main():
    Path(sys.argv[-1]).write_text("made")
    {end}
run_main(main)
"""
LOG = "results/smoke/logs/train_policy/qwen3-1.7b_dsrl_seed1.log"
RECORD = "results/smoke/provenance/train_policy/qwen3-1.7b_dsrl_seed1.json"


def run(folder, end="return 0", **variables):
    """A job in `folder` that reads in.json and writes out.csv; returns its exit status and its record, if any."""
    (folder / "in.json").write_text("{}")
    os.utime(folder / "in.json", (1, 1))
    command = [sys.executable, "-c", SCRIPT.format(scripts=str(provenance.SCRIPTS), end=end)]
    command += [
        "--settings",
        '{"seed": 3, "b": [1]}',
        "--engine-memory",
        '{"kv_cache_gib": 4}',
        "--in",
        "in.json",
        "out.csv",
    ]
    given = {key: value for key, value in os.environ.items() if key not in ("PRERL_LOG", "PRERL_COMMIT", "RANK")}
    done = subprocess.run(command, cwd=folder, env=given | variables, capture_output=True, text=True, check=False)
    record = folder / RECORD
    return done.returncode, json.loads(record.read_text()) if record.is_file() else None


def test_a_job_records_what_made_its_files(tmp_path):
    before = time.time()
    status, found = run(tmp_path, PRERL_LOG=LOG, PRERL_COMMIT="0123456789ab+dirty", SLURM_JOB_ID="77")
    assert status == 0
    assert (found["rule"], found["job"]) == ("train_policy", "qwen3-1.7b_dsrl_seed1")
    assert (found["commit"], found["dirty"]) == ("0123456789ab", True)
    assert found["settings"] == {"settings": {"seed": 3, "b": [1]}}  # the engine's memory affects no result
    assert found["inputs"] == {"in.json": hashlib.sha256(b"{}").hexdigest()}
    assert found["outputs"] == {"out.csv": hashlib.sha256(b"made").hexdigest()}
    assert found["versions"]["numpy"] and "python" in found["versions"]
    took = found["run"]
    assert took["job_id"] == "slurm 77" and 0 <= took["seconds"] <= time.time() - before
    assert 0.005 < took["peak_memory_gib"] < 4 and took["gpu_peak_memory_gib"] is None
    assert took["hardware"]["cores"] == len(os.sched_getaffinity(0))


def test_two_runs_of_a_job_differ_under_run_alone(tmp_path):
    first, second = (run(tmp_path, PRERL_LOG=LOG, PRERL_COMMIT="0123456789ab")[1] for _ in range(2))
    assert first["run"].pop("job_id") != second["run"].pop("job_id")
    del first["run"], second["run"]
    assert first == second and first["dirty"] is False


@pytest.mark.parametrize(
    ("end", "variables", "expected"),
    [
        ("return 0", {}, 0),  # by hand, no job
        ("return 0", {"PRERL_LOG": LOG, "RANK": "1"}, 0),  # another process of the job records it
        ("return 3", {"PRERL_LOG": LOG}, 3),
        ("raise UserError('no')", {"PRERL_LOG": LOG}, 1),
    ],
)
def test_no_record_without_a_job_or_of_one_that_failed(tmp_path, end, variables, expected):
    assert run(tmp_path, end, **variables) == (expected, None)


def test_a_log_elsewhere_stops_the_job_before_its_work(tmp_path):
    assert run(tmp_path, PRERL_LOG="elsewhere.txt") == (1, None)
    assert not (tmp_path / "out.csv").exists()


def test_a_failed_job_leaves_the_record_of_the_run_before(tmp_path):
    _, before = run(tmp_path, PRERL_LOG=LOG)
    assert before["commit"] == "unknown" and before["dirty"] is None
    assert run(tmp_path, "return 3", PRERL_LOG=LOG)[1] == before


def test_a_parquet_file_names_its_record_and_keeps_its_values(tmp_path, monkeypatch):
    table = pa.table({"a": [1, 2]})
    write_parquet(tmp_path / "plain.parquet", table)
    monkeypatch.setenv("PRERL_LOG", str(tmp_path / LOG))
    write_parquet(tmp_path / "named.parquet", table.replace_schema_metadata({"other": "kept"}))
    assert pq.read_table(tmp_path / "plain.parquet").schema.metadata is None
    named = pq.read_table(tmp_path / "named.parquet")
    assert named.equals(table)
    expected = {b"other": b"kept", b"provenance": b"provenance/train_policy/qwen3-1.7b_dsrl_seed1.json"}
    assert named.schema.metadata == expected


def test_a_log_elsewhere_is_refused(monkeypatch):
    monkeypatch.setenv("PRERL_LOG", "elsewhere.txt")
    with pytest.raises(ValueError, match="unset it"):
        provenance.record_path()


def test_the_commit_says_whether_tracked_files_differ(tmp_path):
    assert provenance.described_commit(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "untracked").write_text("two")
    assert provenance.described_commit(tmp_path) == head[:12]
    (tmp_path / "file").write_text("two")
    assert provenance.described_commit(tmp_path) == f"{head[:12]}+dirty"


def test_the_hash_of_settings_does_not_depend_on_the_order_of_keys():
    assert provenance.hash_of({"a": 1, "b": 2}) == provenance.hash_of({"b": 2, "a": 1}) != provenance.hash_of({"a": 1})


def test_every_job_with_a_log_gives_it_to_its_script():
    rules = Path(__file__).parents[3] / "rules"
    shells = [shell for file in rules.glob("*.smk") for shell in re.findall(r"shell:\n((?: .*\n)*)", file.read_text())]
    logged = [shell for shell in shells if "> {log}" in shell and "python" in shell + "python" * ("launcher(" in shell)]
    assert len(logged) > 15
    for shell in logged:
        assert "PRERL_LOG={log}" in shell or "launcher(" in shell, shell
