"""Names and lines of methods: config.yaml's, those of the sweep, and the defaults."""

import synthetic
from prerl.publishing.labels import GREY, RING, label, style


def study(**methods) -> dict:
    sweep = {"method": "dsrl", "s_values": {"0": "grpo", "5": "dsrl_s5", "20": "dsrl"}}
    return {"methods": methods, "warmup": sweep}


def test_what_the_configuration_says_is_shown():
    settings = synthetic.settings()
    assert [label(settings, name) for name in ("base", "nsr_rl_warmup", "dsrl_s5", "dsrl")] == [
        "Base", "NSR-RL → GRPO", "DSRL, S = 5", "DSRL"
    ]  # fmt: skip
    assert style(settings, "grpo") == {"color": "#000000", "linestyle": "-", **RING}
    assert style(settings, "nsr_rl") == {"color": "#009E73", "linestyle": (0, (3, 1, 1, 1, 1, 1)), "marker": "v"}


def test_a_method_without_a_look_has_its_name_and_a_grey_line():
    settings = study(grpo={}, dsrl={}, dsrl_s5={}, new={"label": None})
    names = ("grpo", "dsrl", "dsrl_s5", "new")
    assert [label(settings, name) for name in names] == ["grpo", "dsrl", "dsrl, S = 5", "new"]
    assert style(settings, "new") == {"color": GREY, "linestyle": "-", "marker": "."}
