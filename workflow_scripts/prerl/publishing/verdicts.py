"""Rows of the claims table: interval over seeds, verdict, and beside it what these seeds could see and other intervals.

docs/claims.md is the contract; the verdict is registered there, what stands beside it decides nothing.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from prerl.core.constants import BASE
from prerl.core.power import MOST_SEEDS, POWER, seeds_to_see, smallest_effect
from prerl.core.statistics import Interval, median_interval, t_interval
from prerl.core.two_level import crossed_interval, hierarchical_bootstrap
from prerl.evaluation import results
from prerl.evaluation.contrasts import benchmarks_of, paired_question_bootstrap
from prerl.evaluation.results import NotMeasured
from prerl.publishing.claims import CLAIMS, Claim, Evidence, Scalar

NO_VERDICT = "none at this scale"
CANNOT_TELL = "cannot tell"
COLUMNS = ["claim", "paper_value", "grade", "ours", "ci_low", "ci_high", "n", "seeds", "verdict", "covers_paper"]
BESIDE = ["smallest_effect", "seeds_to_settle", "hierarchical_low", "hierarchical_high", "crossed_low", "crossed_high"]
BESIDE += ["median", "median_low", "median_high"]
"""Columns that decide nothing: what the seeds see with 80 % power, how many would settle a 'cannot tell' if the effect
is as seen (docs/claims.md), both intervals over seeds and questions, the seeds' median with its order statistics."""


def no_interval(low: float, high: float) -> bool:
    """NaN bounds (fewer than two seeds) or zero width: equal seeds show no spread to judge by."""
    return math.isnan(low) or math.isnan(high) or math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)


def verdict(low: float, high: float, null: float, side: str) -> str:
    """'agrees' / 'differs': the interval lies wholly on / against the paper's `side` (">", ">=", "<") of `null`.

    Otherwise, and with `no_interval`, 'cannot tell'. Worked: verdict(0.1, 2.0, 0, ">") is 'agrees',
    verdict(-2, -0.1, 0, ">") 'differs'.
    """
    if no_interval(low, high):
        return CANNOT_TELL
    if side == "<":
        low, high, null, side = -high, -low, -null, ">"
    if low > null or (side == ">=" and low == null):
        return "agrees"
    return "differs" if high < null else CANNOT_TELL


def covers(low: float, high: float, paper_number: float | None) -> str:
    """'yes' / 'no': the interval holds the paper's number; '' without a comparable number or without an interval."""
    if paper_number is None or no_interval(low, high):
        return ""
    return "yes" if low <= paper_number <= high else "no"


class ClaimRow(NamedTuple):
    """A row of the table (COLUMNS, BESIDE); the reason if it is not tested, else ''; the question bootstrap if any.

    The bootstrap's `value` is that of `ours` with seeds averaged first; it is shown beside the row and decides nothing.
    """

    row: dict
    reason: str
    question_bootstrap: Interval | None


def reported(claim: Claim, interval: Interval) -> Interval:
    """An interval of a claim's scalar in the reported unit: a ratio's scalar is its logarithm."""
    return Interval(*map(math.exp, interval)) if claim.is_ratio else interval


def refuse_untrained(claim: Claim, evidence: Evidence) -> None:
    """Raises NotMeasured if a method of the claim trained on no row in a seed: its policy is the base model."""
    model = evidence.settings["models"][claim.model_index]
    for method in (method for method in claim.methods if method != BASE):
        if seeds := results.untrained_seeds(evidence.curves[model], evidence.settings, method):
            raise NotMeasured(f"nothing was trained: {method} had no row in its loss, seeds {str(seeds)[1:-1]}")


def beside(scalar: Scalar, claim: Claim, found: str, settings: dict) -> dict:
    """Cells of BESIDE, in the unit of `ours`, empty where undefined; `found`: the verdict.

    The smallest effect and the number of seeds take the sd of the per-seed values as true: rough with few seeds.
    """
    values, confidence = scalar.values.to_numpy(), settings["confidence"]
    cells: dict[str, object] = dict.fromkeys(BESIDE, "")
    if scalar.interval is not None:  # over questions: not seeds but questions would settle it
        quantile = NormalDist().inv_cdf
        half = (scalar.interval.high - scalar.interval.low) / 2
        return cells | {"smallest_effect": half * (1 + quantile(POWER) / quantile((1 + confidence) / 2))}
    if len(values) < 2 or no_interval(*t_interval(values, confidence)[1:]):
        return cells
    spread = float(values.std(ddof=1))
    smallest = smallest_effect(len(values), confidence) * spread
    cells["smallest_effect"] = math.exp(smallest) if claim.is_ratio else smallest
    median = median_interval(values, confidence)
    cells |= dict(zip(BESIDE[6:], map(math.exp, median) if claim.is_ratio else median, strict=True))
    if found == CANNOT_TELL:
        null = math.log(claim.null) if claim.is_ratio else claim.null
        cells["seeds_to_settle"] = (
            seeds_to_see((float(values.mean()) - null) / spread, confidence) or f"over {MOST_SEEDS}"
        )
    if scalar.arms is not None:
        difference = scalar.arms[0] - scalar.arms[1]
        strata = benchmarks_of(difference)
        if min(strata.count(name) for name in set(strata)) > 1:
            by_seed = difference.to_numpy().T
            _, *cells_h = hierarchical_bootstrap(by_seed, strata, **settings["bootstrap"])
            _, *cells_c = crossed_interval(by_seed, strata, confidence)
            cells |= dict(zip(BESIDE[2:6], cells_h + cells_c, strict=True))
    return cells


def claim_row(claim: Claim, evidence: Evidence) -> ClaimRow:
    """The row of one claim; not tested where a method of it trained on no row in a seed.

    Raises ValueError if a seed's value is missing or not finite.
    """
    row: dict[str, object] = {
        **dict.fromkeys([*COLUMNS, *BESIDE], ""),
        "claim": claim.name,
        "paper_value": claim.stated.text,
        "grade": claim.stated.grade,
        "verdict": "not tested",
    }
    try:
        scalar = claim.measure(evidence)
        refuse_untrained(claim, evidence)
    except NotMeasured as reason:
        return ClaimRow(row, str(reason), None)
    values = scalar.values.reindex(evidence.settings["seeds"])
    if not np.isfinite(values).all():
        raise ValueError(f"claim {claim.name} is not finite for a seed: {values.to_dict()}; check that seed's inputs")
    interval = scalar.interval or t_interval(values.to_numpy(), evidence.settings["confidence"])
    mean, low, high = reported(claim, interval)
    found = verdict(low, high, claim.null, claim.side) if evidence.settings["verdicts"] else NO_VERDICT
    row |= {
        "ours": mean,
        "ci_low": low,
        "ci_high": high,
        "n": scalar.n,
        "seeds": len(values),
        "verdict": found,
        "covers_paper": covers(low, high, claim.stated.number) if evidence.settings["verdicts"] else "",
    }
    row |= beside(scalar, claim, found, evidence.settings)
    if scalar.arms is None:
        return ClaimRow(row, "", None)
    first, second = (arm.mean(axis=1) for arm in scalar.arms)
    return ClaimRow(row, "", paired_question_bootstrap(first, second, evidence.settings["bootstrap"]))


def claim_rows(evidence: Evidence) -> list[ClaimRow]:
    """The row of every claim of docs/claims.md."""
    return [claim_row(claim, evidence) for claim in CLAIMS]
