"""An objective with the settings that a test changes."""

from prerl.objectives.objective import Objective

SETTINGS = {
    "space": "posttrain",
    "samples": "all",
    "coefficient": 1.0,
    "advantage_std": True,
    "eos_in_mask": True,
    "token_mean": "global",
    "max_tokens_per_micro_batch": 40,
    "ranks": 2,
    "clip_low": 0.2,
    "clip_high": 0.2,
}


def objective(**changes):
    return Objective(**SETTINGS | changes)
