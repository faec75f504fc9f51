r"""The training reward: extraction of the last `\boxed{}` and Hendrycks string equality."""

import ast
import random
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prerl.rollouts import rewards
from prerl.rollouts.rewards import hendrycks_reward, is_equiv, last_boxed, normalise_answer

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"The answer is \boxed{7}.", "7"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{}", ""),
        (r"so $\boxed 7$ it is", "7"),
        (r"\boxed 7", "7"),
        (r"\boxed 3, no: \boxed{7}", "7"),  # the official code would give '3, no: \boxed{7}'
        (r"\fbox{7}", "7"),
        (r"\boxed{7} and \fbox{8}", "7"),
        (r"\boxed{7} and \boxed{8", None),  # the last one is cut off: truncated, not 7
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed7", None),
        (r"\boxed", None),
        ("… and 42 is", None),
        ("", None),
    ],
)
def test_last_boxed(text, boxed):
    assert last_boxed(text) == boxed


def test_last_boxed_against_a_naive_scan():
    """Random brace strings: count depth character by character."""
    generator = random.Random(0)
    for _ in range(2000):
        tail = "".join(generator.choice("{}7x") for _ in range(12))
        depth, expected = 0, None
        for i, character in enumerate("{" + tail):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                expected = tail[: i - 1]
                break
        assert last_boxed(r"\boxed{1} \boxed{" + tail) == expected


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        (r"\tfrac12", r"\frac{1}{2}"),
        (r"\dfrac{3}{4}", r"\frac{3}{4}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        (r"\frac{72}1", r"\frac{72}1"),  # as published
        (r"\frac3", r"\frac3"),
        ("1/2", r"\frac{1}{2}"),
        ("-3/4", r"\frac{-3}{4}"),
        ("x/2", "x/2"),
        ("01/2", "01/2"),
        ("1/2/3", "1/2/3"),
        ("0.5", r"\frac{1}{2}"),
        (".5", r"\frac{1}{2}"),
        ("-.5", "-.5"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"2\sqrt{15}", r"2\sqrt{15}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        (r"\$18.90", "18.90"),
        (r"50\%", "50"),
        ("50%", "50%"),  # as the official code; Hendrycks' own file drops it
        (r"12\text{ cm}^2", "12"),
        (r"\text{Monday}", r"\text{Monday}"),
        ("x = 7", "7"),
        ("abc=7", "abc=7"),
        (r"10,\!000", "10,000"),
        ("1\n2", "12"),
        ("", ""),
        ("x=", ""),
        (r"1\text{ m}2\text{ s}", None),  # malformed: the published code raises
        (r"2\sqrt", None),
        (r"\sqrt\sqrt2", None),
        (r"\frac", None),
        (r"1\frac\frac12", None),
    ],
)
def test_normalise_answer(answer, normal):
    assert normalise_answer(answer) == normal


def test_malformed_answers_are_compared_as_they_stand():
    assert is_equiv(r"2\sqrt", r"2\sqrt")
    assert not is_equiv(r"2\sqrt", r"2 \sqrt")
    assert not is_equiv("2", r"2\text{ m}\text{ s}")


@pytest.mark.parametrize(
    ("text", "answer", "reward"),
    [
        (r"Hence $\boxed{\frac12}$.", r"\frac{1}{2}", 1.0),
        (r"Hence \boxed{0.5}", "1/2", 1.0),
        (r"\boxed{42}", "42", 1.0),
        ("… and 42 is", "42", 0.0),  # truncated and unboxed
        (r"\boxed{41} … and 42", "42", 0.0),
        (r"\boxed{42} or \boxed{4", "42", 0.0),
        (r"\boxed{0.25}", r"\frac{1}{4}", 0.0),  # equal as numbers, not as strings
        (r"\boxed{}", "0", 0.0),
    ],
)
def test_hendrycks_reward(text, answer, reward):
    assert hendrycks_reward(text, answer) == reward


def test_reward_is_total_on_random_latex():
    """No input raises, equality is reflexive and symmetric, and text before the last box does not matter."""
    generator = random.Random(1)
    pieces = ["\\frac", "\\sqrt", "\\text{ ", "\\boxed{", "\\boxed", "\\fbox{", "\\%", "\\left(", "\\"]
    pieces += list("{}1/=.%$x \n") + ["23"]
    for _ in range(5000):
        first, second = ("".join(generator.choice(pieces) for _ in range(generator.randrange(9))) for _ in range(2))
        assert is_equiv(first, first)
        assert is_equiv(first, second) == is_equiv(second, first)
        reward = hendrycks_reward(first, second)
        assert reward in (0.0, 1.0)
        if "\\boxed" in first:
            assert hendrycks_reward(r"\boxed{1} " + first, second) == reward


@pytest.mark.parametrize("name", ["amc2023_20times", "math_train"])
def test_every_real_ground_truth_is_right_against_itself(name):
    path = DATA / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is absent: put the file there (its address is in the data manifest)")
    truths = {row["ground_truth"] for row in pq.read_table(path, columns=["reward_model"])["reward_model"].to_pylist()}
    assert len(truths) > 20
    wrong = [truth for truth in truths if hendrycks_reward(rf"So the answer is $\boxed{{{truth}}}$.", truth) != 1.0]
    assert wrong == []
    assert all(hendrycks_reward(f"So the answer is {truth}", truth) == 0.0 for truth in truths if "boxed" not in truth)


def test_import_is_light():
    """The trainer imports it in every process: standard library only, and no module beyond `re`."""
    imports = [n for n in ast.walk(ast.parse(Path(rewards.__file__).read_text())) if isinstance(n, ast.Import)]
    assert [alias.name for node in imports for alias in node.names] == ["re"]
    code = "import sys, prerl.rollouts.rewards; print(sorted({'sympy', 'math_verify', 'numpy'} & set(sys.modules)))"
    folder = ROOT / "workflow_scripts"
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
