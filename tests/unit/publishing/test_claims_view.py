"""Claims as the page shows them: seeds that would settle one, intervals, the forest plot, the terminal's table."""

import csv
import math

import pytest

import synthetic
from prerl.publishing import contract
from prerl.publishing.claims import CLAIMS
from prerl.publishing.claims_view import (
    digits,
    entries,
    for_a_terminal,
    forest,
    in_one_sentence,
    reasons,
    seeds_to_settle,
    under_controls,
    what_settles,
)
from prerl.publishing.verdicts import COLUMNS, NO_VERDICT
from publish_scripts import run

CONTRACTS = contract.contracts(contract.CLAIMS_PAGE.read_text(encoding="utf-8"))
SHOWN = contract.shown_claims(contract.MAP_PAGE.read_text(encoding="utf-8"))


def row(name: str, ours="", low="", high="", verdict="not tested", seeds="5") -> dict[str, str]:
    values = dict.fromkeys(COLUMNS, "") | {"claim": name, "grade": "B", "verdict": verdict}
    if ours != "":
        values |= {"ours": str(ours), "ci_low": str(low), "ci_high": str(high), "n": "1200", "seeds": seeds}
    return values


ROWS = [
    row("main_4b", -3.875, -6.15, -1.6, "differs"),
    row("warmup_steps", 1, -1, 3, "cannot tell"),
    row("transitions", 4.78, 3.15, 7.26, "agrees") | {"paper_value": "14.89", "covers_paper": "no"},
    row("main_8b"),
]
FOUND = entries(ROWS, "Not tested: main_8b (this scale has one model).\n", CONTRACTS, SHOWN, 0.95)


def test_seeds_to_settle_by_hand():
    # five seeds, mean 1 and sd 0.592: half-width 2.7764 · 0.592 / √5 = 0.735; 1.69 sd is what five see (core/power.py)
    assert seeds_to_settle(1, 1 - 0.735, 1 + 0.735, 0, 5, 0.95) == 5


def test_it_is_the_tables_own_number(tmp_path):
    """Of the synthetic study: what table_claims has in its column is found again from the interval, ratios too."""
    study = synthetic.write_study(tmp_path, synthetic.settings())
    table = run("table_claims", study, tmp_path)[0]
    with table.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["seeds_to_settle"]]
    assert rows
    for one in rows:
        said = what_settles(one, CONTRACTS[one["claim"]], "", 0.95)
        assert said.startswith(f"About {int(one['seeds_to_settle']):,} seeds")


def test_a_ratio_is_settled_on_its_logarithm():
    points = what_settles(row("x", 1, -1, 3, "cannot tell"), CONTRACTS["main_4b"], "", 0.95)
    ratio = what_settles(row("x", math.e, math.exp(-1), math.exp(3), "cannot tell"), CONTRACTS["nsr_long"], "", 0.95)
    assert points == ratio and points.startswith("About ")


def test_no_effect_is_never_settled():
    said = what_settles(row("x", 0.0001, -1, 1.0002, "cannot tell"), CONTRACTS["main_4b"], "", 0.95)
    assert said.startswith("More than 10,000 seeds")


def test_an_interval_over_questions_wants_questions():
    said = what_settles(row("alignment_excess", 0.1, -1, 1.2, "cannot tell"), CONTRACTS["alignment_excess"], "", 0.95)
    assert said == "More questions: its interval is over them"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (row("x"), "Not tested here: why"),
        (row("x", 1, "nan", "nan", "cannot tell", seeds="1"), "A second seed, for an interval"),
        (row("x", 0, 0, 0, "cannot tell"), "More seeds: these show no spread"),
        (row("x", 1, 0.5, 2, "agrees"), ""),
        (row("x", 1, 0.5, 2, NO_VERDICT), "A scale with verdicts"),
    ],
)
def test_what_settles_a_claim_without_a_number_of_seeds(values, said):
    assert what_settles(values, CONTRACTS["main_4b"], "why", 0.95) == said


def test_reasons_keep_their_brackets():
    assert reasons("| a |\n\nNot tested: main_8b (this scale has 1 model(s)).\n") == {
        "main_8b": "this scale has 1 model(s)"
    }


def test_entries_by_hand():
    main, steps, ratio, missing = FOUND
    assert main.value == "−3.88 pp [−6.15, −1.60]" and main.mark == "✗" and main.shown_in == "table_main"
    assert steps.settle.startswith("About ") and steps.kind == "cannot-tell"
    assert ratio.value == "4.78 × [3.15, 7.26]" and ratio.paper_number == 14.89
    assert (
        missing.ours is None and missing.value == "" and missing.settle == "Not tested here: this scale has one model"
    )
    assert missing.scalar == "accuracy(DSRL) − accuracy(GRPO), second model"
    assert main.says == "DSRL ends above GRPO (Qwen3-4B): mean of the main benchmarks." and main.controls == []
    assert digits(0.3621) == "0.362"


