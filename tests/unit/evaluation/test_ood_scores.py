"""Out-of-distribution answers of both sources in one table, their differences by hand, and the published table."""

import csv
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

import synthetic
from prerl.core.errors import UserError
from prerl.evaluation.harness import digest_of
from prerl.evaluation.ood_scores import COLUMNS, collect, contrasts
from prerl.publishing.claims import Evidence, ood
from prerl.publishing.paper import OOD_GAINS

SCRIPT = Path(__file__).parents[3] / "workflow_scripts/table_ood.py"
SEEDS = [11, 12, 13]
METHODS = ("grpo", "dsrl")
RIGHT = {"base": 1, "grpo": 2, "dsrl": 3}  # of the 4 questions of gpqa_diamond; the last seed of dsrl has one fewer


def write_answers(folder: Path, changes: dict | None = None) -> dict:
    """Settings of rule aggregate_ood with a file for each run; `changes`: {(method, seed): columns}."""
    runs = []
    for method in ("base", *METHODS):
        for seed in SEEDS:
            right = RIGHT[method] - (method == "dsrl" and seed == SEEDS[-1])
            update = 0 if method == "base" else 60
            rows = {
                "update": update,
                "benchmark": "gpqa_diamond",
                "question": [f"gpqa/{i}" for i in range(4)],
                "n": 1,
                "correct": [int(i < right) for i in range(4)],
                "prompt_hash": ["a", "b", "c", "d"],
            } | (changes or {}).get((method, seed), {})
            path = folder / f"{method}{seed}.parquet"
            pd.DataFrame(rows).to_parquet(path)
            runs.append({"method": method, "seed": seed, "update": update, "answers": str(path)})
    config = synthetic.settings(seeds=SEEDS, models=("qwen3-4b",), methods=METHODS)
    sets = {"chain8": "Hendrycks", "gpqa_diamond": "gpqa: exact_match, flexible-extract"}
    return config | {"ood_benchmarks": ["chain8"], "ood_sets": sets, "tasks": {"gpqa_diamond": 4}, "runs": runs}


def test_both_sources_are_one_table(tmp_path):
    settings = write_answers(tmp_path)
    questions = synthetic.questions(settings)
    answers = collect(questions, settings)
    assert list(answers.columns) == COLUMNS
    own = answers[answers["benchmark"] == "chain8"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, questions[questions["benchmark"] == "chain8"][COLUMNS].reset_index(drop=True))
    assert len(answers) - len(own) == 3 * len(SEEDS) * 4


def test_differences_by_hand(tmp_path):
    settings = write_answers(tmp_path)
    table = contrasts(collect(synthetic.questions(settings), settings), settings)
    value = table.set_index(["method", "reference", "benchmark"])["difference_pp"]
    # gpqa_diamond: 75, 75, 50 % against 25 % and 50 %; chain8: every question 6 of 8 for both, 1 of 8 for the base,
    # but seed 11 of dsrl lacks one of 80 answers
    assert value["dsrl", "base", "gpqa_diamond"] == pytest.approx((50 + 50 + 25) / 3)
    assert value["dsrl", "grpo", "gpqa_diamond"] == pytest.approx((25 + 25 + 0) / 3)
    assert value["base", "grpo", "gpqa_diamond"] == pytest.approx(-25)
    assert value["dsrl", "grpo", "chain8"] == pytest.approx(-1.25 / 3)
    assert value["dsrl", "grpo", "mean"] == pytest.approx((50 / 3 - 1.25 / 3) / 2)
    assert len(value) == 4 * 3  # base and dsrl against grpo, grpo and dsrl against the base


def test_the_claim_reads_the_mean_of_both(tmp_path):
    settings = write_answers(tmp_path)
    answers = collect(synthetic.questions(settings), settings)
    evidence = Evidence(settings, {}, {}, {}, {"qwen3-4b": answers}, pd.DataFrame())
    scalar = ood(evidence)
    assert scalar.values.tolist() == pytest.approx([(25 - 1.25) / 2, 12.5, 0])
    assert scalar.n == 2 * len(SEEDS) * (10 * 8 + 4)


