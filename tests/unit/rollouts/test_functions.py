"""Rewards and thought rules of a file: what they may return, and that every fault is an error with the answer."""

import math
from fractions import Fraction

import numpy as np
import pytest

from prerl.config.functions import BUILT_IN_FILES, RewardSettings, ThoughtSettings, function_faults
from prerl.core.errors import UserError
from prerl.rollouts.built_in_rewards import exact, number, pattern
from prerl.rollouts.functions import FunctionCounter, Reward, checked_counts, checked_score, problem_row
from prerl.rollouts.rewards import hendrycks_reward

PROBLEMS = [{"id": "a-1", "problem": "1+1", "answer": "2", "level": "", "source": "x", "row": '{"hard": true}'}] * 2
FILE = """
import time
from helper_beside import LONG

def length(text, answer, row):
    return min(len(text), LONG) / LONG

def named(text, answer, row):
    return [("right", 0.75 * (text == answer)), ("hard", 0.25 * row["hard"])]

def changing(text, answer, row):
    return [(text, 0.5)]

def none(text, answer, row):
    return None

def large(text, answer, row):
    return 1.5

def broken(text, answer, row):
    return 1 / (len(text) - 2)

def slow(text, answer, row):
    time.sleep(60)

def count(text):
    return {"reflections": text.count("But"), "transitions": 0, "executions": 1}

def miscount(text):
    return {"reflections": -1, "transitions": 0, "executions": 1}
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "my_functions.py").write_text(FILE)
    (tmp_path / "helper_beside.py").write_text("LONG = 4\n")
    return tmp_path / "my_functions.py"


@pytest.mark.parametrize(
    ("returned", "value", "parts"),
    [
        (0.5, 0.5, {}),
        (True, 1.0, {}),
        (np.float32(0.25), 0.25, {}),
        ([("a", 0.75), ["b", -0.25]], 0.5, {"a": 0.75, "b": -0.25}),
        ([("a", 0.7), ("b", 0.2), ("c", 0.1)], 1.0, {"a": 0.7, "b": 0.2, "c": 0.1}),
        ([], 0.0, {}),
    ],
)
def test_a_reward_is_a_number_or_named_parts_with_that_sum(returned, value, parts):
    assert checked_score(returned) == (value, parts)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "a NoneType; return a number"),
        ("1.0", "a str; return a number"),
        (math.nan, "finite"),
        (1.01, r"lies in \[0, 1\]"),
        (-0.1, r"lies in \[0, 1\]"),
        ([("a", 0.6), ("b", 0.6)], r"lies in \[0, 1\]"),
        ([("a", 0.1), ("a", 0.1)], "a name of its own"),
        ([("mean", 0.1)], "a name of its own"),
        ([0.1, 0.2], "a list of .name, number. pairs"),
    ],
)
def test_anything_else_is_refused(returned, said):
    with pytest.raises((TypeError, ValueError), match=said):
        checked_score(returned)


def test_counts_are_three_whole_numbers():
    assert checked_counts({"executions": 3, "reflections": 1, "transitions": 2}) == (1, 2, 3)
    for wrong in ({"reflections": 1}, (1, 2, 3), {"reflections": 0.5, "transitions": 0, "executions": 0}):
        with pytest.raises(ValueError, match="reflections, transitions, executions"):
            checked_counts(wrong)


def test_a_row_has_the_columns_of_the_file_and_the_problems_own():
    row = problem_row({**PROBLEMS[0], "row": '{"hard": true, "id": "theirs"}'})
    assert row == {"id": "a-1", "problem": "1+1", "answer": "2", "level": "", "source": "x", "hard": True}
    assert problem_row({"id": "b", "answer": "3"}) == {"id": "b", "answer": "3"}


@pytest.mark.parametrize(
    ("text", "truth", "reward"),
    [
        (r"so \boxed{1,000}", "1000", 1),
        (r"\boxed{10,\!000.0}", "10000", 1),
        (r"\boxed{\dfrac{3}{6}}", "0.5", 1),
        (r"\boxed{0.50\text{ m}}", r"\frac12", 1),
        (r"\boxed{0.10000001}", "0.1", 0),
        (r"\boxed{2\sqrt{2}}", "2", 0),  # the box must be a number alone
        (r"\boxed{x} but 2", "2", 0),
        ("it is 3, no, -2/4.", "-0.5", 1),
        ("3-4", "4", 1),
        ("1/0", "0", 0),
        ("none", "0", 0),
        ("12345678901234567890.1", "12345678901234567890.2", 0),
    ],
)
def test_exact_number(text, truth, reward):
    assert number(text, truth, {}) == reward


def test_a_truth_that_is_no_number_is_an_error():
    assert exact("1.25") == Fraction(5, 4)
    with pytest.raises(ValueError, match="is no number; choose another reward"):
        number("2", r"\sqrt{2}", {})


def test_pattern_takes_the_last_match():
    rule = r"#### (.+)"
    assert [pattern(text, "7", {}, rule) for text in ("#### 8\n#### 7 ", "#### 7\n#### 8", "7")] == [1, 0, 0]


def test_the_official_reward_needs_no_worker():
    reward = Reward(None, 1)
    texts = [r"\boxed{2}", "2"]
    assert [score.value for score in reward.score(texts, PROBLEMS)] == [hendrycks_reward(text, "2") for text in texts]
    assert reward.pool is None


class TestInWorkers:
    pytestmark = pytest.mark.slow

    @pytest.fixture
    def reward(self, file):
        made = []

        def make(function, time_limit_s=20.0, pattern=None):
            name = f"{file}:{function}" if function not in BUILT_IN_FILES else function
            made.append(Reward(RewardSettings(function=name, time_limit_s=time_limit_s, pattern=pattern), 2))
            return made[-1]

        yield make
        for one in made:
            one.pool.pool.close()

    def test_scores_in_order(self, reward):
        texts = ["", "a", "abc", "abcdefg"] * 3
        scores = reward("length").score(texts, PROBLEMS * 6)
        assert [score.value for score in scores] == [0, 0.25, 0.75, 1] * 3

    def test_named_parts(self, reward):
        assert reward("named").score(["2", "3"], PROBLEMS) == [
            (1.0, {"right": 0.75, "hard": 0.25}), (0.25, {"right": 0.0, "hard": 0.25})
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("function", "said"),
        [
            ("none", "raised TypeError: it returned None, a NoneType; return a number"),
            ("large", r"raised ValueError: it returned 1.5; a reward lies in \[0, 1\]"),
            ("broken", r"raised ZeroDivisionError.*line 21\) on an answer to a-1; correct it.*'no'"),
            ("slow", "stopped at 1 s on an answer to a-1; make it faster, or raise reward.time_limit_s"),
            ("changing", r"returned the parts \['no'\], and before \['yes'\]"),
        ],
    )
    def test_a_fault_is_an_error_that_shows_the_answer(self, reward, function, said):
        with pytest.raises(UserError, match=said):
            reward(function, 1.0 if function == "slow" else 20.0).score(["yes", "no"], PROBLEMS)

    def test_a_file_that_cannot_be_loaded(self, reward, file):
        (file.parent / "helper_beside.py").unlink()
        with pytest.raises(UserError, match="cannot be loaded: raised ModuleNotFoundError.*helper_beside"):
            reward("length").score(["a", "b"], PROBLEMS)

    def test_built_in_pattern_and_number(self, reward):
        assert [s.value for s in reward("number").score(["2.0", "3"], PROBLEMS)] == [1, 0]
        assert [s.value for s in reward("pattern", pattern="= (.)").score(["= 2", "= 3"], PROBLEMS)] == [1, 0]

    def test_what_math_verify_cannot_score_is_counted_apart(self, reward):
        tower = r"\boxed{9^{9^{9^{9}}}}"
        texts = [r"\boxed{\frac{4}{2}}", r"\boxed{3}", tower, "2"]
        scores = reward("math_verify", 3.0).score(texts, PROBLEMS * 2)
        assert [score.value for score in scores] == [1, 0, 0, 0]
        assert [score.parts for score in scores] == [{"unscorable": float(i == 2)} for i in range(4)]

    def test_thoughts_by_a_function(self, file):
        counter = FunctionCounter(ThoughtSettings(function=f"{file}:count", time_limit_s=20.0), 1)
        assert counter.count_all([], ["But, But", "so"]) == [(2, 0, 1), (0, 0, 1)]
        counter.pool.pool.close()
        counter = FunctionCounter(ThoughtSettings(function=f"{file}:miscount", time_limit_s=20.0), 1)
        with pytest.raises(UserError, match="thoughts.function: .*miscount raised ValueError.*on an answer"):
            counter.count_all([], ["so"])
        counter.pool.pool.close()


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ({"function": "nowhere.py:f"}, "reward.function: nowhere.py is not there"),
        ({"function": "FILE:nothing"}, "defines no function 'nothing', only: length, named"),
        ({"function": "pattern"}, "reward.pattern: missing"),
        ({"function": "boxed", "pattern": "(.)"}, "reward.pattern: belongs to `function: pattern`"),
        ({"function": "pattern", "pattern": "("}, "is no regular expression"),
        ({"function": "pattern", "pattern": "(a)(b)"}, "has 2 groups; make one group"),
    ],
)
def test_what_is_refused_before_the_first_job(file, reward, said):
    reward["function"] = reward["function"].replace("FILE", str(file))
    (fault,) = function_faults({"reward": reward, "thoughts": {"function": "seal"}})
    assert said in fault
    broken = file.parent / "broken.py"
    broken.write_text("def f(:\n")
    (fault,) = function_faults({"reward": {"function": "boxed"}, "thoughts": {"function": f"{broken}:f"}})
    assert "thoughts.function" in fault and "cannot be read as Python (invalid syntax" in fault
