"""The map of regimes: its scalars by hand."""

import pandas as pd
import pytest

import synthetic
from prerl.publishing import regimes


def test_the_area_is_the_mean_accuracy_over_the_run():
    accuracy = pd.DataFrame({11: [0.0, 0.5, 0.5], 12: [0.2, 0.2, 0.2]}, index=[0, 10, 20])
    assert regimes.area(accuracy).to_dict() == pytest.approx({11: 37.5, 12: 20.0})
    uneven = pd.DataFrame({11: [0.0, 0.4, 0.4]}, index=[0, 5, 25])  # (1 + 8) / 25
    assert regimes.area(uneven)[11] == pytest.approx(36.0)


def test_the_first_solved_group_or_the_update_after_the_end():
    solved = pd.DataFrame({11: [0.0, 0.0, 0.03], 12: [0.0, 0.0, 0.0], 13: [0.1, 0.0, 0.2]}, index=[1, 2, 3])
    assert regimes.first_solved(solved).to_dict() == {11: 3.0, 12: 4.0, 13: 1.0}


def test_cells_are_paired_differences_of_dsrl_and_grpo():
    config = synthetic.settings()
    model = config["models"][0]
    config |= {"regimes": {model: {"under_prompt": 0.08, "alone": 0.5}}}
    questions, curves = synthetic.questions(config), synthetic.curves(config)
    table = regimes.cells({model: questions}, {model: curves}, config)
    lengths = [int(steps) for steps, method in config["warmup"]["s_values"].items() if method != "grpo"]
    assert list(table["S"].unique()) == lengths and len(table) == 3 * len(lengths)
    row = table[(table["scalar"] == "accuracy") & (table["S"] == config["switch_update"])].iloc[0]
    assert row["difference"] == pytest.approx(-0.25)  # as main_4b of the synthetic study
    assert row["difference"] == pytest.approx(row["dsrl"] - row["grpo"]) and row["seeds"] == 5
