"""Each claim's scalar against numbers worked by hand on the synthetic study, and the rule of the verdict."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import synthetic
from prerl.core.power import seeds_to_see
from prerl.evaluation import results
from prerl.evaluation.contrasts import by_question, by_seed_and_question
from prerl.publishing import claims, tables, verdicts
from prerl.publishing.claims import CLAIMS, Claim, Evidence, Scalar, first_reach
from prerl.publishing.verdicts import BESIDE, COLUMNS, claim_row, covers, verdict

CONTRACT = Path(__file__).parents[3] / "docs" / "claims.md"
PAPER_CLAIMS = [
    "alignment",
    "alignment_excess",
    "transitions",
    "reflections",
    "nsr_fast",
    "prerl_collapse",
    "psr_degrades",
    "nsr_long",
    "main_4b",
    "main_8b",
    "warmup_space",
    "efficiency",
    "warmup_steps",
    "ood",
    "passk",
    "solved",
    "behaviours",
]
QUESTION_ROWS = 20  # (benchmark, question) pairs of the main benchmarks
ANSWERS = QUESTION_ROWS * 8 * 5


def evidence(**choices) -> Evidence:
    config = synthetic.settings(**choices)
    questions = {model: synthetic.questions(config) for model in config["models"]}
    gradients = {model: [] for model in config["models"]}
    for index, run in enumerate(config["alignment"]):
        gradients[run["model"]].append(synthetic.alignment(index)["gradients"].assign(seed=run["seed"]))
    return Evidence(
        settings=config,
        questions=questions,
        scores={model: synthetic.scores(table) for model, table in questions.items()},
        curves={model: synthetic.curves(config) for model in config["models"]},
        ood=questions,
        gradients={model: pd.concat(parts, ignore_index=True) for model, parts in gradients.items()},
    )


@pytest.fixture(scope="module")
def study() -> Evidence:
    return evidence()


def claims_table(study: Evidence) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table and the reason of every 'not tested'."""
    rows = verdicts.claim_rows(study)
    reasons = {row.row["claim"]: row.reason for row in rows if row.reason}
    return pd.DataFrame([row.row for row in rows], columns=COLUMNS), reasons


def check(scalar: Scalar, expected: list[float], n: int) -> None:
    assert list(scalar.values.index) == synthetic.SEEDS
    assert scalar.values.to_numpy() == pytest.approx(expected, abs=1e-9)
    assert scalar.n == n


def test_alignment_is_the_mean_cosine_of_each_seed(study):
    check(claims.alignment_cosine(study), [0.40, 0.41, 0.42, 0.43, 0.44], 24 * 5)


def test_the_excess_is_paired_by_rollout_and_its_interval_is_over_questions(study):
    scalar = claims.alignment_excess(study)
    check(scalar, [0.30, 0.31, 0.32, 0.33, 0.34], 24 * 5)  # the two draws of another problem average 0.10 + spread / 2
    # over question q: 0.32 + its mean of spread / 2, the same in every seed; six clusters of 20 rollouts
    spread = np.linspace(-0.2, 0.2, 24).reshape(6, 4).mean(axis=1) / 2
    assert scalar.interval.value == pytest.approx(0.32)
    assert 0.32 + spread.min() < scalar.interval.low < 0.32 < scalar.interval.high < 0.32 + spread.max()
    row = claim_row(claims.ALIGNMENT_EXCESS, study).row
    assert (row["ours"], row["ci_low"], row["ci_high"]) == scalar.interval and row["verdict"] == "agrees"


def test_thought_ratios_are_smoothed_logs_and_finite_at_zero_counts(study):
    # 20 questions × 1 transition after, 0 before, 160 answers each: (20.5 / 160) / (0.5 / 160)
    check(claims.transitions(study), [math.log(41)] * 5, 2 * ANSWERS)
    check(claims.reflections(study), [math.log(80.5 / 20.5)] * 5, 2 * ANSWERS)


def test_accuracy_contrasts_in_points(study):
    # one answer of 8 to every question is 12.5 points; seed 11 of dsrl lacks 1 of 80 answers: −1.25 points
    check(claims.nsr_fast(study), [-50.0] * 5, 2 * ANSWERS)
    check(claims.psr_degrades(study), [-12.5] * 5, 2 * ANSWERS)
    check(claims.main_4b(study), [-1.25, 0, 0, 0, 0], 2 * ANSWERS)
    check(claims.ood(study), [-1.25, 0, 0, 0, 0], 2 * ANSWERS)
    check(claims.warmup_space(study), [11.25, 12.5, 12.5, 12.5, 12.5], 2 * ANSWERS)


