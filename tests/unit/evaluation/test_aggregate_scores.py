"""aggregate_scores, run as its rule runs it, on small files made by hand."""

import json
import random

import pandas as pd
import pytest

from job_scripts import fail, succeed
from table_main import grader_cells

pytestmark = pytest.mark.slow

KEY = ["update", "benchmark", "question", "sample"]


def write_evaluation(folder, method, seed, right, samples=4):
    """`right`: {(update, benchmark, question): number of right answers}; 10 tokens and 1 transition an answer."""
    folder = folder / method / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    keys = [(*key, i) for key in right for i in range(samples)]
    correct = [i < right[key] for key in right for i in range(samples)]
    frame = pd.DataFrame(keys, columns=KEY)
    verdicts = [
        "right" if x else "unscorable" if i == 3 else "wrong" for x, i in zip(correct, frame["sample"], strict=True)
    ]
    frame.assign(hendrycks=correct, math_verify=verdicts, boxed="7").to_parquet(folder / "grades.parquet")
    thoughts = frame.assign(tokens=10, truncated=[not x for x in correct], reflections=0, transitions=1, executions=2)
    thoughts.sample(frac=1, random_state=0).to_parquet(folder / "thoughts.parquet")
    paths = {name: str(folder / f"{name}.parquet") for name in ("grades", "thoughts")}
    return {"method": method, "seed": seed, "updates": sorted({update for update, *_ in right})} | paths


def write_history(folder, method, seed, updates, validated, value):
    folder = folder / method / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"update": list(updates), "space": "pretrain", "reward_mean": [value + u for u in updates], "logp": None}
    pd.DataFrame(metrics).astype({"logp": float}).to_parquet(folder / "metrics.parquet")
    rows = [
        {"update": u, "benchmark": b, "accuracy": a, "response_tokens_mean": 10.0 * u, "truncation_rate": 0.0}
        | {"n_questions": 2, "n_samples": 4}
        for u in validated
        for b, a in (("easy", value), ("hard", value / 2))
    ]
    pd.DataFrame(rows).to_parquet(folder / "validation.parquet")
    return {"method": method, "seed": seed} | {n: str(folder / f"{n}.parquet") for n in ("metrics", "validation")}


RIGHT = {(2, "easy", "q1"): 4, (2, "easy", "q2"): 1, (2, "hard", "q1"): 0, (2, "hard", "q2"): 2, (2, "ood", "q1"): 1}


@pytest.fixture
def settings(tmp_path):
    return {
        "bootstrap": {"resamples": 200, "confidence": 0.95, "seed": 0},
        "benchmarks": ["easy", "hard", "ood"],
        "main_benchmarks": ["easy", "hard"],
        "validation_benchmarks": ["easy", "hard"],
        "seeds": [1],
        "samples_per_question": 4,
        "parts": {},
        "methods": {
            "warm": {"parent": None, "first_update": 1, "last_update": 4},
            "dsrl": {"parent": "warm", "first_update": 3, "last_update": 5},
        },
        "evaluations": [
            write_evaluation(tmp_path, "warm", 1, RIGHT),
            write_evaluation(tmp_path, "dsrl", 1, dict.fromkeys(RIGHT, 4)),
        ],
        "histories": [
            write_history(tmp_path, "warm", 1, range(1, 5), [0, 2, 4], 0.2),
            write_history(tmp_path, "dsrl", 1, range(3, 6), [4, 5], 0.6),
        ],
    }


def aggregate(settings, folder):
    outputs = [
        x for name in ("questions", "scores", "contrasts", "curves") for x in (f"--{name}", folder / f"{name}.parquet")
    ]
    return ["aggregate_scores", "--settings", json.dumps(settings), *outputs]


