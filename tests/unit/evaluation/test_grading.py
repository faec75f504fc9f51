"""math-verify in killable processes: strictness, and isolation of what hangs, crashes and raises."""

import multiprocessing
import os
import resource
import threading
import time

import pytest
from math_verify import LatexExtractionConfig, parse
from sympy import srepr

from prerl.core import killable
from prerl.evaluation import grading
from prerl.evaluation.grading import grade_math_verify

pytestmark = pytest.mark.slow

TOWER = "9^{9^{9^{9}}}"  # a tower of powers: SymPy evaluates it for ever


@pytest.mark.parametrize(
    ("boxed", "truth", "verdict"),
    [
        ("7", "7", "right"),
        ("{7}", "7", "right"),
        (r"\frac{2}{4}", "0.5", "right"),
        (r"\{2, 1\}", r"\{1, 2\}", "right"),
        (r"2\sqrt{2}", r"\sqrt{8}", "right"),
        (r"\text{Monday}", r"\text{Monday}", "right"),
        ("x=5", "5", "right"),
        ("8", "7", "wrong"),
        ("-7", "7", "wrong"),
        ("the answer is 42", "42", "wrong"),
        ("… and 42 is", "42", "wrong"),
        ("", "7", "wrong"),
        (None, "42", "wrong"),  # nothing boxed, whatever the text says
        ("7", "", "unscorable"),  # a truth that does not parse can judge nothing
    ],
)
def test_verdicts(boxed, truth, verdict):
    if boxed is None:
        assert grade_math_verify([(boxed, truth)], workers=1, time_limit_s=1.0) == [verdict]
    else:
        assert grading.verify_boxed(boxed, truth) == verdict


@pytest.mark.parametrize(
    ("truth", "right", "wrong"),
    [
        (
            "69,84",
            ["69,84", "84, 69", r"\{84, 69\}", "$69$, $84$", r"84 \text{ and } 69"],
            ["69", "84", "69,85", "69,84,7"],
        ),
        ("69$,$84", ["69,84", "84, 69"], ["69", "69,85"]),  # as the data has it
        (
            "(1,1), (3,2)",
            ["(1,1),(3,2)", "(3,2), (1,1)"],
            ["(1,1)", "(3,2)", "(1,1),(2,3)", "(1,1),(3,2),(0,0)", "1,1,3,2"],
        ),
        ("f(x)=-1, f(x)=x+1", ["f(x)=-1,f(x)=x+1", "f(x)=1+x, f(x)=-1"], ["f(x)=-1", "f(x)=x+1", "f(x)=-1, f(x)=x-1"]),
        ("16,3,1,1", ["16,3,1,1", "1,16,1,3"], ["16,3,1", "16,3,3,1,1", "16,3,1,2"]),  # A, B, C, D: a repeat counts
        ("-2,-2", ["-2,-2", r"-2 \text{ and } -2"], ["-2", "-2,2"]),
        (r"90^{\circ},60^{\circ}", ["90,60", r"60^\circ, 90^\circ"], ["90", "90,30"]),
        (r"\frac{32}{9},\frac{1}{2}", [r"0.5, \frac{32}{9}"], [r"\frac{32}{9}", r"\frac{32}{9}, 2"]),
    ],
)
def test_lists_are_right_in_any_order_and_only_when_complete(truth, right, wrong):
    verdicts = {answer: grading.verify_boxed(answer, truth) for answer in right + wrong}
    assert verdicts == dict.fromkeys(right, "right") | dict.fromkeys(wrong, "wrong")


