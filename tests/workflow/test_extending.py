"""docs/extending.md: its example of own data, reward, thought rule, tracker and answers of others, as it stands."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from checkouts import ROOT, copy_checkout, planned_jobs, snakemake

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\w+\.\w+)` [^\n]*:\n\n```\w+\n(.*?)^```$", PAGE, re.M | re.S))
COMMANDS = re.findall(r"^```sh\nsnakemake (.*?)\n```$", PAGE, re.M)
RUN = Path("results/smoke/miniature/grpo/seed1")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A checkout with the page's files, in which its first command has run (a minute)."""
    folder = copy_checkout(tmp_path_factory.mktemp("example") / "workflow")
    for name, content in FILES.items():
        (folder / name).write_text(content)
    result = snakemake(folder, *shlex.split(COMMANDS[0]))
    assert result.returncode == 0, result.stdout[-20000:]
    return folder


def plan(folder: Path, *edits: tuple[str, str, str]) -> set[str]:
    """Rules that would run after these changes (file, old, new), which are undone."""
    texts = {name: (folder / name).read_text() for name, _, _ in edits}
    for name, old, new in edits:
        assert old in texts[name]
        (folder / name).write_text(texts[name].replace(old, new))
    jobs = planned_jobs(folder, *shlex.split(COMMANDS[0]))
    for name, text in texts.items():
        (folder / name).write_text(text)
    return set(jobs)


def test_the_page_holds_what_the_test_reads():
    assert list(FILES) == [
        "my_problems.jsonl", "my_benchmark.csv", "own.yaml", "my_rewards.py", "my_thoughts.py", "answers.jsonl"
    ]  # fmt: skip
    assert len(COMMANDS) == 2


def test_own_problems_are_trained_on_and_asked(example):
    manifest = json.loads((example / "results/smoke/data/mine.json").read_text())
    assert manifest["questions"] == 2 and len(manifest["sha256"]) == 64
    train = pd.read_parquet(example / "results/smoke/data/train.parquet")
    assert train["answer"].tolist() == ["4", "2", "3", "7"] and json.loads(train["row"][3])["difficulty"] == "hard"
    samples = pd.read_parquet(example / RUN / "samples.parquet")
    ids = pd.read_parquet(example / "results/smoke/data/mine.parquet")["id"]
    assert set(samples[samples["benchmark"] == "mine"]["question"]) == set(ids)


def test_own_reward_and_thoughts_are_used_in_training_and_grading(example):
    metrics = pd.read_parquet(example / RUN / "metrics.parquet")
    parts = metrics["reward_right"] + metrics["reward_short"]
    assert parts.tolist() == pytest.approx(metrics["reward_mean"].tolist()) and (metrics["reward_short"] > 0).all()
    grades = pd.read_parquet(example / RUN / "grades.parquet")
    samples = pd.read_parquet(example / RUN / "samples.parquet")
    expected = 0.8 * grades["hendrycks"] + 0.2 * (samples["text"].str.len() <= 200)  # no question is marked hard
    assert grades["reward"].tolist() == pytest.approx(expected.tolist())
    thoughts = pd.read_parquet(example / RUN / "thoughts.parquet")
    record = json.loads((example / "results/smoke/provenance/train_policy/miniature_grpo_seed1.json").read_text())
    assert {"my_rewards.py", "my_thoughts.py"} <= set(record["inputs"])
    lines = [sum(bool(line.strip()) for line in text.splitlines()) for text in samples["text"]]
    assert (thoughts["executions"] + thoughts["reflections"]).tolist() == lines


def test_the_tracker_was_sent_the_run(example):
    (folder,) = (example / "results/smoke/tracking/tensorboard").iterdir()
    assert folder.name.startswith("miniature_grpo_seed1_")
    assert [file.suffix for file in sorted(folder.iterdir(), key=lambda file: file.suffix)] == [
        ".000000", ".000002", ".000003"  # checkpoints after updates 1, 2 and 3
    ]  # fmt: skip