def test_accuracy_is_unweighted_over_benchmarks(study):
    rows = results.evaluated(study.questions["miniature"], study.settings, "grpo", 60, ["chain3", "chain4"])
    extra = rows[rows["benchmark"] == "chain3"].assign(question=lambda t: t["question"] + "-again")
    assert results.accuracy(pd.concat([rows, extra])).to_numpy() == pytest.approx([0.8125] * 5)


def test_length_is_a_log_ratio(study):
    check(claims.nsr_long(study), [math.log(30 / 40)] * 5, 2 * ANSWERS)


def test_collapse_compares_the_end_with_150_of_348(study):
    # 60 · 150/348 = 25.9, nearest validation 30; PreRL has 0.5 there and 0.2 at 60
    check(claims.prerl_collapse(study), [-30.0] * 5, 2 * 160 * 5)


def test_efficiency_interpolates_to_half_of_grpos_gain(study):
    # seed 11: target 0.5; GRPO reaches it at 30, DSRL (0.4 at 20, 0.6 at 30) at 25
    scalar = claims.efficiency(study)
    assert scalar.values[11] == pytest.approx(math.log(30 / 25))
    assert scalar.n == (7 + 7) * 160 * 5
    # seed 12: values 0.002 higher after update 0, target 0.501: GRPO 29.9, DSRL 20 + (0.501 − 0.402)/0.02 = 24.95
    assert scalar.values[12] == pytest.approx(math.log(29.9 / 24.95))


def test_efficiency_is_censored_and_finite():
    curve = pd.Series([0.1, 0.3, 0.7], index=[0, 10, 20])
    assert first_reach(curve, 0.5) == pytest.approx(15)
    assert first_reach(curve, 0.05) == 1.0
    assert first_reach(curve, 0.11) == 1.0
    assert first_reach(curve, 0.8) == math.inf
    study = evidence()
    table = study.curves["miniature"]
    accuracy = (table["name"] == "accuracy") & (table["benchmark"] == "mean")
    table.loc[accuracy & (table["method"] == "dsrl"), "value"] = 0.2
    flat = accuracy & (table["method"] == "grpo") & (table["seed"] == 12)
    table.loc[flat, "value"] = 0.2
    values = claims.efficiency(study).values
    assert values[11] == pytest.approx(math.log(30 / 61))
    assert values[12] == 0.0


def test_warmup_sweep_compares_10_to_25_with_the_rest(study):
    # seed 12: mean of S = 10, 20: 81.25; mean of S = 0, 5, 40: (81.25 + 81.25 + 56.25) / 3
    scalar = claims.warmup_steps(study)
    assert scalar.values[12] == pytest.approx(81.25 - 218.75 / 3)
    assert scalar.values[11] == pytest.approx(81.25 - 1.25 / 2 - 218.75 / 3)
    assert scalar.n == 5 * ANSWERS


def test_passk_averages_over_k(study):
    # seed 11, question 0 of each benchmark: 6 instead of 7 (chain3) or 5 instead of 6 (chain4) right of 8
    def lost(right: int) -> list[float]:
        chances = [[1 - math.comb(8 - c, k) / math.comb(8, k) for k in (1, 2, 4, 8)] for c in (right - 1, right)]
        return [low - high for low, high in zip(*chances, strict=True)]

    expected = 100 * np.mean([(a + b) / 2 / 10 for a, b in zip(lost(7), lost(6), strict=True)])
    check(claims.passk(study), [expected, 0, 0, 0, 0], 2 * ANSWERS)


def test_solved_compares_the_ends_of_the_warmup(study):
    # share 0.01 · update: mean of 16 … 20 minus mean of 1 … 5
    check(claims.solved(study), [15.0] * 5, 2 * 5 * 32 * 5)
    study.settings["switch_update"], before = 4, study.settings["switch_update"]
    check(claims.solved(study), [2.0] * 5, 2 * 2 * 32 * 5)
    study.settings["switch_update"] = before


@pytest.mark.parametrize(
    ("low", "high", "null", "side", "expected"),
    [
        (0.1, 2.0, 0, ">", "agrees"),
        (0.0, 2.0, 0, ">", "cannot tell"),
        (-0.1, 2.0, 0, ">", "cannot tell"),
        (-2.0, 0.0, 0, ">", "cannot tell"),
        (-2.0, -0.1, 0, ">", "differs"),
        (0.0, 2.0, 0, ">=", "agrees"),
        (-2.0, 0.0, 0, ">=", "cannot tell"),
        (-2.0, -0.1, 0, ">=", "differs"),
        (-2.0, -0.1, 0, "<", "agrees"),
        (-2.0, 0.0, 0, "<", "cannot tell"),
        (0.1, 2.0, 0, "<", "differs"),
        (1.1, 3.0, 1, ">", "agrees"),
        (0.5, 0.9, 1, ">", "differs"),
        (math.nan, math.nan, 0, ">", "cannot tell"),
        (3.0, 3.0, 0, ">", "cannot tell"),
        (0.0, 0.0, 0, ">=", "cannot tell"),
    ],
)
def test_verdict(low, high, null, side, expected):
    assert verdict(low, high, null, side) == expected