def test_aggregate_scores(tmp_path, settings):
    succeed(*aggregate(settings, tmp_path))
    questions, scores = pd.read_parquet(tmp_path / "questions.parquet"), pd.read_parquet(tmp_path / "scores.parquet")
    row = questions.query("method == 'warm' and benchmark == 'hard' and question == 'q2'")
    names = ["update", "seed", "n", "correct", "correct_math_verify", "unscorable", "differ", "truncated"]
    assert row[names].to_numpy().tolist() == [[2, 1, 4, 2, 2, 1, 0, 2]]
    assert row["tokens_mean"].item() == 10
    assert row[["reflections", "transitions", "executions"]].to_numpy().tolist() == [[0, 4, 8]]
    assert len(questions) == 10
    assert pd.read_parquet(tmp_path / "contrasts.parquet").empty  # grpo is not run

    def score(benchmark, metric, grader="hendrycks", method="warm"):
        keys = {"method": method, "benchmark": benchmark, "metric": metric, "grader": grader}
        found = scores[(scores[list(keys)] == pd.Series(keys)).all(axis=1)]
        assert len(found) == 1
        return found.iloc[0]

    assert score("easy", "avg@4")["value"] == pytest.approx(5 / 8)
    assert score("hard", "avg@4")["value"] == pytest.approx(2 / 8)
    assert score("mean", "avg@4")["value"] == pytest.approx((5 / 8 + 2 / 8) / 2)  # ood is not in the mean
    assert score("mean", "pass@1")["value"] == pytest.approx(score("mean", "avg@4")["value"])
    # pass@2: easy (1 + 1/2) / 2, hard (0 + (1 − 1/6)) / 2
    assert score("mean", "pass@2", "math_verify")["value"] == pytest.approx((0.75 + 5 / 12) / 2)
    assert score("hard", "pass@4")["value"] == pytest.approx(0.5)
    assert (score("mean", "avg@4")["n_questions"], score("mean", "avg@4")["n_answers"]) == (4, 16)
    assert score("easy", "transitions_per_answer", "")["value"] == pytest.approx(1.0)
    assert score("easy", "transitions_per_1k_tokens", "")["value"] == pytest.approx(100.0)
    assert score("mean", "tokens_mean", "")["value"] == pytest.approx(10.0)
    assert score("mean", "truncation_rate", "")["value"] == pytest.approx(1 - (5 / 8 + 2 / 8) / 2)
    mean = score("mean", "avg@4")
    assert mean["boot_low"] < mean["value"] < mean["boot_high"]
    assert pd.isna(score("ood", "avg@4")["boot_low"])  # a single question
    assert list(score("mean", "avg@4", method="dsrl")[["value", "boot_low", "boot_high"]]) == [1.0, 1.0, 1.0]
    assert set(scores["metric"]) == {"avg@4", "pass@1", "pass@2", "pass@4", "tokens_mean", "truncation_rate"} | {
        f"{thought}_per_{unit}" for thought in ("reflections", "transitions") for unit in ("answer", "1k_tokens")
    }


def test_a_reward_beside_the_graders_reaches_scores_and_table(tmp_path, settings):
    """A quarter to each right answer and an eighth to each wrong one: easy (1 + 0.625) / 8, hard (0.5 + 0.75) / 8."""
    for evaluation in settings["evaluations"]:
        grades = pd.read_parquet(evaluation["grades"])
        grades.assign(reward=0.125 + 0.125 * grades["hendrycks"]).to_parquet(evaluation["grades"])
    succeed(*aggregate(settings, tmp_path))
    questions, scores = pd.read_parquet(tmp_path / "questions.parquet"), pd.read_parquet(tmp_path / "scores.parquet")
    rewards = scores[(scores["grader"] == "reward") & (scores["method"] == "warm")].set_index("benchmark")["value"]
    assert rewards[["easy", "hard", "mean"]].tolist() == pytest.approx([1.625 / 8, 1.25 / 8, 2.875 / 16])
    cells = grader_cells(questions[questions["method"] == "dsrl"], {"confidence": 0.95})
    assert cells["reward"] == pytest.approx(0.25) and "reward" not in grader_cells(
        questions.drop(columns="reward"), {"confidence": 0.95}
    )


def test_curves_join_the_parent(tmp_path, settings):
    succeed(*aggregate(settings, tmp_path))
    curves = pd.read_parquet(tmp_path / "curves.parquet")
    assert list(curves.columns) == ["method", "seed", "update", "kind", "name", "benchmark", "value"]

    def curve(method, name, benchmark):
        chosen = curves[(curves["method"] == method) & (curves["name"] == name) & (curves["benchmark"] == benchmark)]
        return dict(zip(chosen["update"], chosen["value"], strict=True))

    assert curve("warm", "reward_mean", "") == pytest.approx({1: 1.2, 2: 2.2, 3: 3.2, 4: 4.2})
    assert curve("dsrl", "reward_mean", "") == pytest.approx({1: 1.2, 2: 2.2, 3: 3.6, 4: 4.6, 5: 5.6})
    assert curve("dsrl", "accuracy", "hard") == pytest.approx({0: 0.1, 2: 0.1, 4: 0.3, 5: 0.3})
    assert curve("dsrl", "accuracy", "mean") == pytest.approx({0: 0.15, 2: 0.15, 4: 0.45, 5: 0.45})
    assert set(curve("dsrl", "response_tokens_mean", "mean").values()) == {0.0, 20.0, 40.0, 50.0}
    assert "space" not in set(curves["name"])
    assert curves[curves["name"] == "logp"]["value"].isna().all() and (curves["name"] == "logp").sum() == 9