def test_what_an_edit_reruns(example):
    assert plan(example, ("own.yaml", "tracker: tensorboard", "tracker: none")) == set()
    rewards = plan(example, ("my_rewards.py", "0.8", "0.75"))
    assert {"train_policy", "grade_samples"} <= rewards and "prepare_own_data" not in rewards
    thoughts = plan(example, ("my_thoughts.py", '"But"', '"So"'))
    assert {"train_policy", "count_thoughts"} <= thoughts and "prepare_own_data" not in thoughts
    problems = plan(example, ("my_problems.jsonl", '"hard"', '"harder"'))
    assert {"prepare_own_data", "train_policy"} <= problems and "pretrain_miniature_model" not in problems
    questions = plan(example, ("my_benchmark.csv", "9-5+1,5", "9-5+1,6"))
    assert {"prepare_own_data", "generate_samples"} <= questions and "train_policy" not in questions


def test_answers_of_others_are_graded_counted_and_compared(example):
    """One of two right; 3 lines of which 1 begins with But, and 2 lines; 0.8 + 0.2 and 0.2."""
    result = snakemake(example, *shlex.split(COMMANDS[1]))
    assert result.returncode == 0, result.stdout[-5000:]
    table = pd.read_csv(example / "results/smoke/external/answers.csv")
    (row,) = table.to_dict("records")
    assert (row["benchmark"], row["run"], row["questions"], row["answers"]) == ("mine", "answers.jsonl", 2, 2)
    assert (row["accuracy"], row["math_verify"], row["reward"]) == (50.0, 50.0, 0.6)
    assert (row["boot_low"], row["boot_high"]) == (0.0, 100.0)
    assert (row["reflections_per_answer"], row["transitions_per_answer"]) == (0.5, 0.0)
    assert "miniature is not evaluated yet" in (example / "results/smoke/external/answers.md").read_text()
    nothing = snakemake(example, "-n", "compare_external", "--config", "scale=smoke")
    assert nothing.returncode == 1 and "`--config scale=... external=FILE`" in nothing.stdout


def test_answers_of_ones_own_given_back_have_the_same_numbers(smoke_run):
    """GRPO's of seed 1, split at blank lines here and at tokens there."""
    samples = pd.read_parquet(smoke_run / RUN / "samples.parquet").query("update == 3")
    samples[["benchmark", "question", "text"]].to_json(smoke_run / "given.jsonl", orient="records", lines=True)
    result = snakemake(smoke_run, "--cores", "1", "compare_external", "--config", "scale=smoke", "external=given.jsonl")
    assert result.returncode == 0, result.stdout[-5000:]
    table = pd.read_csv(smoke_run / "results/smoke/external/given.csv").set_index(["run", "benchmark"])
    (smoke_run / "given.jsonl").unlink()
    for part in ("external", *(f"{kind}/compare_external" for kind in ("logs", "benchmarks", "provenance"))):
        shutil.rmtree(smoke_run / "results/smoke" / part)
    scores = pd.read_parquet(smoke_run / RUN.parents[1] / "scores.parquet")
    scores = scores.query("method == 'grpo' and update == 3 and seed == 1").set_index(["benchmark", "grader", "metric"])
    for benchmark in ("mean", "chain3", "chain8"):
        given = table.loc["given.jsonl", benchmark]
        for column, key in [("accuracy", ("hendrycks", "avg@2")), ("math_verify", ("math_verify", "avg@2"))]:
            assert given[column] == pytest.approx(100 * scores.loc[(benchmark, *key), "value"])
        for name in ("reflections_per_answer", "transitions_per_answer"):
            assert given[name] == pytest.approx(scores.loc[(benchmark, "", name), "value"])
    assert {"Base", "GRPO", "DSRL"} < set(table.index.get_level_values("run"))


def test_a_reward_that_raises_ends_the_job_with_the_answer(example):
    rewards = example / "my_rewards.py"
    text = rewards.read_text()
    rewards.write_text(text.replace("    right =", "    raise KeyError(row['id'])\n    right ="))
    result = snakemake(example, *shlex.split(COMMANDS[0]))
    rewards.write_text(text)
    assert result.returncode == 1 and "Traceback" not in result.stdout, result.stdout[-5000:]
    said = re.search(r"error: reward.function: my_rewards.py:score raised (.*)", result.stdout)[1]
    assert re.match(r"KeyError: '\S+' \(my_rewards.py, line 6\) on an answer to \S+; correct it. The answer: ", said)
