"""What an accuracy costs: FLOPs of one update by hand, costs between updates, and the row that is the claim's."""

import math

import pandas as pd
import pytest

import synthetic
from prerl.config.shapes import Shape
from prerl.publishing import claims, efficiency
from prerl.publishing.claims import Evidence

TINY = Shape(2, 3, 1, 1, 1, 2, 5, True)  # hidden 2, MLP 3, one layer, one head of 2, vocabulary 5
# weights of the layer: 2 · (2·2 + 2·2 + 3·3) = 34; a token: 68 FLOPs + 4 · 2 · length / 2; a prediction: 2 · 2 · 5 = 20
VALUES = {"prompt_tokens": 8.0, "tokens_sampled": 40.0, "rows_trained": 3.0, "tokens_trained": 30.0}
VALUES |= {"response_tokens_mean": 10.0}  # two prompts of 4 tokens, four answers of 10, three of them in the loss


def one_update(space: str, **changes: float) -> float:
    values = {name: pd.DataFrame({11: [value]}, index=[1]) for name, value in (VALUES | changes).items()}
    return float(efficiency.flops(values, [space], TINY, prompts=2).iloc[0, 0])


def test_flops_of_an_update_by_hand():
    # sampling: 40 · (68 + 4 · (2·4 + 10)) + 40 · 20, and the prompts once: 8 · (68 + 4 · 4) + 2 · 20
    sampling = 40 * (68 + 72) + 800 + 8 * 84 + 40
    # training, post-train: 2 prompts once and 30 answer tokens, rows of 4 + 10; three passes
    assert one_update("posttrain") == sampling + 3 * ((8 + 30) * (68 + 56) + 30 * 20)
    # pre-train: the prefix token of each row, rows of 1 + 10
    assert one_update("pretrain") == sampling + 3 * ((3 + 30) * (68 + 44) + 30 * 20)
    # one row in the loss brings one prompt, none brings none
    assert one_update("posttrain", rows_trained=1.0, tokens_trained=10.0) == sampling + 3 * (14 * 124 + 200)
    assert one_update("posttrain", rows_trained=0.0, tokens_trained=0.0) == sampling


def test_a_cost_between_and_beyond_updates():
    total = pd.Series([0.0, 10.0, 30.0], index=[0, 1, 2])
    assert [efficiency.cost_at(total, update) for update in (1.0, 1.5, 2.0, 3.0)] == [10.0, 20.0, 30.0, 50.0]


def study() -> Evidence:
    config = synthetic.settings()
    return Evidence(config, {}, {}, {"miniature": synthetic.curves(config)}, {}, {})


def test_the_row_updates_is_the_claim_and_the_others_follow_their_own_cost():
    evidence = study()
    rows = {row["cost"]: row for row in efficiency.rows(evidence)}
    assert set(rows) == {"updates", "tokens", "flops", "seconds"}
    assert math.log(rows["updates"]["ratio"]) == pytest.approx(claims.efficiency(evidence).values.mean())
    assert (rows["updates"]["grpo_not_reached"], rows["updates"]["dsrl_not_reached"]) == (0, 0)
    assert all(row["ratio_low"] < row["ratio"] < row["ratio_high"] and row["seeds"] == 5 for row in rows.values())
    curves = evidence.curves["miniature"]
    costly = (curves["method"] == "dsrl") & curves["name"].isin(["tokens_sampled", "tokens_trained"])
    curves.loc[costly, "value"] *= 2
    doubled = {row["cost"]: row for row in efficiency.rows(evidence)}
    assert doubled["tokens"]["ratio"] == pytest.approx(rows["tokens"]["ratio"] / 2)
    assert doubled["updates"] == rows["updates"] and doubled["seconds"] == rows["seconds"]
    assert doubled["flops"]["ratio"] < rows["flops"]["ratio"]


def test_the_warm_up_is_counted_in_its_own_space():
    evidence = study()
    before = {row["cost"]: row["dsrl"] for row in efficiency.rows(evidence)}
    evidence.settings["methods"]["dsrl"]["phases"][0]["space"] = "posttrain"
    after = {row["cost"]: row["dsrl"] for row in efficiency.rows(evidence)}
    assert after["flops"] > before["flops"]
    assert {name for name in after if after[name] != before[name]} == {"flops"}


def test_what_is_not_reached_costs_an_update_beyond_the_end():
    evidence = study()
    curves = evidence.curves["miniature"]
    never = (curves["method"] == "dsrl") & (curves["name"] == "accuracy")
    curves.loc[never, "value"] = 0.1
    row = efficiency.rows(evidence)[0]
    assert (row["cost"], row["dsrl"], row["dsrl_not_reached"]) == ("updates", 61.0, 5)
