"""How many seeds a claim's interval needs, and the interval of all of them, by hand on the synthetic study."""

import math

import numpy as np
import pandas as pd
import pytest

import synthetic
from prerl.core.errors import UserError
from prerl.publishing import claims, more_seeds
from prerl.publishing.claims import Evidence

REQUEST = {"claim": "main_4b", "half_width": 0.3, "next_seed": 31, "most_seeds": 20}


def evidence(seeds=tuple(synthetic.SEEDS), **request) -> Evidence:
    config = synthetic.settings(seeds=list(seeds))
    config |= {"more_seeds": REQUEST | request, "first_seeds": synthetic.SEEDS}
    table = {"miniature": synthetic.questions(config)}
    return Evidence(config, table, {}, {"miniature": synthetic.curves(config)}, {}, {})


def test_the_spread_of_the_first_seeds_decides():
    # −1.25 and four zeros: sd 0.559017; (2.776445 · 0.559017 / 0.3)² = 26.77
    chosen = more_seeds.choose(evidence())
    assert chosen == {
        "claim": "main_4b",
        "methods": ["grpo", "dsrl"],
        "seeds": [*synthetic.SEEDS, *range(31, 46)],  # twenty in all
        "needed": 27,
    }
    assert more_seeds.choose(evidence(most_seeds=40))["seeds"] == [*synthetic.SEEDS, *range(31, 53)]
    assert more_seeds.choose(evidence(half_width=0.7))["seeds"] == synthetic.SEEDS  # narrow enough: 4.92
    assert more_seeds.choose(evidence(most_seeds=3))["seeds"] == synthetic.SEEDS


def test_a_ratio_is_chosen_by_its_logarithm():
    values = claims.efficiency(evidence()).values.to_numpy()
    needed = (2.776445 * values.std(ddof=1) / math.log(1.002)) ** 2
    chosen = more_seeds.choose(evidence(claim="efficiency", half_width=1.002))
    assert chosen["needed"] == math.ceil(needed) > 5
    assert more_seeds.choose(evidence(claim="warmup_steps"))["methods"] == [
        "grpo",
        "dsrl",
        "dsrl_s5",
        "dsrl_s10",
        "dsrl_s40",
    ]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"claim": "efficiency", "half_width": 0.9}, "is a ratio: give a factor above 1"),
        ({"claim": "main_4"}, "'main_4' is not one of transitions, .*main_4b"),
        ({"claim": "ood"}, "'ood' is not one of"),
        ({"claim": "alignment"}, "'alignment' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_refused(request_, message):
    with pytest.raises(UserError, match=message):
        more_seeds.choose(evidence(**request_))


def test_one_first_seed_and_equal_seeds_show_no_spread():
    with pytest.raises(UserError, match="at least two seeds"):
        more_seeds.choose(evidence(seeds=[11]))
    with pytest.raises(UserError, match=r"psr_degrades is equal in all of the seeds \[11, 12, 13, 14, 15\]"):
        more_seeds.choose(evidence(claim="psr_degrades"))


def test_the_interval_of_all_seeds_has_the_spread_of_the_first(monkeypatch):
    seeds = [*synthetic.SEEDS, 31, 32, 33, 34]
    study = evidence(seeds=seeds)
    wide = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0, 30.0, 0.0, 0.0, 0.0], index=seeds)
    claim = claims.Claim("main_4b", lambda _: claims.Scalar(wide[::-1], 1), ">", 0, ("dsrl", "grpo"), "answers")
    monkeypatch.setattr(more_seeds, "CLAIMS", [claim])
    cells, values = more_seeds.row(study, {"seeds": seeds, "needed": 9})
    assert values.tolist() == wide.tolist()  # in the order of the stages, whatever the measure's
    # mean 5; half-width 2.776445 · √2.5 / 3 = 1.463316, blind to the 30
    assert (cells["ours"], cells["half_width"]) == (5.0, pytest.approx(1.463316, abs=1e-6))
    assert (cells["ci_low"], cells["ci_high"]) == pytest.approx((3.536684, 6.463316), abs=1e-6)
    assert (cells["first_seeds"], cells["seeds"], cells["needed"], cells["verdict"]) == (5, 9, 9, "agrees")
    monkeypatch.setattr(more_seeds, "CLAIMS", [claims.Claim(**(vars(claim) | {"is_ratio": True, "null": 1}))])
    study.settings["more_seeds"]["half_width"] = 2.0
    ratio, _ = more_seeds.row(study, {"seeds": seeds, "needed": 9})
    assert ratio["ours"] == pytest.approx(math.exp(5)) and ratio["half_width"] == pytest.approx(math.exp(1.463316))
    assert np.isfinite(values).all()
