"""A run against a reference: what must agree bitwise, what only within intervals, by hand."""

import json
import math
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from prerl.publishing.verification import MUST_AGREE, compare, what_differs

SCRIPT = Path(__file__).parents[3] / "workflow_scripts" / "verify.py"
PROVENANCE = {key: [key] for key in MUST_AGREE}


def table(*rows: dict) -> pd.DataFrame:
    base = {"claim": "", "ours": "", "ci_low": "", "ci_high": "", "n": "8", "seeds": "5", "verdict": "agrees"}
    return pd.DataFrame([base | {key: str(value) for key, value in row.items()} for row in rows])


def main_4b(value: float, half: float = 1.0, **cells) -> dict:
    return {"claim": "main_4b", "ours": value, "ci_low": value - half, "ci_high": value + half} | cells


def test_bits_must_agree_only_if_nothing_differs_that_may_change_one():
    assert what_differs(PROVENANCE, dict(PROVENANCE)) == []
    for key in MUST_AGREE:
        assert what_differs(PROVENANCE, PROVENANCE | {key: ["another"]}) == [key]
    assert what_differs(PROVENANCE | {"seconds": 1}, PROVENANCE) == []
    assert what_differs(PROVENANCE, None) == ["the reference has no provenance.json"]
    assert what_differs(None, PROVENANCE) == ["the run has no provenance.json"]


def test_a_last_digit_counts_bitwise_and_not_within_intervals():
    reference = table(main_4b(2.0), {"claim": "behaviours"})
    ours = table(main_4b(2.0, ours="2.0000000001"), {"claim": "behaviours"})
    exact = compare(ours, reference, bitwise=True, confidence=0.95)
    assert (exact.rows, exact.equal, exact.faults) == (2, 1, ["main_4b: ours"])
    loose = compare(ours, reference, bitwise=False, confidence=0.95)
    assert (loose.equal, loose.values, loose.faults) == (1, 1, [])
    assert compare(reference, reference, bitwise=True, confidence=0.95).faults == []


@pytest.mark.parametrize(("value", "agrees"), [(3.41, True), (3.42, False), (0.59, True), (0.58, False)])
def test_one_value_must_lie_within_both_half_widths_in_quadrature(value, agrees):
    # 1 and 1 in quadrature: 1.4142
    found = compare(table(main_4b(value)), table(main_4b(2.0)), bitwise=False, confidence=0.95)
    assert (found.faults == []) is agrees
    assert agrees or f"main_4b ours: {value}, the reference has 2.0" in found.faults


def test_two_values_are_allowed_what_holds_for_both_together():
    # t of 4 degrees: 3.495406 at 1 − 0.025/2, 2.776445 at 1 − 0.025: 1.258950 wider, so 1.78042 with two values
    other = main_4b(0.0, claim="psr_degrades")
    for value, faults in ((3.78, 0), (3.79, 1)):
        found = compare(table(main_4b(value), other), table(main_4b(2.0), other), bitwise=False, confidence=0.95)
        assert len(found.faults) == faults


def test_a_ratio_is_compared_by_its_logarithm():
    def ratio(value):
        return {"claim": "transitions", "ours": value, "ci_low": value / 2, "ci_high": value * 2}

    reference = table(ratio(4.0))
    limit = 4.0 * math.exp(math.log(2) * math.sqrt(2))
    for value, faults in ((limit * 0.999, 0), (limit * 1.001, 1), (4.0**2 / limit * 0.999, 1)):
        assert len(compare(table(ratio(value)), reference, bitwise=False, confidence=0.95).faults) == faults


def test_one_seed_is_held_against_the_references_spread():
    # half-width of one seed's value by the reference's spread: 1 · √5, in quadrature with 1: √6 = 2.449
    def alone(value):
        return {"claim": "main_4b", "ours": value, "ci_low": "nan", "ci_high": "nan", "seeds": "1"}

    for value, faults in ((4.44, 0), (4.46, 1)):
        assert len(compare(table(alone(value)), table(main_4b(2.0)), bitwise=False, confidence=0.95).faults) == faults
    found = compare(table(main_4b(9.0)), table(alone(2.0)), bitwise=False, confidence=0.95)
    assert found.faults == [] and found.notes == ["main_4b ours: the reference has no interval"]


