"""`snakemake preflight`: each check with what it accepts and what it refuses; SLURM and conda are scripts here."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import preflight
from checkouts import ROOT, copy_checkout, snakemake
from prerl.core.constants import GIB
from prerl.core.files import write_json
from prerl.data.hub import SOURCE
from prerl.models.checkpoints import new_folder
from prerl.planning.dry_runs import PlannedJob, planned_block
from tiny import SHAPE, TOKENIZER, tiny_model

TRAINING = {
    "tmpdir": "/tmp", "gpu": "8", "gpu_model": "h100", "mem_mb": "900000", "mem": "900 GB", "runtime": "7200",
    "nodes": "1", "slurm_account": "lab", "slurm_partition": "gpu", "slurm_extra": "--open-mode=append", "cpus": "64"
}  # fmt: skip
GRADING = {"mem_mb": "32000", "runtime": "240", "cpus": "16", "slurm_partition": "main"}
HUB = {"repository": "owner/tiny", "revision": "ab" * 20}
# accepts all partitions but `gpu`, and writes down what it was asked
SBATCH = """#!/bin/sh
echo "$*" >> {log}
case "$*" in *"-p gpu "*) echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1;; esac
echo "sbatch: Job 3 to start at 2026-01-01T00:00:00" >&2
"""
SINFO = "#!/bin/sh\nprintf 'main* 5-00:00:00\\nshort 30:00\\nany infinite\\n'\n"
SQUEUE = "#!/bin/sh\nexit 0\n"  # beside sbatch alone the SLURM plugin refuses to be imported
CONDA = """#!/bin/sh
case "$*" in
  "info --json") echo '{"conda_prefix": "/opt/conda", "root_prefix": "/opt/conda", "platform": "linux-64"}';;
  --version) echo conda 24.11.0;;
  *) echo '{"get": {"channel_priority": "strict"}}';;
esac
"""


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder that comes first on the path, with SLURM's programs and conda."""
    folder = tmp_path / "bin"
    folder.mkdir()
    sbatch = SBATCH.replace("{log}", str(tmp_path / "asked"))
    for name, text in {"sbatch": sbatch, "sinfo": SINFO, "squeue": SQUEUE, "conda": CONDA}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_slurm_is_asked_for_what_the_plugin_would_ask():
    assert preflight.sbatch_options(PlannedJob("train_policy", resources=TRAINING)) == (
        "-A lab -p gpu -t 7200 --mem 900000 --nodes=1 --cpus-per-task=64 --open-mode=append --gpus=h100:8"
    )
    assert preflight.sbatch_options(PlannedJob("grade_samples", resources=GRADING)) == (
        "-p main -t 240 --mem 32000 --ntasks=1 --cpus-per-task=16"
    )


def test_a_refused_request_is_told_with_sbatchs_reason_and_asked_once(programs, tmp_path):
    jobs = [PlannedJob("train_policy", resources=TRAINING) for _ in range(3)]
    fault, well = preflight.check_queue([*jobs, PlannedJob("grade_samples", resources=GRADING)])
    assert fault[0] == preflight.FAULT
    assert fault[1].startswith("train_policy: sbatch: error: invalid partition specified: gpu (asked: -A lab -p gpu")
    assert "slurm/config.yaml" in fault[1]
    assert well == (preflight.OK, "SLURM accepts the jobs of grade_samples")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2 and all(line.startswith("--test-only ") for line in asked)


@pytest.mark.parametrize(
    ("partition", "runtime", "allowed"),
    [("", 7201, 7200), ("", 7200, None), ("short", 31, 30), ("short,any", 99999, None), ("main,short", 7201, 7200)],
)
def test_a_job_that_is_longer_than_its_partition_allows(programs, partition, runtime, allowed):
    # SLURM takes such a job, without EnforcePartLimits, and lets it wait
    asked = {"runtime": str(runtime), "cpus": "1"} | ({"slurm_partition": partition} if partition else {})
    ((state, said),) = preflight.check_queue([PlannedJob("train_policy", resources=asked)])
    if allowed is None:
        assert state == preflight.OK
    else:
        start = f"train_policy: asks for {runtime} minutes, the partition {partition or 'main'} allows {allowed}, and"
        assert state == preflight.FAULT and said.startswith(start)


@pytest.mark.parametrize(
    ("limit", "expected"), [("5-01:30:00", 7290), ("2:00:00", 120), ("30:00", 30), ("infinite", float("inf"))]
)
def test_limits_of_sinfo(limit, expected):
    assert preflight.minutes(limit) == expected


def test_no_sbatch_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    ((state, said),) = preflight.check_queue([PlannedJob("train_policy", resources=TRAINING)])
    assert state == preflight.FAULT and said.startswith("sbatch is not on the path: ")


@pytest.mark.parametrize(("free_gib", "state"), [(30, preflight.OK), (20, preflight.FAULT)])
def test_disk(free_gib, state, tmp_path, monkeypatch):
    one_core = {"cpus": "1"}  # 7.5 + 15.3 GiB
    left = [PlannedJob("download_model", {"model": model}, one_core) for model in ("qwen3-4b", "qwen3-8b")]
    block = planned_block([str(ROOT / "config.yaml")], "paper", left)
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=free_gib * GIB))
    ((found, said),) = preflight.check_disk(left, block, tmp_path / "results/paper", 8, 1)
    assert found == state and said.startswith(
        f"{tmp_path} has {free_gib} GiB free, the remaining jobs hold up to 23 GiB at a time"
    )


