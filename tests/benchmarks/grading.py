"""Throughput of both graders on 100,000 distinct pairs, and the pairs that math-verify alone calls right.

Pairs: every distinct ground truth of MATH train (../shared/data/math_train.parquet) with itself and with truths of
other questions, drawn with a fixed seed, the answers to one truth together, as in a file of samples. Without that file:
generated integers, fractions, roots and intervals instead, which says less. No pair is repeated, so none is saved by
grading repeats once; real samples repeat their answers and are faster.
"""

from __future__ import annotations

import os
import random

import harness
from prerl.evaluation.grading import RIGHT, UNSCORABLE, WRONG, grade_math_verify
from prerl.rollouts.rewards import is_equiv

MATH = harness.ROOT.parent / "shared" / "data" / "math_train.parquet"
PROCESSES = 2


def math_truths() -> list[str]:
    """The ground truths in file order."""
    import pyarrow.parquet as pq  # not above: every grading worker imports this file again

    return [row["ground_truth"] for row in pq.read_table(MATH, columns=["reward_model"])["reward_model"].to_pylist()]


def generated_truths(count: int) -> list[str]:
    """Answers of seven forms with random numbers."""
    draw = random.Random(0)
    forms = ["{}", "{}", "-{}", r"\frac{{{}}}{{{}}}", r"{}\sqrt{{{}}}", "[{},{}]", "{}x+{}"]
    return [draw.choice(forms).format(draw.randrange(1, 1000), draw.randrange(2, 1000)) for _ in range(count)]


def distinct_pairs(truths: list[str], count: int) -> list[tuple[str, str]]:
    """`count` pairs (answer, truth): each distinct truth with itself and equally many others, drawn by frequency."""
    draw = random.Random(0)
    distinct = list(dict.fromkeys(truths))
    each = -(-count // len(distinct))
    pairs = []
    for truth in distinct:
        answers = {truth: None}
        while len(answers) < each:
            answers[draw.choice(truths)] = None
        pairs += [(answer, truth) for answer in answers]
    return pairs[:count]


def main() -> None:
    count = 2_000 if harness.quick(__doc__.splitlines()[0]) else 100_000
    pairs = distinct_pairs(math_truths() if MATH.is_file() else generated_truths(3000), count)
    verdicts: dict[str, list] = {}
    graders = {
        ("Hendrycks", 1): lambda: [RIGHT if is_equiv(*pair) else WRONG for pair in pairs],
        ("math-verify", PROCESSES): lambda: grade_math_verify(pairs, PROCESSES, time_limit_s=5.0),
    }
    rows = []
    for (name, processes), grade in graders.items():
        seconds = harness.seconds(lambda name=name, grade=grade: verdicts.update({name: grade()}))
        counts = [f"{verdicts[name].count(verdict):,}" for verdict in (RIGHT, WRONG, UNSCORABLE)]
        rows.append([name, str(processes), f"{seconds:.1f}", f"{len(pairs) / seconds:,.0f}", *counts])
    both = zip(pairs, *verdicts.values(), strict=True)
    alone = [pair for pair, hendrycks, math_verify in both if math_verify == RIGHT != hendrycks]
    harness.report(
        __file__,
        "Grading",
        f"{len(pairs):,} distinct pairs of {'MATH train truths' if MATH.is_file() else 'generated answers'}, load "
        f"average {os.getloadavg()[0]:.1f}.",
        harness.table(["grader", "processes", "seconds", "pairs a second", "right", "wrong", "unscorable"], rows),
        "Right to math-verify alone (answer, truth):",
        *(f"    {answer}    {truth}" for answer, truth in alone),
    )


if __name__ == "__main__":
    main()
