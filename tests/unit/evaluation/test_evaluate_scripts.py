"""grade_samples and count_thoughts, run as the rules run them, on small files made by hand."""

import json

import pandas as pd
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from job_scripts import fail, succeed

pytestmark = pytest.mark.slow

GRADING = {"processes": 1, "time_limit_s": 10.0}
KEY = ["update", "benchmark", "question", "sample"]
WORDS = ["<eos>", "\n\n", "Wait", "Alternatively", "so", "7"]


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
