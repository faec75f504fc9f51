"""Every number of the paper that we print or compare with, stated once, each with our confidence in it.

Grades: A abstract or official code, read directly; B notes that quote the full text, no second source; C digests; D our
inference. What is not known (most cells of its tables) is not here, and the cell stays empty. docs/claims.md says what
each claim is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

GRADE = "B"
"""Of MEANS, OOD_GAINS, the inner products and WARMUP_BEST."""

MEANS = {
    "qwen3-4b": {"base": 41.26, "grpo": 55.79, "dsrl": 57.54, "nsr_rl_warmup": 54.38},
    "qwen3-8b": {"base": 41.62, "grpo": 57.00, "dsrl": 58.47},
}
"""Unweighted mean of the six main benchmarks, Avg@32 in %, by model and method."""

OOD_GAINS = {
    "qwen3-4b": {"gpqa_diamond": 3.79, "mmlu_pro": 5.37},
    "qwen3-8b": {"gpqa_diamond": 2.52, "mmlu_pro": 4.32, "humaneval": 2.44},
}
"""Gains of DSRL out of distribution in percentage points; over which method is not stated."""

COSINE = 0.44
INNER_MEAN, INNER_LEAST, INNER_MOST, NEGATIVE_PERCENT = 9.23, 0.94, 46.18, 0
"""Inner products of the gradients, Qwen3-4B on AMC23, 400 rollouts; of summed or mean log-probs is not stated."""

TRANSITIONS, REFLECTIONS = 14.89, 6.54
"""Thoughts of NSR-PreRL at 20 updates over those of the base (the reference is our inference), Qwen3-4B on AMC23."""

WARMUP_BEST = (10, 25)
"""Lengths S of the warm-up that come out best, bounds included."""

UPDATES, COLLAPSE_UPDATE = 348, 150
"""Updates of a run (A), and about when PreRL on all samples collapses (B)."""

FEWER_STEPS = (2.5, 1.6)
"""Steps of GRPO over those of DSRL to 45 % and 58 %; the metric is not stated."""

NSR_FAST_PERCENT = 86
"""AMC23 after 20 updates of NSR-PreRL, for which RL needs 60 or more."""


@dataclass(frozen=True)
class Stated:
    """A claim in plain words; the paper's value, its grade, and the number that our interval may cover (or None)."""

    says: str
    text: str
    grade: str
    number: float | None = None


def _gain(model: str) -> Stated:
    base, grpo, dsrl = (MEANS[model][method] for method in ("base", "grpo", "dsrl"))
    says = f"DSRL ends above GRPO ({model.title().replace('b', 'B')}): mean of the main benchmarks."
    return Stated(says, f"{dsrl - grpo:+.2f} ({base:.2f} / {grpo:.2f} / {dsrl:.2f})", GRADE, round(dsrl - grpo, 2))


def _space() -> Stated:
    dsrl, other = MEANS["qwen3-4b"]["dsrl"], MEANS["qwen3-4b"]["nsr_rl_warmup"]
    says = "The space of the warm-up matters: pushing the same kind of samples away in P(y|x) is a worse start."
    return Stated(says, f"{dsrl - other:+.2f} ({dsrl} − {other})", GRADE, round(dsrl - other, 2))


def _out_of_distribution() -> Stated:
    small, large = OOD_GAINS["qwen3-4b"], OOD_GAINS["qwen3-8b"]
    both = {"gpqa_diamond": "GPQA-Diamond", "mmlu_pro": "MMLU-Pro"}
    parts = [f"{name} {small[key]:+.2f} / {large[key]:+.2f}" for key, name in both.items()]
    parts.append(f"HumanEval {large['humaneval']:+.2f} (8B)")
    return Stated("DSRL's gain carries over to other tasks.", f"{'; '.join(parts)} (reference not stated)", GRADE)


THOUGHT_GRADE = "A (value), D (reference)"
CLAIMS = {
    "alignment": Stated(
        "Raising log P(y) raises log P(y|x) too: their gradients point the same way.",
        f"{NEGATIVE_PERCENT} % negative; cosine {COSINE}",
        GRADE,
        COSINE,
    ),
    "alignment_excess": Stated(
        "The alignment is about the problem at hand: it is closer with its own x than with another problem's. (Our "
        "test: the paper has no such control, but its reading needs it.)",
        "",
        GRADE,
    ),
    "transitions": Stated(
        "Twenty updates of NSR-PreRL multiply the changes of approach in an answer.",
        str(TRANSITIONS),
        THOUGHT_GRADE,
        TRANSITIONS,
    ),
    "reflections": Stated(
        "Twenty updates of NSR-PreRL multiply the reflections in an answer.",
        str(REFLECTIONS),
        THOUGHT_GRADE,
        REFLECTIONS,
    ),
    "nsr_fast": Stated(
        "NSR-PreRL reaches in 20 updates what RL needs 60 or more for.", f"AMC23 {NSR_FAST_PERCENT} %", GRADE
    ),
    "prerl_collapse": Stated("PreRL on all samples keeps up with RL at first, then collapses.", "", GRADE),
    "psr_degrades": Stated("In P(y), learning from right answers alone makes the model worse.", "", GRADE),
    "nsr_long": Stated("Too much NSR-PreRL makes answers too long.", "", GRADE),
    "main_4b": _gain("qwen3-4b"),
    "main_8b": _gain("qwen3-8b"),
    "warmup_space": _space(),
    "efficiency": Stated(
        "DSRL reaches the same accuracy in fewer updates than GRPO.",
        " / ".join(map(str, FEWER_STEPS)) + " (metric not stated)",
        GRADE,
        FEWER_STEPS[0],
    ),
    "warmup_steps": Stated("A warm-up of 10 to 25 updates is best; shorter and longer ones lose.", "", GRADE),
    "ood": _out_of_distribution(),
    "passk": Stated("DSRL's pass@K is at least GRPO's, whatever K.", "", "C"),
    "solved": Stated("Already during the warm-up, more problems have every sample right.", "", GRADE),
    "behaviours": Stated(
        "DSRL raises the ceiling of subgoal setting, enumeration, verification and backtracking.", "", GRADE
    ),
}
"""Claim -> what the paper states about it."""
