"""How figures and tables show a method: name, colour, line style and marker, from config.yaml."""

from __future__ import annotations

from prerl.core.constants import BASE

# Okabe and Ito (2008): safe for colour-blind readers
BLACK, GREY, ORANGE, BLUE, VERMILLION = "#000000", "#777777", "#E69F00", "#0072B2", "#D55E00"
RING = {"marker": "o", "markersize": 5.5, "markerfacecolor": "none"}  # visible under other markers
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


def line(color: str, linestyle: str, marker: str) -> dict:
    """Matplotlib's arguments; dashes are written '3,1,1,1' (on, off …), the marker `ring` is a large open circle.

    >>> line("#000000", "3,1", "s")
    {'color': '#000000', 'linestyle': (0, (3, 1)), 'marker': 's'}
    """
    dashes = (0, tuple(int(part) for part in linestyle.split(","))) if "," in linestyle else linestyle
    return {"color": color, "linestyle": dashes, **(RING if marker == "ring" else {"marker": marker})}