@pytest.mark.parametrize(
    ("truth", "unit", "right", "wrong"),
    [
        (
            "45",
            "minute",
            ["45", "45 minutes", r"45\text{ min}", r"45\,\mathrm{min}", "$45$ min."],
            [r"45\text{ hours}", "46 min"],
        ),
        ("8", "min", ["8", r"8\text{ minutes}"], ["8 h", r"8\text{ s}"]),
        (
            r"\frac{41}{12}",
            "km",
            [r"\frac{41}{12}\mathrm{~km}", r"\frac{41}{12} km"],
            [r"\frac{41}{12}\text{ m}", r"\frac{12}{41} km"],
        ),
        ("166", "$cm^2$", ["166", "166 cm^2", r"166\text{ cm}^{2}"], [r"166\text{ cm}", r"166\text{ m}^2", "165 cm^2"]),
        (
            r"\frac{600}{7}",
            "km/h",
            [r"\frac{600}{7}\text{ km/h}", r"\frac{600}{7}\mathrm{~km}/\mathrm{h}"],
            [r"\frac{600}{7} m/s"],
        ),
        ("4.2", "%", ["4.2", r"4.2\%", "4.2%", r"4.2\text{ percent}"], ["4.3", r"42\%"]),
        (
            "90,60",
            r"^{\circ}",
            [r"60^{\circ}, 90^\circ", r"90^\circ, 60\text{ degrees}"],
            [r"90^\circ", r"90^\circ,61^\circ"],
        ),
        ("7", "ducat", [r"7\text{ ducat}", "7"], ["7 km"]),  # a unit without other spellings
    ],
)
def test_the_unit_may_be_left_out_but_not_be_another(truth, unit, right, wrong):
    verdicts = {answer: grading.verify_boxed(answer, truth, unit) for answer in right + wrong}
    assert verdicts == dict.fromkeys(right, "right") | dict.fromkeys(wrong, "wrong")


@pytest.mark.parametrize(
    ("boxed", "verdict"),
    [
        ("4.2", "right"),
        ("4.3", "right"),  # 4.3 - 4.2 > 0.1 in floats: the 1 % of the official judge
        ("4.1", "right"),
        (r"4.25\%", "right"),
        (r"\frac{43}{10}", "right"),
        ("4.302", "wrong"),
        ("4.09", "wrong"),
        (r"\frac{9}{2}\%", "wrong"),
        ("x", "wrong"),
        ("4.2 + 0.01i", "wrong"),
        ("(4.2, 4.2)", "wrong"),
        (r"\frac{1}{0}", "wrong"),
        ("", "wrong"),
    ],
)
def test_tolerance(boxed, verdict):
    assert grading.verify_boxed(boxed, "4.2", "%", 0.1) == verdict
    assert grade_math_verify([(boxed, "4.2", "%", 0.1)], 1, 20.0) == [verdict]


def test_integers_need_no_parser():
    """What the short way gives is what math-verify's parser gives, signs and lengths at the edge included."""
    config = LatexExtractionConfig(boxed_match_priority=0)
    for text in ["0", "7", "-7", "10", "999999999999999", "-123456789012345"]:
        assert grading._INTEGER.fullmatch(text)
        parsed = parse(f"\\boxed{{{text}}}", extraction_config=[config], parsing_timeout=None)
        assert grading._parsed(text, True) == parsed
        assert srepr(grading._parsed(text, True)[0]) == srepr(parsed[0])
    assert not any(grading._INTEGER.fullmatch(text) for text in ["-0", "007", "1,000", "1 ", "", "1" * 16, "７"])


def test_an_answer_that_hangs_is_unscorable_and_changes_no_other_verdict():
    ordinary = [("7", "7"), ("8", "7"), (r"\frac12", "0.5"), (None, "7"), ("3", "4")]
    alone = grade_math_verify(ordinary, workers=1, time_limit_s=20.0)
    assert alone == ["right", "wrong", "right", "wrong", "wrong"]
    start = time.monotonic()
    mixed = grade_math_verify([(TOWER, "7"), *ordinary, (TOWER, "7"), ("7", TOWER)], workers=2, time_limit_s=2.0)
    assert mixed == ["unscorable", *alone, "unscorable", "unscorable"]
    assert time.monotonic() - start < 30
    assert not multiprocessing.active_children()


def test_an_answer_on_which_sympy_raises_is_unscorable():
    pairs = [("(1,2)", r"\frac{1}{0}"), ("(1,2)", "(1,2)")]
    with pytest.raises(ValueError, match="zoo"):
        grading.verify_boxed(*pairs[0])
    assert grade_math_verify(pairs, workers=1, time_limit_s=10.0) == ["unscorable", "right"]