def test_scores_do_not_depend_on_the_order_of_rows_and_evaluations(tmp_path, settings):
    succeed(*aggregate(settings, tmp_path))
    first = pd.read_parquet(tmp_path / "scores.parquet")
    for evaluation in settings["evaluations"]:
        for name in ("grades", "thoughts"):
            frame = pd.read_parquet(evaluation[name])
            frame.sample(frac=1, random_state=random.Random(name).randrange(99)).to_parquet(evaluation[name])
    settings["evaluations"].reverse()
    succeed(*aggregate(settings, tmp_path))
    second = pd.read_parquet(tmp_path / "scores.parquet")
    order = ["method", "benchmark", "grader", "metric"]
    pd.testing.assert_frame_equal(*(frame.sort_values(order, ignore_index=True) for frame in (first, second)))


def edit(path, change):
    change(pd.read_parquet(path)).to_parquet(path)


FAULTS = {
    "has no sample": (
        lambda s: edit(s["evaluations"][0]["grades"], lambda f: f.iloc[1:]),
        "do not have 4 answers",
    ),
    "a repeated sample": (
        lambda s: edit(s["evaluations"][0]["thoughts"], lambda f: pd.concat([f, f.iloc[:1]])),
        "occurs more than once",
    ),
    "too few samples for k": (lambda s: s.update(samples_per_question=8), "do not have 8 answers"),
    "too many samples": (lambda s: s.update(samples_per_question=2), "sample numbers reach 3"),
    "another question": (
        lambda s: [
            edit(s["evaluations"][1][name], lambda f: f.replace({"question": {"q2": "q3"}}))
            for name in ("grades", "thoughts")
        ],
        "other questions than",
    ),
    "thoughts of other answers": (
        lambda s: edit(s["evaluations"][1]["thoughts"], lambda f: f.assign(update=3)),
        "hold different answers",
    ),
    "a missing evaluated update": (
        lambda s: s["evaluations"][0].update(updates=[2, 3]),
        "but [2, 3] are to be evaluated",
    ),
    "a missing benchmark": (lambda s: s["benchmarks"].append("more"), "'more', 'ood'] are configured"),
    "an unknown main benchmark": (lambda s: s.update(main_benchmarks=["easy", "no"]), "have no evaluated question"),
    "no evaluation": (lambda s: s.update(evaluations=[]), "name no evaluation"),
    "an evaluation twice": (lambda s: s["evaluations"].append(s["evaluations"][0]), "list every evaluation once"),
    "a missing update": (
        lambda s: edit(s["histories"][0]["metrics"], lambda f: f[f["update"] != 2]),
        "updates are not exactly 1 … 4",
    ),
    "a missing parent": (lambda s: s["histories"].pop(0), "no history of warm seed 1"),
    "a parent that ends early": (
        lambda s: s["methods"]["dsrl"].update(first_update=3) or _short(s),
        "train that longer",
    ),
    "an unlisted history": (lambda s: s["methods"].pop("dsrl"), "does not list"),
    "a missing validation benchmark": (
        lambda s: edit(s["histories"][0]["validation"], lambda f: f.iloc[1:]),
        "not each of ['easy', 'hard'] once",
    ),
    "a validation of the parent": (
        lambda s: edit(s["histories"][1]["validation"], lambda f: f.assign(update=2)),
        "lies outside 3 … 5",
    ),
}


def _short(settings):
    settings["methods"]["warm"]["last_update"] = 1
    for name in ("metrics", "validation"):
        edit(settings["histories"][0][name], lambda frame: frame[frame["update"] <= 1])


@pytest.mark.parametrize("fault", FAULTS)
def test_aggregate_scores_refuses_incomplete_input(tmp_path, settings, fault):
    change, message = FAULTS[fault]
    change(settings)
    (tmp_path / "out").mkdir()
    fail(message, *aggregate(settings, tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())
