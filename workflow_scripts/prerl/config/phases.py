"""Block `methods`: a method is a list of phases, and how figures and tables show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prerl.config.key import COUNT, NAME, NOT_NEGATIVE, TEXT, Limits, key
from prerl.config.training import TokenMean

LINESTYLE = Limits(
    pattern=r"^(-|--|-\.|:|[1-9]\d*(,[1-9]\d*)+)$", remedy="give -, --, -., : or dashes such as '3,1,1,1' (on, off, …)"
)
COLOR = Limits(pattern="^#[0-9A-Fa-f]{6}$", remedy="give it as '#RRGGBB'")


@dataclass(frozen=True)
class PhaseEntry:
    """One phase of a method, as written in config.yaml. Optional keys default to the scale's."""

    space: Literal["pretrain", "posttrain", "mismatched"] = key(
        "posttrain optimises log P(y|x), pretrain log P(y), mismatched log P(y|another problem's x) as pretrain does"
    )
    samples: Literal["all", "positive", "negative"] = key(
        "samples in the loss, by the sign of their advantage", source="dp_actor.py 1230-1247, 1460-1476 (A)"
    )
    updates: int | Literal["rest"] = key("length of the phase; `rest`: up to training.total_updates", COUNT)
    coefficient: float | None = key("of the loss, in place of objective.{space}.coefficient", optional=True)
    advantage_std: bool | None = key("estimator grpo, in place of objective.{space}.advantage_std", optional=True)
    eos_in_mask: bool | None = key("in place of training.eos_in_mask", optional=True)
    token_mean: TokenMean | None = key("in place of training.token_mean", optional=True)
    optimizer: Literal["keep", "fresh"] | None = key(
        "after the first phase: keep the Adam moments of the phase before, or start without; default keep",
        optional=True,
        source="keep (A)",
    )
    estimator: Literal["grpo", "rloo", "reinforce_plus_plus", "psr_nsr", "gae"] | None = key(
        "of advantages; default grpo. psr_nsr: RLVR-Decomposed; gae: PPO with a critic",
        optional=True,
        source="verl's algorithm.adv_estimator",
    )
    rewards: Literal["graded", "swapped", "shuffled"] | None = key(
        "what the loss takes for right: the grades, their opposite, or a group's grades in random order; controls",
        optional=True,
    )
    start: Literal["trained", "random_step"] | None = key(
        "after the first phase: go on from its weights, or from the base after a random step of the same length in "
        "each tensor; a control, with `optimizer: fresh`",
        optional=True,
    )
    positive_advantage_weight: float | None = key(
        "estimator psr_nsr: advantage of a right answer, a wrong one has -1", NOT_NEGATIVE, optional=True
    )


@dataclass(frozen=True)
class Control:
    """The claims again, with other methods in the place of some: what else could explain a result?"""

    label: str = key("what is different, in figures and tables", TEXT)
    replace: dict[str, str] = key("method of a claim -> the method that takes its place", names=NAME)


@dataclass(frozen=True)
class MethodEntry:
    """A method. First phases that it shares with another method are trained once."""

    phases: list[PhaseEntry] = key("in order; each continues from the one before")
    target: Literal["baselines", "controls"] | None = key(
        "trained only for this target; default: for all", optional=True
    )
    label: str | None = key("name in figures and tables; default: the method's name", optional=True)
    color: str | None = key("of its lines; default: grey", COLOR, optional=True)
    linestyle: str | None = key("of its lines; default: solid", LINESTYLE, optional=True)
    marker: Literal["ring", ".", "o", "s", "D", "^", "v", "<", ">", "p", "h", "P", "X", "*", "+", "x"] | None = key(
        "as in matplotlib, or a large open ring; default: a dot", optional=True
    )