def test_a_claim_under_controls_by_hand():
    numbers = {
        f"{name}{end}": str(value)
        for name, value in (("as_is", 2), ("under", -1.87), ("change", 0.5))
        for end in ("", "_low", "_high")
    }
    rows = [{"control": name, "claim": "main_4b", "verdict": "differs", **numbers} for name in ("shuffled", "other")]
    under = under_controls(rows, {"shuffled": "rewards in random order"})
    assert [one.label for one in under["main_4b"]] == ["rewards in random order", "other"]
    assert under["main_4b"][0].as_is == "2.00 [2.00, 2.00]"
    assert under["main_4b"][0].value == "−1.87 [−1.87, −1.87]" and under["main_4b"][0].change == "0.500 [0.500, 0.500]"
    assert entries(ROWS, "", CONTRACTS, SHOWN, 0.95, under)[0].controls == under["main_4b"]


def test_what_stands_beside_a_verdict():
    """t [−3.63, 0.19] holds the null, the median's [−4.34, −0.77] does not."""
    values = row("passk", -1.72, -3.63, 0.19, "cannot tell") | {"median": "-0.8", "smallest_effect": "2.59"}
    values |= {"median_low": "-4.34", "median_high": "-0.77", "crossed_low": "-4", "crossed_high": "1"}
    (found,) = entries([values], "", CONTRACTS, SHOWN, 0.95)
    assert found.beside == [
        "crossed t, seeds and questions [−4.00, 1.00]",
        "smallest effect seen with 80 % power 2.59",
        "median −0.800 [−4.34, −0.770]; it and the t interval disagree about the null",
    ]
    assert found.needed is not None and found.settle.startswith(f"About {found.needed} seeds")


def test_the_page_rounds_as_the_table_does():
    assert digits(-2.6250000000004) == digits(-2.625) == "−2.62"


def test_every_claim_has_contract_and_place():
    assert {claim.name for claim in CLAIMS} == set(SHOWN)
    assert {claim.name for claim in CLAIMS} - set(CONTRACTS) == {"behaviours"}
    assert all(claim.stated.says.endswith((".", ")")) for claim in CLAIMS)
    assert not [name for name, one in CONTRACTS.items() if one.scalar.startswith("the same")]
    for claim in CLAIMS[:-1]:
        assert (CONTRACTS[claim.name].null, CONTRACTS[claim.name].side) == (claim.null, claim.side)
        assert (CONTRACTS[claim.name].unit == "ratio") == claim.is_ratio
        assert SHOWN[claim.name].code[0].name in (claim.measure.__name__, claim.name)


def test_the_sentence_counts():
    assert in_one_sentence(FOUND) == (
        "Of 4 claims 1 agree, 1 differ, 1 are undecided (“cannot tell”) and 1 are not tested."
    )
    without = entries([row("main_4b", 1, 0, 2, NO_VERDICT), row("main_8b")], "", CONTRACTS, SHOWN, 0.95)
    assert in_one_sentence(without) == "Of 2 claims 1 have a value here. This scale gives no verdicts."


def test_the_forest_plot_has_each_tested_claim_once_and_the_papers_numbers():
    points, ratios = forest(FOUND)
    assert points["names"] == ["warmup_steps", "main_4b"] and points["null"] == 0 and not points["log_x"]
    by_name = {series["name"]: series for series in points["series"]}
    assert by_name["ours: differs"]["x"] == [-3.875] and by_name["ours: differs"]["low"] == [-6.15]
    assert by_name["the paper's"]["x"] == [1.75] and by_name["the paper's"]["y"] == ["main_4b"]
    assert ratios["log_x"] and ratios["null"] == 1
    symbols = [series["symbol"] for series in points["series"]]
    assert len(set(symbols)) == len(symbols)  # told apart without colour


def test_the_terminals_table_has_columns_of_equal_width():
    text = for_a_terminal(FOUND, "Heading", ["One.", "Two."])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 6 and len({len(line) for line in lines}) == 1
    assert all(f"- `{claim.name}`: {claim.says}" in text for claim in FOUND)
    assert "−3.88 pp [−6.15, −1.60]" in text and text.startswith("# Heading\n\nOne.\n")


def test_a_page_that_changed_is_named():
    with pytest.raises(ValueError, match="adapt prerl/publishing/contract.py"):
        contract.contracts("no table here")
