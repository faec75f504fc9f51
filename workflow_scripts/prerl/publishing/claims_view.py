"""The claims as a reader wants them: ours beside the paper's, the verdict, what it would take to settle it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prerl.core.power import MOST_SEEDS, seeds_to_see
from prerl.core.statistics import t_quantile
from prerl.publishing import tables
from prerl.publishing.claims import ALIGNMENT_EXCESS, CLAIMS
from prerl.publishing.contract import Code, Contract, Shown
from prerl.publishing.verdicts import CANNOT_TELL, NO_VERDICT, no_interval

MARKS = {"agrees": "✓", "differs": "✗", CANNOT_TELL: "?", "not tested": "–", NO_VERDICT: "·"}
OVER_QUESTIONS = OURS = {ALIGNMENT_EXCESS.name}
STATED = {claim.name: claim.stated for claim in CLAIMS}


@dataclass(frozen=True)
class UnderControl:
    """A claim under a control: what is different, the value and the paired change with their intervals, the verdict.

    as_is: the claim on the seeds of the controls.
    """

    label: str
    as_is: str
    value: str
    change: str
    verdict: str


@dataclass(frozen=True)
class Entry:
    """A claim on the page. ours, low, high, n, seeds: None where it is not tested (low, high: also with one seed)."""

    name: str
    says: str
    scalar: str
    unit: str
    null: float | None
    side: str
    paper: str
    grade: str
    paper_number: float | None
    ours: float | None
    low: float | None
    high: float | None
    n: int | None
    seeds: int | None
    verdict: str
    covers: str
    settle: str
    code: list[Code]
    shown_in: str
    controls: list[UnderControl]
    beside: list[str]

    @property
    def over(self) -> str:
        """What the interval is over."""
        return "questions" if self.name in OVER_QUESTIONS else "seeds"

    @property
    def needed(self) -> int | None:
        """Seeds in all that would settle it."""
        found = re.search(r"^About ([\d,]+) seeds", self.settle)
        return int(found[1].replace(",", "")) if found else None

    @property
    def mark(self) -> str:
        """The verdict as a sign, beside the word."""
        return MARKS[self.verdict]

    @property
    def kind(self) -> str:
        """The verdict as a word of a style sheet."""
        return self.verdict.replace(" ", "-")

    @property
    def value(self) -> str:
        """'−3.87 pp [−6.15, −1.60]'."""
        if self.ours is None:
            return ""
        unit = {"pp": " pp", "ratio": " ×"}.get(self.unit, "")
        bounds = "" if self.low is None or self.high is None else f" [{digits(self.low)}, {digits(self.high)}]"
        return f"{digits(self.ours)}{unit}{bounds}"


def digits(value: float) -> str:
    """As in the tables, with a minus sign as print has it.

    >>> digits(-3.875)
    '−3.88'
    """
    return tables.digits(value).replace("-", "−")


def seeds_to_settle(mean: float, low: float, high: float, null: float, seeds: int, confidence: float) -> int | None:
    """Fewest seeds that settle it with 80 % power if effect and spread are as seen (core/power.py), or None.

    mean, low, high: of the t interval over `seeds` seeds (of a ratio the logarithms).
    """
    deviation = (high - low) / 2 * math.sqrt(seeds) / t_quantile((1 + confidence) / 2, seeds - 1)
    return seeds_to_see((mean - null) / deviation, confidence)


def what_settles(row: Mapping[str, str], contract: Contract | None, reason: str, confidence: float) -> str:
    """What would settle a claim with 80 % power if effect and spread are as seen. row: of table_claims.csv."""
    if row["verdict"] == "not tested":
        return f"Not tested here: {reason}" if reason else "Not tested here"
    if row["verdict"] == NO_VERDICT:
        return "A scale with verdicts"
    if row["verdict"] != CANNOT_TELL or contract is None:
        return ""
    mean, low, high = (float(row[key]) for key in ("ours", "ci_low", "ci_high"))
    if no_interval(low, high):
        return "More seeds: these show no spread" if int(row["seeds"]) > 1 else "A second seed, for an interval"
    if row["claim"] in OVER_QUESTIONS:
        return "More questions: its interval is over them"
    null = contract.null
    if contract.unit == "ratio":
        mean, low, high, null = (math.log(value) for value in (mean, low, high, null))
    needed = seeds_to_settle(mean, low, high, null, int(row["seeds"]), confidence)
    number = f"More than {MOST_SEEDS:,}" if needed is None else f"About {needed:,}"
    return f"{number} seeds in all"


def reasons(markdown: str) -> dict[str, str]:
    """Claim -> why it is not tested, of the notes below table_claims.md."""
    return dict(re.findall(r"^Not tested: (\w+) \((.*)\)\.$", markdown, re.M))


def under_controls(rows: Sequence[Mapping[str, str]], labels: Mapping[str, str]) -> dict[str, list[UnderControl]]:
    """Claim -> how it fares under each control, of the rows of table_controls.csv. labels: of the controls."""

    def interval(row: Mapping[str, str], name: str) -> str:
        value, low, high = (digits(float(row[key])) for key in (name, f"{name}_low", f"{name}_high"))
        return f"{value} [{low}, {high}]"

    found: dict[str, list[UnderControl]] = {}
    for row in rows:
        label = labels.get(row["control"], row["control"])
        as_is, value, change = (interval(row, name) for name in ("as_is", "under", "change"))
        control = UnderControl(label, as_is, value, change, row["verdict"])
        found.setdefault(row["claim"], []).append(control)
    return found


BESIDE = {"hierarchical": "hierarchical bootstrap, seeds and questions", "crossed": "crossed t, seeds and questions"}


def _beside(row: Mapping[str, str], contract: Contract | None) -> list[str]:
    """What table_claims has beside the verdict and decides nothing."""

    def bounds(name: str) -> list[float]:
        return [float(row[f"{name}_{end}"]) for end in ("low", "high") if row.get(f"{name}_{end}")]

    def text(pair: Sequence[float]) -> str:
        return f"[{', '.join(map(digits, pair))}]"

    found = [f"{words} {text(pair)}" for name, words in BESIDE.items() if (pair := bounds(name))]
    if row.get("smallest_effect"):
        found.append(f"smallest effect seen with 80 % power {digits(float(row['smallest_effect']))}")
    if (pair := bounds("median")) and contract:
        apart = (pair[0] > contract.null or pair[1] < contract.null) != (
            float(row["ci_low"]) > contract.null or float(row["ci_high"]) < contract.null
        )
        odd = "; it and the t interval disagree about the null" if apart else ""
        found.append(f"median {digits(float(row['median']))} {text(pair)}{odd}")
    return found


def entries(
    rows: Sequence[Mapping[str, str]],
    markdown: str,
    contracts: Mapping[str, Contract],
    shown: Mapping[str, Shown],
    confidence: float,
    controls: Mapping[str, list[UnderControl]] | None = None,
) -> list[Entry]:
    """Every row of table_claims.csv (`rows`) and .md (`markdown`) with its contract and its place in the code."""
    why = reasons(markdown)

    def number(text: str) -> float | None:
        value = float(text or "nan")
        return None if math.isnan(value) else value

    found = []
    for row in rows:
        name = row["claim"]
        contract, place = contracts.get(name), shown[name]
        found.append(
            Entry(
                name=name,
                says=STATED[name].says,
                scalar=contract.scalar if contract else "",
                unit=contract.unit if contract else "",
                null=contract.null if contract else None,
                side=contract.side if contract else "",
                paper=row["paper_value"],
                grade=row["grade"],
                paper_number=STATED[name].number,
                ours=number(row["ours"]),
                low=number(row["ci_low"]),
                high=number(row["ci_high"]),
                n=int(row["n"]) if row["n"] else None,
                seeds=int(row["seeds"]) if row["seeds"] else None,
                verdict=row["verdict"],
                covers=row["covers_paper"],
                settle=what_settles(row, contract, why.get(name, ""), confidence),
                code=place.code,
                shown_in=place.target,
                controls=(controls or {}).get(name, []),
                beside=_beside(row, contract),
            )
        )
    return found


def _number(claims: Sequence[Entry]) -> str:
    own = sum(claim.name in OURS for claim in claims)
    return f"{len(claims)} claims" + (", one of them a test of ours," if own else "")


def in_one_sentence(claims: Sequence[Entry]) -> str:
    """'Of 16 claims 3 agree, 7 differ, …'; where there are no verdicts, that."""
    counts = Counter(claim.verdict for claim in claims)
    if counts[NO_VERDICT]:
        return f"Of {_number(claims)} {counts[NO_VERDICT]} have a value here. This scale gives no verdicts."
    return (
        f"Of {_number(claims)} {counts['agrees']} agree, {counts['differs']} differ, {counts[CANNOT_TELL]} are "
        f"undecided (“cannot tell”) and {counts['not tested']} are not tested."
    )


GROUPS = {"pp": "Difference (percentage points)", "ratio": "Ratio (log scale)", "–": "Cosine"}
COLORS = {"agrees": "#0072B2", "differs": "#D55E00", CANNOT_TELL: "#777777", NO_VERDICT: "#777777"}
SYMBOLS = {"agrees": "circle", "differs": "x", CANNOT_TELL: "square-open", NO_VERDICT: "circle"}


def forest(claims: Sequence[Entry]) -> list[dict]:
    """A forest plot as panels for the page, one a unit: our values by verdict, the paper's, the null."""
    panels = []
    for unit, title in GROUPS.items():
        tested = [claim for claim in claims if claim.unit == unit and claim.ours is not None]
        if not tested:
            continue
        series: list[dict] = []
        for verdict in dict.fromkeys(claim.verdict for claim in tested):
            of_verdict = [claim for claim in tested if claim.verdict == verdict]
            series.append(
                {
                    "name": f"ours: {verdict}" if verdict != NO_VERDICT else "ours",
                    "color": COLORS[verdict],
                    "symbol": SYMBOLS[verdict],
                    "y": [claim.name for claim in of_verdict],
                    "x": [claim.ours for claim in of_verdict],
                    "says": [claim.says for claim in of_verdict],
                    "low": [claim.low for claim in of_verdict],
                    "high": [claim.high for claim in of_verdict],
                }
            )
        stated = [claim for claim in tested if claim.paper_number is not None]
        if stated:
            series.append(
                {
                    "name": "the paper's",
                    "color": "#000000",
                    "symbol": "diamond-tall-open",
                    "y": [claim.name for claim in stated],
                    "x": [claim.paper_number for claim in stated],
                    "says": [claim.says for claim in stated],
                }
            )
        null = 1.0 if unit == "ratio" else 0.0
        names = [claim.name for claim in reversed(tested)]
        panels.append({"title": title, "log_x": unit == "ratio", "null": null, "names": names, "series": series})
    return panels


def for_a_terminal(claims: Sequence[Entry], heading: str, sentences: Sequence[str]) -> str:
    """The claims as Markdown that also reads well as it is: columns of equal width."""
    header = ["", "claim", "paper; grade", "ours [interval]", "seeds", "n", "verdict", "to settle it with 80 % power"]
    rows = [
        [
            claim.mark, claim.name, f"{claim.paper or 'no number'}; {claim.grade}", claim.value,
            str(claim.seeds or ""), f"{claim.n:,}" if claim.n else "", claim.verdict, claim.settle,
        ]
        for claim in claims
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.replace("|", "/").ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    says = ["", *(f"- `{claim.name}`: {claim.says}" for claim in claims)]
    return "\n".join([f"# {heading}", "", *(f"{sentence}\n" for sentence in sentences), *lines, *says]) + "\n"
