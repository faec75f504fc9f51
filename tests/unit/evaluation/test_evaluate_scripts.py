"""grade_samples, count_thoughts and aggregate_scores, run as the rules run them, on small files made by hand."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from table_main import grader_cells

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"
GRADING = {"processes": 1, "time_limit_s": 10.0}
KEY = ["update", "benchmark", "question", "sample"]
WORDS = ["<eos>", "\n\n", "Wait", "Alternatively", "so", "7"]


def run(script, *arguments):
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def succeed(script, *arguments):
    result = run(script, *arguments)
    assert result.returncode == 0, result.stderr
    return result


def fail(match, script, *arguments):
    """The script ends with an error whose last line holds `match`, and leaves no output and no temporary file."""
    result = run(script, *arguments)
    assert result.returncode != 0
    assert match in result.stderr.strip().splitlines()[-1]
    output = Path(arguments[-1])
    assert not list(output.parent.glob(f"*{output.name}*"))


def write_questions(folder, name, answers):
    rows = [{"id": q, "problem": "?", "answer": a, "level": "1", "source": "test"} for q, a in answers.items()]
    path = folder / f"{name}.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def write_samples(path, texts):
    """`texts`: {(update, benchmark, question): [text, …]}"""
    rows = [
        dict(zip(KEY, (*key, i), strict=True)) | {"text": text, "token_ids": [5, 0], "finish_reason": "stop"}
        for key, samples in texts.items()
        for i, text in enumerate(samples)
    ]
    pd.DataFrame(rows).astype({"update": "int32", "sample": "int32"}).to_parquet(path)
    return path


TEXTS = {
    (0, "easy", "q1"): [r"so \boxed{7}", r"\boxed{8}"],
    (0, "easy", "q2"): [r"\boxed{0.25}", "… and 1/4 is"],
    (0, "hard", "q1"): [r"\boxed{9^{9^{9^{9}}}}", r"\boxed{7} \boxed{3"],
    (5, "easy", "q1"): [r"\boxed{7}", r"\boxed{7}"],
    (5, "easy", "q2"): [r"\boxed{\frac14}", r"\boxed{1/4}"],
    (5, "hard", "q1"): [r"\boxed{x = 3}", r"\boxed{4}"],
}


@pytest.fixture
def questions(tmp_path):
    return [
        write_questions(tmp_path, "easy", {"q1": "7", "q2": r"\frac{1}{4}"}),
        write_questions(tmp_path, "hard", {"q1": "3"}),  # the same id as in easy: another question
    ]


def grade(samples, questions, grades, settings=GRADING):
    inputs = ["--settings", json.dumps(settings), "--samples", samples, "--questions", *questions]
    return ["grade_samples", *inputs, "--grades", grades]


def test_grade_samples(tmp_path, questions):
    samples = write_samples(tmp_path / "samples.parquet", TEXTS)
    settings = {"processes": 2, "time_limit_s": 3.0}
    result = succeed(*grade(samples, questions, tmp_path / "new" / "grades.parquet", settings))
    assert "1 unscorable, 2 without a box" in result.stdout
    grades = pd.read_parquet(tmp_path / "new" / "grades.parquet")
    assert list(grades.columns) == [*KEY, "hendrycks", "math_verify", "boxed"]
    found = grades.set_index(KEY)
    expected = {
        (0, "easy", "q1"): [(True, "right", "7"), (False, "wrong", "8")],
        (0, "easy", "q2"): [(False, "right", "0.25"), (False, "wrong", None)],
        (0, "hard", "q1"): [(False, "unscorable", "9^{9^{9^{9}}}"), (False, "wrong", None)],
        (5, "easy", "q1"): [(True, "right", "7")] * 2,
        (5, "easy", "q2"): [(True, "right", r"\frac14"), (True, "right", "1/4")],
        (5, "hard", "q1"): [(True, "right", "x = 3"), (False, "wrong", "4")],
    }
    for key, rows in expected.items():
        for i, (hendrycks, math_verify, boxed) in enumerate(rows):
            row = found.loc[(*key, i)]
            assert (row["hendrycks"], row["math_verify"]) == (hendrycks, math_verify), (key, i)
            assert row["boxed"] == boxed or (boxed is None and pd.isna(row["boxed"]))
    assert not list((tmp_path / "new").glob(".*"))


def test_grades_do_not_depend_on_the_order_of_samples(tmp_path, questions):
    texts = {key: [text for text in samples if "9^" not in text] * 2 for key, samples in TEXTS.items()}
    samples = write_samples(tmp_path / "samples.parquet", texts)
    succeed(*grade(samples, questions, tmp_path / "a.parquet"))
    pd.read_parquet(samples).sample(frac=1, random_state=0).to_parquet(samples)
    succeed(*grade(samples, questions[::-1], tmp_path / "b.parquet"))
    first, second = (pd.read_parquet(tmp_path / f"{x}.parquet").sort_values(KEY, ignore_index=True) for x in "ab")
    pd.testing.assert_frame_equal(first, second)


def test_unit_and_tolerance_are_for_math_verify_alone(tmp_path):
    plain = write_questions(tmp_path, "plain", {"q1": "4.2"})
    both = write_questions(tmp_path, "both", {"q1": "45", "q2": "4.2", "q3": "4.2"})
    pd.read_parquet(both).assign(unit=["minute", "%", None], tolerance=[None, 0.1, None]).to_parquet(both)
    texts = {
        (0, "plain", "q1"): [r"\boxed{4.2}", r"\boxed{4.3}"],
        (0, "both", "q1"): [r"\boxed{45\text{ minutes}}", r"\boxed{45\text{ hours}}"],
        (0, "both", "q2"): [r"\boxed{4.3\%}", r"\boxed{4.4\%}"],
        (0, "both", "q3"): [r"\boxed{4.2}", r"\boxed{4.3}"],
    }
    samples = write_samples(tmp_path / "samples.parquet", texts)
    succeed(*grade(samples, [plain, both], tmp_path / "grades.parquet"))
    grades = pd.read_parquet(tmp_path / "grades.parquet")
    assert list(grades["math_verify"]) == ["right", "wrong"] * 4
    # any \text{ unit} is dropped
    assert list(grades["hendrycks"]) == [True, False, True, True, False, False, True, False]


def test_grade_samples_refuses_incomplete_input(tmp_path, questions):
    output = tmp_path / "out" / "grades.parquet"
    samples = write_samples(tmp_path / "samples.parquet", TEXTS)
    fail("without a ground truth", *grade(samples, questions[:1], output))
    less = {key: value for key, value in TEXTS.items() if key != (5, "hard", "q1")}
    fail("has no sample of 1 questions", *grade(write_samples(tmp_path / "less.parquet", less), questions, output))
    frame = pd.read_parquet(samples)
    pd.concat([frame, frame.iloc[:1]]).to_parquet(tmp_path / "twice.parquet")
    fail("occurs more than once", *grade(tmp_path / "twice.parquet", questions, output))
    frame.iloc[:0].to_parquet(tmp_path / "none.parquet")
    fail("it holds no answer", *grade(tmp_path / "none.parquet", questions, output))
    pd.concat([pd.read_parquet(questions[0])] * 2).to_parquet(questions[0])
    fail("occurs twice", *grade(samples, questions, output))


def test_a_missing_math_verify_is_an_error_and_makes_nothing_unscorable(tmp_path, questions, monkeypatch):
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / "math_verify.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stubs"))
    samples = write_samples(tmp_path / "samples.parquet", TEXTS)
    fail("a grading worker did not start", *grade(samples, questions, tmp_path / "out" / "grades.parquet"))


def write_tokenizer(folder):
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken("<eos>", special=True)])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "manifest.json").write_text("{}")
    return folder / "manifest.json"


def test_count_thoughts(tmp_path):
    policy = write_tokenizer(tmp_path / "model")
    rows = [
        ([2, 4, 5, 1, 3, 5, 1, 4, 5, 0], "stop", 1, 1, 1),  # "Wait so 7" | "Alternatively 7" | "so 7" <eos>
        ([4, 2, 1, 1, 0], "stop", 0, 0, 1),
        ([1, 3, 1, 3], "length", 0, 2, 0),
        ([0], "stop", 0, 0, 0),
    ]
    frame = pd.DataFrame(
        [
            {"update": 3, "benchmark": "easy", "question": "q1", "sample": i, "token_ids": ids, "finish_reason": reason}
            for i, (ids, reason, *_) in enumerate(rows)
        ]
    )
    samples, thoughts = tmp_path / "samples.parquet", tmp_path / "thoughts.parquet"
    frame.to_parquet(samples)
    succeed("count_thoughts", "--samples", samples, "--policy", policy, "--thoughts", thoughts)
    counted = pd.read_parquet(thoughts)
    kinds = ["reflections", "transitions", "executions"]
    assert list(counted.columns) == [*KEY, "tokens", "truncated", *kinds]
    assert counted["tokens"].tolist() == [10, 5, 4, 1]
    assert counted["truncated"].tolist() == [False, False, True, False]
    assert counted[kinds].to_numpy().tolist() == [list(row[2:]) for row in rows]

    output = tmp_path / "out" / "thoughts.parquet"
    fail("tokenizer.json is missing", "count_thoughts", "--samples", samples, "--policy", samples, "--thoughts", output)
    frame.assign(finish_reason="abort").to_parquet(tmp_path / "bad.parquet")
    bad = ["--samples", tmp_path / "bad.parquet", "--policy", policy, "--thoughts", output]
    fail("neither 'stop' nor", "count_thoughts", *bad)


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