def test_the_table_gives_grader_intervals_and_the_papers_gains(tmp_path, monkeypatch):
    settings = write_answers(tmp_path) | {"ood_left_out": ["humaneval"]}
    answers = collect(synthetic.questions(settings), settings)
    paths = {"ood": tmp_path / "ood.parquet", "contrasts": tmp_path / "contrasts.parquet"}
    answers.to_parquet(paths["ood"])
    contrasts(answers, settings).to_parquet(paths["contrasts"])
    namespace = runpy.run_path(str(SCRIPT))
    monkeypatch.setattr(sys, "argv", [
        str(SCRIPT), "--settings", pd.io.json.ujson_dumps(settings), "--ood", str(paths["ood"]),
        "--contrasts", str(paths["contrasts"]), "--csv", str(tmp_path / "t.csv"), "--md", str(tmp_path / "t.md"),
    ])  # fmt: skip
    namespace["main"]()
    with (tmp_path / "t.csv").open() as file:
        cells = {(row["method"], row["benchmark"]): row for row in csv.DictReader(file)}
    assert len(cells) == 3 * 3
    gpqa = cells["DSRL", "gpqa_diamond"]
    assert float(gpqa["accuracy"]) == pytest.approx(200 / 3)
    # 75, 75, 50: sd 14.4338, t(0.975, 2) = 4.302653
    assert float(gpqa["t_low"]) == pytest.approx(200 / 3 - 4.302653 * 14.433757 / 3**0.5)
    assert (gpqa["questions"], gpqa["answers"], gpqa["seeds"]) == ("4", "12", "3")
    assert (float(gpqa["paper"]), gpqa["paper_grade"]) == (OOD_GAINS["qwen3-4b"]["gpqa_diamond"], "B")
    assert cells["GRPO", "gpqa_diamond"]["paper"] == cells["DSRL", "mean"]["paper"] == ""
    assert cells["GRPO", "chain8"]["vs_grpo"] == cells["Base", "chain8"]["vs_base"] == ""
    text = (tmp_path / "t.md").read_text()
    assert "Not run: humaneval" in text and "does not state over which method" in text
    assert "| gpqa: exact_match, flexible-extract |" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": ["gpqa/0", "gpqa/0", "gpqa/2", "gpqa/3"]}, "once: delete it"),
        ({"benchmark": "mmlu_pro"}, "'mmlu_pro': 4"),
        ({"update": 20}, "of update [20]"),
        ({"prompt_hash": ["a", "b", "c", "other"]}, "not asked in the same words"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, changes, words):
    settings = write_answers(tmp_path, {("dsrl", 12): changes})
    with pytest.raises(UserError) as error:
        collect(synthetic.questions(settings), settings)
    assert words in str(error.value)


def test_a_finished_task_is_that_of_its_settings_policy_and_data(tmp_path):
    """HumanEval allowed later asks no other task again."""
    policy, data = tmp_path / "policy.json", tmp_path / "data.json"
    policy.write_text("{}")
    data.write_text("[]")
    settings = {"seed": 1, "update": 60, "run_generated_code": False, "tasks": {"a": {}}}
    key = digest_of(settings, {"task": "a"}, policy, data)
    free = {"run_generated_code": True, "tasks": {"a": {}, "b": {}}}
    assert digest_of(settings | free, {"task": "a"}, policy, data) == key
    others = [digest_of(settings | {"seed": 2}, {"task": "a"}, policy, data)]
    others.append(digest_of(settings, {"task": "a", "version": 2}, policy, data))
    policy.write_text("{ }")
    others.append(digest_of(settings, {"task": "a"}, policy, data))
    data.write_text("[0]")
    others.append(digest_of(settings, {"task": "a"}, policy, data))
    assert len({key, *others}) == 5
