"""Seeds added until a claim's interval has a stated width: Stein's two stages (core/power.py), beside the registered.

The first stage are the scale's seeds. Their spread alone decides how many more there are, and gives the interval of
all; docs/claims.md says why that is enough of a correction, and what stopping at the first narrow t interval would do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from prerl.core.errors import UserError
from prerl.core.power import two_stage_interval, two_stage_seeds
from prerl.publishing.claims import CLAIMS, Claim, Evidence
from prerl.publishing.verdicts import NO_VERDICT, verdict

READ = ("answers", "curves")  # what a claim may read: these are made for further seeds


def requested(settings: Mapping) -> tuple[Claim, float]:
    """The claim of `more_seeds` and the half-width in the unit of its per-seed values (a ratio's logarithm)."""
    request = settings["more_seeds"]
    claims = {claim.name: claim for claim in CLAIMS if claim.reads in READ and claim.methods}
    if request["claim"] not in claims:
        raise UserError(f"more_seeds.claim: {request['claim']!r} is not one of {', '.join(claims)}: name one of them")
    claim, half = claims[request["claim"]], float(request["half_width"])
    if not claim.is_ratio:
        return claim, half
    if half <= 1:
        raise UserError(
            f"more_seeds.half_width: {half}, but {claim.name} is a ratio: give a factor above 1, such as 1.3"
        )
    return claim, math.log(half)


def methods_of(claim: Claim, settings: Mapping) -> list[str]:
    """The methods that further seeds must train for this claim."""
    sweep = list(settings["warmup"]["s_values"].values()) if claim.name == "warmup_steps" else []
    return [name for name in settings["methods"] if name in (*claim.methods, *sweep)]


def choose(evidence: Evidence) -> dict:
    """What to run: claim, methods, all seeds with the first ones in front, the number that the width needs.

    At most `more_seeds.most_seeds` in all: the interval of fewer than needed holds as well, it is only wider.
    """
    settings, request = evidence.settings, evidence.settings["more_seeds"]
    claim, half = requested(settings)
    first = list(settings["seeds"])
    if len(first) < 2:
        raise UserError(f"seeds: {first}: the first stage needs at least two seeds to see a spread; give two or more")
    values = claim.measure(evidence).values.reindex(first).to_numpy()
    if np.ptp(values) == 0:
        raise UserError(
            f"{claim.name} is equal in all of the seeds {first}, which shows no spread to plan by: give more"
        )
    needed = two_stage_seeds(values, half, settings["confidence"])
    further = min(needed, max(request["most_seeds"], len(first))) - len(first)
    seeds = first + [request["next_seed"] + number for number in range(further)]
    return {"claim": claim.name, "methods": methods_of(claim, settings), "seeds": seeds, "needed": needed}


def row(evidence: Evidence, chosen: Mapping) -> tuple[dict, np.ndarray]:
    """The row of table_more_seeds, and the per-seed values (of a ratio: logarithms) of `chosen["seeds"]`."""
    settings, request = evidence.settings, evidence.settings["more_seeds"]
    claim, _ = requested(settings)
    first = len(settings["first_seeds"])
    values = claim.measure(evidence).values.reindex(chosen["seeds"]).to_numpy()
    found = two_stage_interval(values, first, settings["confidence"])
    ours, low, high = (math.exp(x) if claim.is_ratio else x for x in found)
    return {
        "claim": claim.name,
        "ours": ours,
        "ci_low": low,
        "ci_high": high,
        "half_width": high / ours if claim.is_ratio else high - ours,
        "stated_half_width": request["half_width"],
        "first_seeds": first,
        "seeds": len(values),
        "needed": chosen["needed"],
        "verdict": verdict(low, high, claim.null, claim.side) if settings["verdicts"] else NO_VERDICT,
    }, values