def test_covers_is_apart_from_the_verdict():
    assert covers(1.0, 2.0, 1.75) == "yes"
    assert covers(1.0, 1.7, 1.75) == "no"
    assert covers(1.0, 2.0, None) == ""
    assert covers(math.nan, math.nan, 1.75) == ""


def test_interval_is_t_over_seeds_and_ratios_are_reported_as_ratios(study):
    row, _, _ = claim_row(CLAIMS[0], study)
    half = 2.7764451 * math.sqrt(0.00025) / math.sqrt(5)
    assert (row["ours"], row["ci_low"], row["ci_high"]) == pytest.approx((0.42, 0.42 - half, 0.42 + half))
    assert (row["verdict"], row["covers_paper"], row["seeds"]) == ("agrees", "no", 5)
    values = pd.Series([0.0, 1.0, 2.0, 3.0, 4.0], synthetic.SEEDS)
    spread = Claim("nsr_long", lambda _: Scalar(values, 1), ">", 1, (), "curves", is_ratio=True)
    row, _, _ = claim_row(spread, study)
    assert math.log(row["ours"]) == pytest.approx(2.0)
    assert math.log(row["ci_low"]) == pytest.approx(2.0 - 2.7764451 * math.sqrt(2.5 / 5))


def test_the_question_bootstrap_stands_beside_the_differences_of_accuracy(study):
    found = {row.row["claim"]: row for row in verdicts.claim_rows(study)}
    with_bootstrap = {name for name, row in found.items() if row.question_bootstrap is not None}
    assert with_bootstrap == {"nsr_fast", "psr_degrades", "main_4b", "warmup_space", "warmup_steps", "ood"}
    for name in with_bootstrap:
        value, low, high = found[name].question_bootstrap
        assert value == pytest.approx(found[name].row["ours"])
        assert low - 1e-9 <= value <= high + 1e-9
    # question 0 of each benchmark: 2.5 points less (1 of 8 answers in 1 of 5 seeds), the other nine equal
    _, low, high = found["main_4b"].question_bootstrap
    assert -1.25 < low < -0.25 < high == 0
    # PSR-PreRL is 12.5 points below the base on every question: nothing to resample
    assert list(found["psr_degrades"].question_bootstrap) == pytest.approx([-12.5] * 3)


def test_one_seed_cannot_tell_with_nan_bounds():
    """But for the excess, whose interval is over questions."""
    table, _ = claims_table(evidence(seeds=[11]))
    assert table.set_index("claim").loc["alignment_excess", "verdict"] == "agrees"
    tested = table[(table["verdict"] != "not tested") & (table["claim"] != "alignment_excess")]
    assert len(tested) == 14
    assert set(tested["verdict"]) == {"cannot tell"}
    assert tested[["ci_low", "ci_high"]].isna().all(axis=None)
    assert set(tested["covers_paper"]) == {""}


def test_every_claim_has_its_row_and_every_reason_is_said(study):
    table, reasons = claims_table(study)
    assert list(table.columns) == COLUMNS
    assert list(table["claim"]) == PAPER_CLAIMS
    assert set(reasons) == set(table[table["verdict"] == "not tested"]["claim"]) == {"main_8b", "behaviours"}


def test_the_second_model_is_8b():
    table, reasons = claims_table(evidence(models=("four", "eight")))
    assert set(reasons) == {"behaviours"}
    assert table.set_index("claim").loc["main_8b", "ours"] == pytest.approx(-0.25)


def test_methods_that_are_not_run_are_not_tested():
    table, reasons = claims_table(evidence(methods=("grpo", "nsr_prerl", "dsrl")))
    assert {"prerl_collapse", "psr_degrades", "warmup_space"} <= set(reasons)
    assert "psr_prerl is not run" in reasons["psr_degrades"]
    assert table.set_index("claim").loc["main_4b", "verdict"] == "cannot tell"


def test_a_configured_method_without_its_answers_is_an_error():
    study = evidence()
    table = study.questions["miniature"]
    study.questions["miniature"] = table[~((table["method"] == "dsrl") & (table["seed"] == 13))]
    with pytest.raises(ValueError, match=r"dsrl has no evaluated answers at update 60 .*add update 60"):
        claims.main_4b(study)


def test_a_value_that_is_not_finite_is_an_error(study):
    broken = Claim("solved", lambda _: Scalar(pd.Series(math.nan, synthetic.SEEDS), 1), ">", 0, (), "curves")
    with pytest.raises(ValueError, match="not finite"):
        claim_row(broken, study)