def _misbehave(boxed: str, truth: str) -> str:
    if boxed == "exit":
        os._exit(3)
    if boxed == "raise":
        raise RecursionError("as SymPy does")
    if boxed == "limit":
        return str(resource.getrlimit(resource.RLIMIT_AS)[0])
    if boxed == "memory":
        return str(len(bytearray(6 << 30)))
    if boxed == "hang":
        time.sleep(600)
    if boxed == "thread":
        return str(threading.current_thread() is threading.main_thread())
    return f"{os.getpid()}:{boxed}={truth}"


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_crashed_and_raising_answers_are_unscorable_alone(workers):
    bad = ["exit", "raise", "memory", "hang"]
    pairs = [(str(i), "t") for i in range(6)]
    for i, name in enumerate(bad):
        pairs.insert(2 * i, (name, "t"))
    verdicts = grading._grade_pairs(_misbehave, pairs, workers, time_limit_s=2.0)
    assert sorted(verdicts) == sorted(set(pairs))
    assert {name: verdicts[name, "t"] for name in bad} == dict.fromkeys(bad, "unscorable")
    assert [verdicts[str(i), "t"].split(":")[1] for i in range(6)] == [f"{i}=t" for i in range(6)]
    assert not multiprocessing.active_children()


def test_a_worker_serves_many_answers_in_its_main_thread_with_bounded_memory():
    verdicts = grading._grade_pairs(_misbehave, [(name, "t") for name in ["thread", "limit", *"0123456789"]], 1, 5.0)
    assert verdicts.pop(("thread", "t")) == "True"
    assert verdicts.pop(("limit", "t")) == str(4 << 30)
    processes = {verdict.split(":")[0] for verdict in verdicts.values()}
    assert len(processes) == 1 and str(os.getpid()) not in processes


_graded: list[str] = []


def _die_second(boxed: str, truth: str) -> str:
    """A worker dies of its second pair, whichever that is, as when the first has left no memory."""
    _graded.append(boxed)
    if len(_graded) == 2 or boxed == "exit":
        os._exit(3)
    return "right"


def test_a_pair_is_graded_again_where_earlier_ones_may_have_killed_the_worker():
    verdicts = grading._grade_pairs(_die_second, [(name, "t") for name in ["1", "2", "exit", "3"]], 1, 20.0)
    assert verdicts == {("1", "t"): "right", ("2", "t"): "right", ("exit", "t"): "unscorable", ("3", "t"): "right"}


def _append_line(path: str, line: str) -> str:
    with open(path, "a") as file:
        file.write(line + "\n")
    return "right"


def test_identical_pairs_are_graded_once(monkeypatch, tmp_path):
    seen = []

    def grade_pairs(grade, pairs, workers, time_limit_s):
        seen.extend(dict.fromkeys(pairs))
        return dict.fromkeys(pairs, "right")

    monkeypatch.setattr(grading, "_grade_pairs", grade_pairs)
    assert grade_math_verify([("1", "1"), ("1", "1"), (None, "1"), ("1", "2")], 1, 1.0) == [
        "right",
        "right",
        "wrong",
        "right",
    ]
    assert seen == [("1", "1"), ("1", "2")]
    monkeypatch.undo()
    log = tmp_path / "graded"
    grading._grade_pairs(_append_line, [(str(log), "t")] * 3 + [(str(log), "u")], 3, 5.0)
    assert sorted(log.read_text().split()) == ["t", "u"]


def test_a_worker_that_cannot_start_is_an_error_and_no_verdict(monkeypatch):
    monkeypatch.setattr(killable, "_serve", _die_at_once)
    with pytest.raises(RuntimeError, match="pip install -r requirements.txt"):
        grade_math_verify([("7", "7")], workers=1, time_limit_s=5.0)


def _die_at_once(connection, grade):
    os._exit(1)


def test_no_pairs_starts_no_process():
    assert grade_math_verify([], workers=2, time_limit_s=1.0) == []
    assert grade_math_verify([(None, "1")] * 3, workers=2, time_limit_s=1.0) == ["wrong"] * 3


@pytest.mark.parametrize(("workers", "limit"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_bad_settings_are_refused(workers, limit):
    with pytest.raises(ValueError, match="at least 1 worker"):
        grade_math_verify([("7", "7")], workers, limit)
