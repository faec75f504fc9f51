"""How figures and tables show a method: name, colour, line style and marker, from config.yaml."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from prerl.core.constants import BASE

# Okabe and Ito (2008): safe for colour-blind readers
BLACK, GREY, ORANGE, BLUE, VERMILLION = "#000000", "#777777", "#E69F00", "#0072B2", "#D55E00"
GREEN, PURPLE, SKY = "#009E73", "#CC79A7", "#56B4E9"
RING = {"marker": "o", "markersize": 5.5, "markerfacecolor": "none"}  # visible under other markers
RULE = {"color": GREY, "linestyle": ":", "marker": None}
UNTRAINED = {"label": "Base", "color": GREY, "linestyle": "1,1", "marker": "x"}


def _entry(settings: dict, method: str) -> dict:
    return UNTRAINED if method == BASE else settings["methods"].get(method, {})


def label(settings: dict, method: str) -> str:
    """Name of a method as printed: its label, 'DSRL, S = 5' for one of the sweep, or its name in config.yaml."""
    if written := _entry(settings, method).get("label"):
        return written
    sweep = settings["warmup"]
    for steps, swept in sweep["s_values"].items():
        if swept == method != sweep["method"] and int(steps):  # S = 0 is the method after the warm-up
            return f"{label(settings, sweep['method'])}, S = {steps}"
    return method


def style(settings: dict, method: str) -> dict:
    """Line of a method, as matplotlib takes it: colour, line style, marker; a grey line with dots by default."""
    entry = _entry(settings, method)
    return line(entry.get("color", GREY), entry.get("linestyle", "-"), entry.get("marker", "."))


def distinct_styles(settings: dict, first: Sequence[str]) -> dict[str, dict]:
    """Lines of all methods in one chart: a method keeps its own unless one before it has it; those of `first` first.

    Figures draw methods of one colour in different panels.
    """
    spare = itertools.cycle(itertools.product(("-", "--", "-.", ":"), (GREEN, PURPLE, ORANGE, SKY)))
    found: dict[str, dict] = {}
    for method in sorted(settings["methods"], key=lambda name: (name not in first, [*first, name].index(name))):
        look = style(settings, method)
        while look in found.values():
            linestyle, color = next(spare)
            look = line(color, linestyle, ".")
        found[method] = look
    return found


def line(color: str, linestyle: str, marker: str) -> dict:
    """Matplotlib's arguments; dashes are written '3,1,1,1' (on, off …), the marker `ring` is a large open circle.

    >>> line("#000000", "3,1", "s")
    {'color': '#000000', 'linestyle': (0, (3, 1)), 'marker': 's'}
    """
    dashes = (0, tuple(int(part) for part in linestyle.split(","))) if "," in linestyle else linestyle
    return {"color": color, "linestyle": dashes, **(RING if marker == "ring" else {"marker": marker})}


QUANTITIES = {
    "reward_mean": "Mean reward",
    "prompts_solved": "Prompts with every sample right (share)",
    "prompts_any_solved": "Prompts with a right sample (share)",
    "prompts_unsolved": "Prompts without a right sample (share)",
    "accuracy": "Accuracy (share)",
    "response_tokens_mean": "Response length (tokens)",
    "truncation_rate": "Truncated answers (share)",
    "reflections_per_answer": "Reflections per answer",
    "transitions_per_answer": "Transitions per answer",
    "entropy_nats": "Entropy (nats per token)",
    "logp_yx_right": "log P(y|x) of right samples (nats per token)",
    "logp_yx_wrong": "log P(y|x) of wrong samples (nats per token)",
    "logp_y_right": "log P(y) of right samples (nats per token)",
    "logp_y_wrong": "log P(y) of wrong samples (nats per token)",
    "loss": "Loss",
    "grad_norm": "Gradient norm before clipping",
    "clip_fraction": "Tokens clipped by the surrogate (share)",
    "gap_mean": "Mean |sampler's − trainer's log-prob| (nats)",
    "gap_max": "Largest |sampler's − trainer's log-prob| (nats)",
    "rows_trained": "Samples in the loss",
    "tokens_trained": "Tokens in the loss",
    "tokens_sampled": "Tokens sampled",
    "prompt_tokens": "Prompt tokens",
    "seconds_sampling": "Sampling (seconds)",
    "seconds_grading": "Grading (seconds)",
    "seconds_training": "Training (seconds)",
    "seconds_measuring": "Measuring both spaces (seconds)",
    "seconds_total": "Whole update (seconds)",
    "value_loss": "Critic: loss",
    "value_grad_norm": "Critic: gradient norm before clipping",
    "value_explained_variance": "Critic: explained variance",
}
"""Column of metrics.parquet or validation.parquet -> its name and unit for a reader."""