def test_the_contract_and_the_code_agree():
    """docs/claims.md lists every claim with the null, side and, when comparable, the number that the code uses."""
    rows = {}
    first_registration = CONTRACT.read_text(encoding="utf-8").partition("## Second registration")[0]
    for line in first_registration.splitlines():
        if found := re.match(r"\| `(\w+)` \|", line):
            rows[found[1]] = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert list(rows) == PAPER_CLAIMS
    for claim in CLAIMS[:-1]:
        _, _, unit, null, side, paper, _ = rows[claim.name]
        assert float(null) == claim.null
        assert side == {">": ">", "<": "<", ">=": "≥"}[claim.side]
        assert (unit == "ratio") == claim.is_ratio
        assert (claim.stated.number is None) == paper.startswith(("none known", "not comparable"))
        if claim.stated.number is not None:
            assert float(re.search(r"[\d.]+", paper)[0]) == claim.stated.number


def test_a_scale_without_verdicts_has_values_and_none():
    study = evidence()
    study.settings["verdicts"] = False
    rows = {row.row["claim"]: row.row for row in verdicts.claim_rows(study)}
    assert rows["main_4b"]["ours"] == pytest.approx(-0.25)
    assert {row["verdict"] for row in rows.values()} == {"none at this scale", "not tested"}
    assert {row["covers_paper"] for row in rows.values()} == {""}


def test_a_method_that_trained_on_no_row_tests_no_claim():
    study = evidence()
    curves = study.curves["miniature"]
    chosen = (curves["method"] == "nsr_prerl") & (curves["name"] == "rows_trained") & (curves["seed"] == 12)
    curves.loc[chosen, "value"] = 0.0
    table, reasons = claims_table(study)
    about = {"transitions", "reflections", "nsr_fast", "nsr_long", "solved"}
    said = "nothing was trained: nsr_prerl had no row in its loss, seeds 12"
    assert {claim for claim, reason in reasons.items() if reason == said} == about
    assert set(table[table["claim"].isin(about)]["verdict"]) == {"not tested"}
    assert tables.untrained_notes(study.curves, study.settings)[0].startswith(
        "Nothing was trained by NSR-PreRL from miniature, seeds 12: "
    )


def test_what_stands_beside_the_verdict_by_hand(study):
    rows = {row.row["claim"]: row.row for row in verdicts.claim_rows(study)}
    # −1.25 and four zeros: mean −0.25, sd 0.559017; five seeds see 1.6820 sd; 0.4472 sd needs more than five
    row = rows["main_4b"]
    assert row["smallest_effect"] == pytest.approx(1.681997 * 0.559017, abs=1e-5)
    assert row["verdict"] == "cannot tell" and row["seeds_to_settle"] == seeds_to_see(0.25 / 0.559017, 0.95) == 42
    assert row["hierarchical_low"] < -0.25 < row["hierarchical_high"] <= 0.0
    assert row["crossed_low"] <= row["ci_low"] and row["ci_high"] <= row["crossed_high"]
    # an alignment of 0.40 … 0.44 agrees, so nothing is to settle, and is no difference of accuracies
    row = rows["alignment"]
    assert row["smallest_effect"] == pytest.approx(1.681997 * 0.0158114, abs=1e-6)
    assert [row[name] for name in BESIDE[1:6]] == [""] * 5
    assert [row[name] for name in BESIDE[6:]] == pytest.approx([0.42, 0.40, 0.44])  # the third, all five
    # a ratio's smallest effect is a factor: sd of the logs of one seed that is 30/25 and four that are 29.9/24.95 …
    values = claims.efficiency(study).values
    assert rows["efficiency"]["smallest_effect"] == pytest.approx(math.exp(1.681997 * values.std(ddof=1)), rel=1e-5)
    assert rows["efficiency"]["median"] == pytest.approx(math.exp(values.median()))
    # all seeds equal, not tested: nothing can be said
    for name in ("psr_degrades", "main_8b", "behaviours"):
        assert [rows[name][column] for column in BESIDE] == [""] * 9


def test_the_questions_of_both_levels_are_those_of_the_question_bootstrap(study):
    first, second = claims.main_4b(study).arms
    assert list(first.columns) == synthetic.SEEDS and len(first) == QUESTION_ROWS
    rows = results.evaluated(study.questions["miniature"], study.settings, "dsrl", 60, synthetic.MAIN)
    assert first.mean(axis=1).to_numpy() == pytest.approx(by_question(rows).to_numpy())
    with pytest.raises(ValueError, match="different questions"):
        by_seed_and_question(rows.iloc[1:])
