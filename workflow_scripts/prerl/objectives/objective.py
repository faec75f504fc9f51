"""What one phase optimises: space, which rows by the sign of their advantage, estimator, token mean, clip range."""

from __future__ import annotations

from dataclasses import dataclass

from prerl.objectives.spaces import SPACES

REWARDS = ("graded", "swapped", "shuffled")
"""What the loss takes for right: the last two are controls (prerl.objectives.advantages.control_rewards)."""

ESTIMATORS = ("grpo", "rloo", "reinforce_plus_plus", "psr_nsr", "gae")
"""Names of the advantage estimators, verl's `algorithm.adv_estimator`; the others than grpo are in prerl.advantages."""


@dataclass(frozen=True)
class Objective:
    """What one phase optimises.

    space: "posttrain" (log P(y|x)), "pretrain" (log P(y)) or "mismatched" (log P(y|another x)). samples: "all",
    "positive" or "negative", by the sign of the advantage. coefficient multiplies the loss (official: 0.01 in the
    pre-train space, verl/workers/actor/dp_actor.py 1492-1503). advantage_std: divide by the group's standard deviation
    (official: RL yes, pre-train no). eos_in_mask: False leaves the closing EOS of finished answers out of the loss and
    of the token mean. token_mean: "official" (mean per micro-batch of verl's dynamic packing, weighted by its share of
    rows) or "global" (mean over all tokens in the loss); max_tokens_per_micro_batch and ranks describe the official
    packing. clip_low, clip_high: PPO's clip range. rewards: one of REWARDS. estimator: one of ESTIMATORS; advantage_std
    is grpo's, positive_advantage_weight psr_nsr's, gamma reinforce_plus_plus's and gae's, lam gae's.
    """

    space: str
    samples: str
    coefficient: float
    advantage_std: bool
    eos_in_mask: bool
    token_mean: str
    max_tokens_per_micro_batch: int
    ranks: int
    clip_low: float
    clip_high: float
    rewards: str = "graded"
    estimator: str = "grpo"
    positive_advantage_weight: float = 1.0
    gamma: float = 1.0
    lam: float = 1.0

    def __post_init__(self) -> None:
        for value, allowed in (
            (self.space, SPACES),
            (self.samples, ("all", "positive", "negative")),
            (self.token_mean, ("official", "global")),
            (self.rewards, REWARDS),
            (self.estimator, ESTIMATORS),
        ):
            if value not in allowed:
                raise ValueError(f"objective: {value!r} is none of {', '.join(allowed)}")
