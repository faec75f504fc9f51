"""Claims under a control: the evidence with other methods in place, and the paired change, by hand."""

import math

import pandas as pd
import pytest

import synthetic
from prerl.publishing import claims, controls
from prerl.publishing.claims import CLAIMS, Evidence

BY_NAME = {claim.name: claim for claim in CLAIMS}


def evidence(replace: dict[str, str]) -> Evidence:
    config = synthetic.settings() | {"controls": {"tried": {"label": "tried", "replace": replace}}}
    model = config["models"][0]
    questions = synthetic.questions(config)
    tables = {"questions": questions, "scores": synthetic.scores(questions), "curves": synthetic.curves(config)}
    return controls.evidence_of(config, {name: {model: table} for name, table in tables.items()})


def test_the_replaced_method_is_gone_and_the_other_has_its_name():
    study = evidence({"dsrl": "nsr_rl_warmup"})
    model = study.settings["models"][0]
    other = controls.under(study, {"dsrl": "nsr_rl_warmup"})
    assert set(other.settings["methods"]) == set(study.settings["methods"]) - {"nsr_rl_warmup"}
    assert other.settings["methods"]["dsrl"] == study.settings["methods"]["nsr_rl_warmup"]
    columns = ["seed", "benchmark", "question", "correct"]
    before, after = study.questions[model], other.questions[model]
    pd.testing.assert_frame_equal(
        after.loc[after["method"] == "dsrl", columns].reset_index(drop=True),
        before.loc[before["method"] == "nsr_rl_warmup", columns].reset_index(drop=True),
    )
    assert len(before) == len(study.questions[model])  # the evidence itself is as it was


def test_a_parent_that_is_replaced_is_followed():
    study = evidence({"nsr_prerl": "nsr_rl", "dsrl": "nsr_rl_warmup"})
    other = controls.under(study, study.settings["controls"]["tried"]["replace"])
    assert study.settings["methods"]["nsr_rl_warmup"]["parent"] == "nsr_rl"
    assert other.settings["methods"]["dsrl"]["parent"] == "nsr_prerl"


def test_the_change_is_paired_by_seed():
    study = evidence({"dsrl": "nsr_rl_warmup"})
    as_is = claims.main_4b(study).values
    model, main = study.settings["models"][0], study.settings["main_benchmarks"]
    arms = (claims._end_answers(study, model, method, main) for method in ("nsr_rl_warmup", "grpo"))
    warmed = claims._points(*arms).values
    row = controls.row("tried", BY_NAME["main_4b"], study)
    assert row["as_is"] == pytest.approx(as_is.mean()) and row["under"] == pytest.approx(warmed.mean())
    assert row["change"] == pytest.approx((warmed - as_is).mean()) and row["seeds"] == 5
    # warmup_space compares DSRL with the NSR-RL warm-up, which has taken its name: it is not run under this control
    assert "warmup_space" not in set(controls.effects(study)["claim"])


def test_a_ratio_changes_by_a_ratio():
    study = evidence({"nsr_prerl": "grpo"})
    row = controls.row("tried", BY_NAME["nsr_long"], evidence({"nsr_prerl": "prerl"}))
    assert row["change"] == pytest.approx(row["under"] / row["as_is"], rel=1e-9)
    assert math.isclose(math.log(row["change"]), math.log(row["under"]) - math.log(row["as_is"]), rel_tol=1e-9)
    assert {claim.name for claim in controls.touched(study.settings["controls"]["tried"])} >= {
        "nsr_long",
        "transitions",
    }
    assert "alignment" not in {claim.name for claim in controls.touched(study.settings["controls"]["tried"])}