def test_counts_must_be_equal_rows_present_and_verdicts_are_noted():
    reference = table(main_4b(2.0), main_4b(1.0, claim="passk"))
    ours = table(main_4b(2.0, n="7", verdict="cannot tell"), main_4b(0.0, claim="new"))
    found = compare(ours, reference, bitwise=False, confidence=0.95)
    assert found.faults == ["passk: missing", "main_4b n: 7, not 8"]
    assert found.notes == ["new: not in the reference", "main_4b: agrees in the reference, cannot tell here"]


def test_the_main_tables_three_kinds_of_values_are_compared():
    row = {"model": "mini", "method": "DSRL", "benchmark": "mean", "accuracy": "80", "t_low": "79", "t_high": "81"}
    row |= {"vs_grpo": "-4", "vs_grpo_t_low": "-5", "vs_grpo_t_high": "-3", "boot_low": "1", "boot_high": "2"}
    row |= {"math_verify": "81", "math_verify_t_low": "80", "math_verify_t_high": "82", "seeds": "5"}
    reference = pd.DataFrame([row])
    assert compare(reference, reference, bitwise=False, confidence=0.95).values == 3
    for name in ("accuracy", "vs_grpo", "math_verify"):
        far = pd.DataFrame([row | {name: "50"}])
        (fault,) = compare(far, reference, bitwise=False, confidence=0.95).faults
        assert fault.startswith(f"mini DSRL mean {name}: 50")


def test_rows_with_the_same_keys_are_compared_in_their_order():
    reference = table(main_4b(2.0), main_4b(5.0))
    assert compare(reference, reference, bitwise=True, confidence=0.95).rows == 2
    found = compare(table(main_4b(2.0), main_4b(9.0)), reference, bitwise=True, confidence=0.95)
    assert (found.equal, found.faults) == (1, ["main_4b 2: ours, ci_low, ci_high"])
    bare = pd.DataFrame({"note": ["a", "b"]})
    assert compare(bare.replace("b", "c"), bare, bitwise=True, confidence=0.95).faults == ["2: note"]


def test_further_columns_matter_bitwise_alone():
    reference = table(main_4b(2.0))
    wider = reference.assign(further="1")
    assert compare(wider, reference, bitwise=False, confidence=0.95).faults == []
    assert "columns differ" in compare(wider, reference, bitwise=True, confidence=0.95).faults[0]


def verify(folder: Path, capsys) -> tuple[int, str]:
    arguments = ["--results", folder / "run", "--against", folder / "reference", "--confidence", "0.95"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        sys.exit(0)
    return ended.value.code, capsys.readouterr().out


def test_the_script_says_which_comparison_it_made_and_fails_on_a_disagreement(tmp_path, capsys):
    for side in ("run", "reference"):
        (tmp_path / side / "tables").mkdir(parents=True)
        table(main_4b(2.0)).to_csv(tmp_path / side / "tables/table_claims.csv", index=False)
        (tmp_path / side / "provenance.json").write_text(json.dumps(PROVENANCE))
    status, said = verify(tmp_path, capsys)
    assert status == 0 and "Compared bitwise" in said and "1 of 1 rows equal bitwise, 0 disagree" in said
    table(main_4b(2.5)).to_csv(tmp_path / "run/tables/table_claims.csv", index=False)
    status, said = verify(tmp_path, capsys)
    assert status == 1 and "disagrees: main_4b: ours, ci_low, ci_high" in said
    (tmp_path / "run/provenance.json").write_text(json.dumps(PROVENANCE | {"chips": ["other"]}))
    status, said = verify(tmp_path, capsys)
    assert status == 0 and "within intervals, since these differ or are not known: chips" in said
    (tmp_path / "run/tables/table_claims.csv").unlink()
    assert "table_claims: not made in" in verify(tmp_path, capsys)[1]
