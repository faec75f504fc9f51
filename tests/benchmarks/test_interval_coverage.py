"""The table of coverages in docs/claims.md is what fewer draws give, and bears out what is said there."""

import math
import re
from collections.abc import Iterator

import pytest

import interval_coverage
from harness import ROOT
from prerl.core import statistics, two_level

SECTION = "## Statistics of the second registration"
LINE = re.compile(r"^\| (.+?) \| (\d+)(?:, then [\d.]+ on average)? \| (.+?) \| ([\d.]+) \| ([\d.]+) \|$", re.M)


def documented() -> dict[tuple[str, int, str], tuple[float, float]]:
    """(design, seeds, interval) -> coverage in %, mean half-width."""
    text = (ROOT / "docs/claims.md").read_text(encoding="utf-8").split(SECTION)[1]
    return {(row[0], int(row[1]), row[2]): (float(row[3]), float(row[4])) for row in LINE.findall(text)}


def simulated(many: int, few: int) -> Iterator[tuple[interval_coverage.Row, int]]:
    """Every row of the benchmark and its number of draws."""
    yield from ((row, many) for row in interval_coverage.over_seeds(many))
    yield from ((row, few) for row in interval_coverage.other_questions(few))
    yield from ((row, many) for row, _ in interval_coverage.sequential(many))


def test_fewer_draws_give_the_documented_coverages(monkeypatch):
    for module in (statistics, two_level):
        monkeypatch.setattr(module, "resample_counts", module.resample_counts)  # restored afterwards
    interval_coverage.share_resamples()
    table = documented()
    found = {}
    for row, draws in simulated(400, 60):
        half = sum(interval.high - interval.low for interval in row[3]) / 2 / draws
        found[row[:3]] = (interval_coverage.coverage(*row[3:]), half, draws)
    assert found.keys() == table.keys() and len(found) > 60
    for key, (share, half, draws) in found.items():
        expected, expected_half = table[key]
        error = 100 * math.sqrt(max(expected * (100 - expected), 100.0) / 1e4 / draws)
        assert abs(share - expected) < 4 * error, (key, share, expected)
        assert half == pytest.approx(expected_half, rel=0.3), (key, half, expected_half)


def test_what_the_document_says_of_the_intervals():
    table = documented()
    registered = {key[:2]: share for key, (share, _) in table.items() if key[2] == "t over seeds (registered)"}
    for (design, seeds), share in registered.items():
        if design.startswith(("difference, normal", "ratio")):
            assert 93 <= share <= 97, (design, seeds)
        if design in ("difference, one seed in five fails", "30 + 30 + 40 questions that differ"):
            assert share < 93, (design, seeds)
    crossed = {key[:2]: share for key, (share, _) in table.items() if key[2] == "crossed t"}
    assert min(crossed.values()) >= 93
    stein = [share for key, (share, _) in table.items() if key[2] == "two stages (Stein)"]
    assert stein and all(94 <= share <= 96 for share in stein)
