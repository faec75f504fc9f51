"""Throughput of both graders on distinct pairs; prints a markdown table. Run by `make bench`, or alone:

    python tests/benchmarks/grading.py [--pairs 100000] [--processes 2] [--list]

Pairs: every distinct ground truth of MATH train (../shared/data/math_train.parquet) with itself and with truths of
other questions, drawn with a fixed seed, the answers to one truth together, as in a file of samples. Without that file:
generated integers, fractions, roots and intervals instead, which says less. No pair is repeated, so none is saved by
grading repeats once; real samples repeat their answers and are faster.
"""

import argparse
import os
import random
import sys
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from prerl.grading import RIGHT, UNSCORABLE, WRONG, grade_math_verify  # noqa: E402
from prerl.rewards import is_equiv  # noqa: E402

MATH = ROOT.parent / "shared" / "data" / "math_train.parquet"


def math_truths() -> list[str]:
    import pyarrow.parquet as pq

    return [row["ground_truth"] for row in pq.read_table(MATH, columns=["reward_model"])["reward_model"].to_pylist()]


def generated_truths(count: int) -> list[str]:
    draw = random.Random(0)
    forms = ["{}", "{}", "-{}", r"\frac{{{}}}{{{}}}", r"{}\sqrt{{{}}}", "[{},{}]", "{}x+{}"]
    return [draw.choice(forms).format(draw.randrange(1, 1000), draw.randrange(2, 1000)) for _ in range(count)]


def distinct_pairs(truths: list[str], count: int) -> list[tuple[str, str]]:
    """`count` pairs (answer, truth): each distinct truth with itself and equally many others, drawn by frequency."""
    draw = random.Random(0)
    distinct = list(dict.fromkeys(truths))
    each = -(-count // len(distinct))
    if each > len(distinct):
        raise SystemExit(f"--pairs {count}: at most {len(distinct) ** 2} distinct pairs; ask for fewer")
    pairs = []
    for truth in distinct:
        answers = {truth: None}
        while len(answers) < each:
            answers[draw.choice(truths)] = None
        pairs += [(answer, truth) for answer in answers]
    return pairs[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the right pairs that Hendrycks calls wrong")
    arguments = parser.parse_args()
    found = MATH.is_file()
    pairs = distinct_pairs(math_truths() if found else generated_truths(3000), arguments.pairs)
    start = time.perf_counter()
    hendrycks = [is_equiv(*pair) for pair in pairs]
    rows = [("Hendrycks", 1, time.perf_counter() - start, sum(hendrycks), len(pairs) - sum(hendrycks), 0)]
    start = time.perf_counter()
    verdicts = grade_math_verify(pairs, arguments.processes, time_limit_s=5.0)
    counts = [verdicts.count(verdict) for verdict in (RIGHT, WRONG, UNSCORABLE)]
    rows.append(("math-verify", arguments.processes, time.perf_counter() - start, *counts))
    print(f"{len(pairs)} distinct pairs of {'MATH train truths' if found else 'generated answers'};", end=" ")
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| grader | processes | s | pairs/s | right | wrong | unscorable |\n|---|---:|---:|---:|---:|---:|---:|")
    for name, processes, seconds, *counts in rows:
        print(f"| {name} | {processes} | {seconds:.1f} | {len(pairs) / seconds:.0f} | {' | '.join(map(str, counts))} |")
    if arguments.list:
        only = (pair for pair, own, verdict in zip(pairs, hendrycks, verdicts, strict=True) if verdict == RIGHT != own)
        print(*islice((pair for pair in only if not is_equiv(*pair)), 200), sep="\n")


if __name__ == "__main__":
    main()