@pytest.fixture
def results(tmp_path) -> Path:
    """Results with a fetched model."""
    with new_folder(tmp_path / "results/paper/tiny/base/model", 10**6) as folder:
        tiny_model().save_pretrained(folder)
        TOKENIZER.save_pretrained(folder)
        write_json(folder / SOURCE, HUB)
    return tmp_path / "results/paper"


def block_with(hub, prefix="<|im_start|>"):
    answers = {"max_new_tokens": 100}
    return {
        "models": {"tiny": {"hub": hub, "architecture": SHAPE}},
        "prompt": {"system": None, "enable_thinking": False, "prefix_token": prefix, "max_prompt_tokens": 64},
        **dict.fromkeys(("rollouts", "validation", "evaluation", "alignment"), answers),
    }


def test_a_fetched_model_is_told_with_its_ids(results, capsys):
    assert preflight.report("model", lambda: preflight.check_models(block_with(HUB), results))
    start, end = (TOKENIZER.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assert capsys.readouterr().out == (
        f"ok    model: tiny is owner/tiny at revision {HUB['revision']}; "
        f"P(y) begins after <|im_start|> {start}, answers end at <|im_end|> {end}\n"
    )


def test_a_model_that_is_not_here_is_fetched_later(results, capsys):
    block = block_with(HUB)
    block["models"] = {"other": block["models"]["tiny"]}
    assert preflight.report("model", lambda: preflight.check_models(block, results))
    said = capsys.readouterr().out
    manifest = f"{results}/other/base/model/manifest.json"
    assert (
        said.startswith("later model: other ") and f"`snakemake --cores 1 --config scale=paper -- {manifest}`" in said
    )


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (
            block_with(HUB | {"revision": "cd" * 20}),
            f"holds owner/tiny at revision {HUB['revision']}, the configuration",
        ),
        (block_with(HUB, prefix="no such token"), "no such token"),
    ],
)
def test_a_model_that_does_not_fit_is_a_fault(block, said, results, capsys):
    assert not preflight.report("model", lambda: preflight.check_models(block, results))
    printed = capsys.readouterr().out
    assert printed.startswith("FAULT model: ") and said in printed


def test_memory_is_planned_with_the_gpus_of_the_command(capsys):
    def verdict(gpus):
        jobs = [PlannedJob("train_policy", {"model": "qwen3-8b", "method": "grpo"}, {"gpu": gpus})]
        block = planned_block([str(ROOT / "config.yaml")], "paper", jobs)
        return preflight.report("GPU memory", lambda: preflight.check_memory_plan(block))

    assert verdict("8")
    said = capsys.readouterr().out
    assert "ok    GPU memory: train_policy of qwen3-8b on 8 GPU(s): " in said and "FAULT" not in said
    assert not verdict("1")
    faults = capsys.readouterr().out.splitlines()
    assert faults and all(line.startswith("FAULT GPU memory: resources.train_policy: qwen3-") for line in faults)


def test_environments_that_a_dry_run_would_build():
    said = (
        "Building DAG\nConda environment envs/ood.yaml will be created.\nConda environment envs/a.yaml will be created."
    )
    ((state, text),) = preflight.check_environments(said, ["--profile", "slurm"])
    assert state == preflight.LATER
    assert text == "envs/a.yaml, envs/ood.yaml: not built yet: `snakemake --profile slurm --conda-create-envs-only`"
    assert list(preflight.check_environments("Building DAG", [])) == [(preflight.OK, "all are built")]


def findings(said):
    return [line for line in said.splitlines() if line.startswith(("ok ", "later ", "FAULT "))]


def test_through_the_profile_nothing_is_submitted_and_a_fault_is_the_exit_status(programs, tmp_path):
    folder = copy_checkout(tmp_path / "workflow")
    # without waiting a timespan of the profile, and 40 seconds to look at jobs, before it ends
    soon = ["--max-jobs-per-timespan", "100/1s", "--slurm-init-seconds-before-status-checks", "1"]
    options = ["--profile", "slurm", "--config", "scale=smoke", *soon]
    good = snakemake(folder, *options, "--", "preflight")
    assert good.returncode == 0, good.stdout
    assert [line.split(":")[0] for line in findings(good.stdout)] == [
        "ok    config", "ok    GPU memory", "ok    disk", "ok    model", "later environments", "ok    queue"
    ]  # fmt: skip
    bad = snakemake(folder, *options, "--set-resources", "train_policy:slurm_partition=gpu", "--", "preflight")
    assert bad.returncode == 1
    (fault,) = [line for line in findings(bad.stdout) if line.startswith("FAULT")]
    assert fault.startswith("FAULT queue: train_policy: sbatch: error: invalid partition specified: gpu")
    assert bad.stdout.count("localrule preflight") == 1  # the profile's 20 retries are not for this
    assert all("--test-only" in line for line in (tmp_path / "asked").read_text().splitlines())
    assert not (folder / "results/smoke").exists()


def test_without_a_cluster_what_concerns_one_is_left_out(tmp_path):
    folder = copy_checkout(tmp_path / "workflow")
    result = snakemake(folder, "--cores", "1", "--", "preflight")
    assert result.returncode == 0, result.stdout
    assert [line.split(":")[0] for line in findings(result.stdout)] == [
        "ok    config", "ok    GPU memory", "ok    disk", "ok    model"
    ]  # fmt: skip
