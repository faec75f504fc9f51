"""Answers on which the graders differ and paired differences of accuracy, against numbers worked by hand."""

import pandas as pd
import pytest

from prerl.evaluation.aggregation import read_evaluation
from prerl.evaluation.contrasts import COLUMNS, contrast_table, paired_question_bootstrap

QUESTIONS = {("easy", "q1"): 4, ("easy", "q2"): 1, ("hard", "q1"): 0, ("hard", "q2"): 2, ("ood", "q1"): 1}
END = {"base": 0, "grpo": 2, "prerl": 3}


def settings(seeds=(1, 2), methods=("grpo", "prerl")) -> dict:
    return {
        "bootstrap": {"resamples": 400, "confidence": 0.95, "seed": 0},
        "benchmarks": ["easy", "hard", "ood"],
        "main_benchmarks": ["easy", "hard"],
        "seeds": list(seeds),
        "methods": {name: {"last_update": END[name]} for name in methods},
    }


def questions(seeds=(1, 2)) -> pd.DataFrame:
    """4 answers a question: base none right, PreRL all, GRPO as QUESTIONS and in seed 2 one more of (hard, q1).

    math-verify calls one answer less right, where there is one.
    """
    rows = []
    for method, update in END.items():
        for seed in seeds:
            for (benchmark, question), right in QUESTIONS.items():
                correct = {"base": 0, "grpo": right, "prerl": 4}[method]
                correct += (method, seed, benchmark, question) == ("grpo", 2, "hard", "q1")
                keys = {"method": method, "update": update, "seed": seed, "benchmark": benchmark, "question": question}
                rows.append(keys | {"n": 4, "correct": correct, "correct_math_verify": max(correct - 1, 0)})
    return pd.DataFrame(rows)


def test_every_method_and_the_base_against_grpo():
    table = contrast_table(questions(), settings())
    assert list(table.columns) == COLUMNS
    assert set(table["method"]) == {"base", "prerl"} and set(table["reference"]) == {"grpo"}
    assert len(table) == 2 * (3 + 1) * 2  # methods, benchmarks and their mean, graders
    rows = table.set_index(["method", "benchmark", "grader"])
    mean = rows.loc[("prerl", "mean", "hendrycks")]
    # GRPO: easy 5/8 in both seeds, hard 2/8 and 3/8; PreRL everything: +56.25 and +50 points
    half = 12.7062047 * (56.25 - 50) / 2  # t of one degree of freedom × sd / √2
    assert mean["difference_pp"] == pytest.approx(53.125)
    assert (mean["t_low"], mean["t_high"]) == pytest.approx((53.125 - half, 53.125 + half))
    # by question, over seeds: easy 0 and 75 points, hard 87.5 and 50; each is drawn twice with a chance of 1/4
    assert (mean["boot_low"], mean["boot_high"]) == pytest.approx((25, 81.25))
    counts = ["update", "reference_update", "seeds", "n_questions", "n_answers"]
    assert mean[counts].tolist() == [3, 2, 2, 4, 64]
    assert rows.loc[("base", "hard", "hendrycks"), "difference_pp"] == pytest.approx(-100 * 5 / 16)
    # one less of every question with a right answer: PreRL 6 of 8, GRPO 3 of 8
    assert rows.loc[("prerl", "easy", "math_verify"), "difference_pp"] == pytest.approx(100 * (6 - 3) / 8)
    assert rows.loc[("base", "ood", "hendrycks"), ["boot_low", "boot_high"]].isna().all()  # a single question


def test_the_bootstrap_is_paired():
    # PreRL is better by the same on every question: no question moves the difference, however hard the questions are
    table = questions()
    grpo = table["method"] == "grpo"
    table.loc[grpo, "correct"] = table.loc[grpo, "question"].map({"q1": 0, "q2": 3})
    table.loc[table["method"] == "prerl", "correct"] = table.loc[grpo, "correct"].to_numpy() + 1
    row = (
        contrast_table(table, settings())
        .set_index(["method", "benchmark", "grader"])
        .loc[("prerl", "mean", "hendrycks")]
    )
    assert (row["difference_pp"], row["boot_low"], row["boot_high"]) == pytest.approx((25, 25, 25))


def test_one_seed_has_no_t_interval():
    table = contrast_table(questions(seeds=[1]), settings(seeds=[1]))
    assert table[["t_low", "t_high"]].isna().all(axis=None) and set(table["seeds"]) == {1}
    assert table.loc[table["benchmark"] != "ood", ["boot_low", "boot_high"]].notna().all(axis=None)


def test_without_grpo_there_is_no_contrast():
    assert contrast_table(questions(), settings(methods=["prerl"])).empty


def test_missing_answers_and_other_questions_are_errors():
    table = questions()
    with pytest.raises(ValueError, match="prerl has no evaluated answers at update 3"):
        contrast_table(table[(table["method"] != "prerl") | (table["seed"] != 2)], settings())
    first = pd.Series([1.0, 2.0], pd.MultiIndex.from_tuples([("easy", "q1"), ("easy", "q2")]))
    second = pd.Series([1.0, 2.0], pd.MultiIndex.from_tuples([("easy", "q1"), ("easy", "q3")]))
    with pytest.raises(ValueError, match="different questions"):
        paired_question_bootstrap(first, second, settings()["bootstrap"])


def test_answers_on_which_the_graders_differ_are_counted_one_by_one(tmp_path):
    # right against wrong, wrong against right, right against unscorable; the last is wrong by both
    keys = pd.DataFrame({"update": 0, "benchmark": "easy", "question": "q1", "sample": range(4)})
    verdicts = {"hendrycks": [True, False, True, False], "math_verify": ["wrong", "right", "unscorable", "wrong"]}
    thoughts = {"tokens": 9, "truncated": False, "reflections": 0, "transitions": 0, "executions": 1}
    run = {"method": "base", "seed": 1, "updates": [0]}
    for name, columns in {"grades": verdicts, "thoughts": thoughts}.items():
        run[name] = str(tmp_path / f"{name}.parquet")
        keys.assign(**columns).to_parquet(run[name])
    row = read_evaluation(run, samples=4).iloc[0]
    assert row[["n", "correct", "correct_math_verify", "unscorable", "differ"]].tolist() == [4, 2, 1, 1, 3]
