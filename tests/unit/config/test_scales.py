"""config.yaml: what it means for the methods. What is refused, and how, is in tests/workflow/test_bad_input.py."""

import copy
from dataclasses import replace

import pytest

from prerl.config.checks import check_mirror
from prerl.config.errors import ConfigError
from prerl.config.methods import PhaseSettings, resolve_methods, scheduled_updates, warmup_values
from prerl.config.scales import deep_merge, read_config, read_files

CONFIG = read_files()


def block_of(scale, change=None):
    """The scale's block once `change` (deep-merged, under its scale) is applied."""
    config = copy.deepcopy(CONFIG) | {"scale": scale}
    return read_config(deep_merge(config, change or {}))


def in_scale(**change):
    return {"scales": {"miniature": change}}


@pytest.mark.parametrize("scale", ["miniature", "smoke", "pilot", "paper"])
def test_scales_are_accepted(scale):
    assert set(resolve_methods(block_of(scale))) >= {
        "grpo", "prerl", "psr_rl", "nsr_rl", "psr_prerl", "nsr_prerl", "dsrl", "nsr_rl_warmup"
    }  # fmt: skip


def test_a_scale_leaves_out_a_method_that_its_parent_changes():
    """`nsr_rl_warmup: null` in evening: pilot has a change of it, config.yaml the method."""
    assert set(resolve_methods(block_of("evening"))) == {"grpo", "nsr_prerl", "dsrl"}
    assert set(resolve_methods(block_of("quick"))) - {"grpo", "nsr_prerl", "dsrl"} == {
        "ppo", "reinforce_pp", "rloo", "w_reinforce", "nsr_decomposed"
    }  # fmt: skip


def test_one_nsr_prerl_run_serves_dsrl_and_the_sweep():
    block = block_of("miniature", in_scale(training={"total_updates": 60}, warmup_sweep={"lengths": [10, 20, 30]}))
    methods = resolve_methods(block)
    parents = {name: (method.parent, method.first_update) for name, method in methods.items() if method.parent}
    assert parents == {
        "dsrl": ("nsr_prerl", 21),
        "dsrl_s10": ("nsr_prerl", 11),
        "dsrl_s30": ("nsr_prerl", 31),
        "nsr_rl_warmup": ("nsr_rl", 21),
    }
    assert methods["nsr_prerl"].kept_updates == (10, 20, 30, 60)
    assert methods["nsr_prerl"].optimizer_updates == (10, 20, 30)
    assert methods["nsr_prerl"].evaluated_updates == (20, 60)
    assert methods["dsrl"].kept_updates == methods["dsrl"].evaluated_updates == (60,)
    assert methods["dsrl"].optimizer_updates == ()
    assert warmup_values(block, methods) == {0: "grpo", 10: "dsrl_s10", 20: "dsrl", 30: "dsrl_s30"}


ONE_RUN = {"scales": {"paper": {"training": {"early_runs": False}}}}


def test_official_switch_does_19_updates_for_20():
    methods = resolve_methods(block_of("paper", ONE_RUN))
    assert (methods["dsrl"].parent_update, methods["dsrl"].first_update, methods["dsrl"].last_update) == (19, 20, 348)
    assert methods["nsr_prerl"].optimizer_updates == (4, 9, 14, 19, 24, 29, 49)
    assert methods["nsr_prerl"].evaluated_updates == (20, 348)
    assert methods["grpo"].evaluated_updates == (20, 60, 348)


def test_what_claims_and_warmups_need_of_a_method_is_a_run_of_its_own():
    block, whole = block_of("paper"), resolve_methods(block_of("paper", ONE_RUN))
    methods = resolve_methods(block)
    assert {name: method.part_of for name, method in methods.items() if method.part_of} == {
        "grpo_to60": "grpo", "nsr_rl_to19": "nsr_rl", "nsr_prerl_to20": "nsr_prerl"
    }  # fmt: skip
    early, rest = methods["nsr_prerl_to20"], methods["nsr_prerl"]
    assert (early.parent, early.first_update, early.last_update) == (None, 1, 20)
    assert (rest.parent, rest.first_update, rest.last_update) == ("nsr_prerl_to20", 21, 348)
    assert early.kept_updates == early.optimizer_updates == (4, 9, 14, 19, 20)
    assert (rest.kept_updates, rest.optimizer_updates) == ((24, 29, 49, 348), (24, 29, 49))
    assert (early.evaluated_updates, rest.evaluated_updates) == ((20,), (348,))
    assert methods["grpo_to60"].optimizer_updates == (60,) and methods["grpo"].parent == "grpo_to60"
    parents = {name: methods[name].parent for name in ("dsrl", "dsrl_s15", "dsrl_s25", "nsr_rl_warmup", "prerl")}
    assert parents == {
        "dsrl": "nsr_prerl_to20", "dsrl_s15": "nsr_prerl_to20", "dsrl_s25": "nsr_prerl",
        "nsr_rl_warmup": "nsr_rl_to19", "prerl": None
    }  # fmt: skip
    assert methods["nsr_rl_to19"].evaluated_updates == ()
    # each update is trained once, as the whole method's phase says
    assert early.phases[-1].settings == whole["nsr_prerl"].phases[-1].settings
    assert rest.phases[-1].settings == replace(early.phases[-1].settings, optimizer="keep")
    assert all(methods[name].stages == method.phases for name, method in whole.items())
    assert warmup_values(block, methods) == warmup_values(block, whole)
    schedule = block["validation"]["schedule"]
    assert scheduled_updates(schedule, methods["nsr_rl_to19"]) == [0, 10]  # 19 is not its method's end
    assert scheduled_updates(schedule, early) + scheduled_updates(schedule, rest) == scheduled_updates(
        schedule, whole["nsr_prerl"]
    )


def test_a_critic_is_not_cut():
    more = {"evaluation": {"extra_updates": {"ppo": [20], "rloo": [20]}}}
    methods = resolve_methods(block_of("paper", {"scales": {"paper": more}}))
    assert "ppo_to20" not in methods and "rloo_to20" in methods


def test_phase_settings_default_to_the_scale_and_change_alone():
    paper = resolve_methods(block_of("paper", ONE_RUN))
    assert paper["dsrl"].phases[0].settings == PhaseSettings("pretrain", "negative", 0.01, False, True, "fresh")
    assert paper["dsrl"].phases[1].settings == PhaseSettings("posttrain", "all", 1.0, True, True, "keep")
    phase = {"space": "posttrain", "samples": "all", "updates": "rest", "coefficient": 0.5, "eos_in_mask": False}
    changed = resolve_methods(block_of("paper", ONE_RUN | {"methods": {"grpo": {"phases": [phase]}}}))
    assert changed["grpo"].phases[0].settings == PhaseSettings("posttrain", "all", 0.5, True, False, "fresh")
    assert {name for name in paper if paper[name] != changed[name]} == {"grpo"}


def test_every_method_has_a_name_for_tables():
    assert all(method["label"] for method in CONFIG["methods"].values())


def test_an_estimator_brings_its_own_settings_and_no_others():
    changed = {"scales": {"paper": {"objective": {"gamma": 0.99, "lam": 0.95}}}}
    phases = {name: method.phases[0].settings for name, method in resolve_methods(block_of("paper", changed)).items()}
    rl = ("posttrain", "all", 1.0, False, True, "fresh")
    assert phases["ppo"] == PhaseSettings(*rl, estimator="gae", gamma=0.99, lam=0.95)
    assert phases["reinforce_pp"] == PhaseSettings(*rl, estimator="reinforce_plus_plus", gamma=0.99)
    assert phases["rloo"] == PhaseSettings(*rl, estimator="rloo")
    assert phases["w_reinforce"] == PhaseSettings(*rl, estimator="psr_nsr", positive_advantage_weight=0.1)
    assert phases["nsr_decomposed"] == PhaseSettings(*rl, estimator="psr_nsr", positive_advantage_weight=0)
    assert phases["grpo"] == PhaseSettings("posttrain", "all", 1.0, True, True, "fresh")


@pytest.mark.parametrize("mirror", [None, "../shared/data", "/data", "http://127.0.0.1:8000", "https://host/data/"])
def test_a_mirror_is_a_folder_or_an_address(mirror):
    assert block_of("paper", {"scales": {"paper": {"data": {"mirror": mirror}}}})["data"]["mirror"] == mirror


def test_a_mirror_that_does_not_exist_is_refused_while_a_file_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = block_of("paper", {"scales": {"paper": {"data": {"mirror": "mirors"}}}})
    results = tmp_path / "results/paper"
    sets = ["train", *block["data"]["benchmarks"]]
    (results / "data").mkdir(parents=True)
    (results / "downloads").mkdir()
    for name in sets[:-2]:
        (results / f"data/{name}.parquet").touch()
    (results / f"downloads/{sets[-2]}").touch()
    with pytest.raises(ConfigError) as caught:
        check_mirror(block, results)
    assert str(caught.value) == (
        f"data.mirror: mirors is not a folder (in {tmp_path}), and {sets[-1]} must still be fetched; correct it, or "
        "set it to null for the public addresses"
    )
    (tmp_path / "mirors").mkdir()
    check_mirror(block, results)
    (tmp_path / "mirors").rmdir()
    (results / f"downloads/{sets[-1]}").touch()  # a mirror that has served its purpose
    check_mirror(block, results)
    check_mirror(block_of("miniature", in_scale(data={"mirror": "mirors"})), results)  # nothing to fetch
    for mirror in (None, "https://host/data"):
        check_mirror(block_of("paper", {"scales": {"paper": {"data": {"mirror": mirror}}}}), tmp_path)


def test_null_leaves_out_what_is_inherited():
    pilot = block_of("pilot")
    assert set(pilot["models"]) == {"qwen3-0.6b", "qwen3-1.7b"}
    assert "ppo" not in pilot["methods"] and "ppo" in block_of("paper")["methods"]
    assert set(pilot["ood"]["tasks"]) == {"bbh", "humaneval"}
    assert deep_merge({"a": {"b": 1}, "c": 2}, {"a": None, "c": None}) == {"c": None}
    config = copy.deepcopy(CONFIG) | {"scale": "pilot"}
    config["scales"]["pilot"]["models"]["qwen3-1.7b"] = None  # as Snakemake merges a --configfile
    assert set(read_config(config)["models"]) == {"qwen3-0.6b"}


def test_a_configfile_leaves_out_a_control_with_its_methods():
    """What the scale alone has, not its parent: a method, where it is evaluated besides, a control."""
    config = copy.deepcopy(CONFIG) | {"scale": "controls"}
    changed = config["scales"]["controls"]
    changed["methods"] |= {"nsr_prerl_weak": None, "dsrl_weak": None}
    changed["evaluation"]["extra_updates"]["nsr_prerl_weak"] = None
    changed["controls"]["weak"] = None
    left, whole = read_config(config), block_of("controls")
    assert set(whole["methods"]) - set(left["methods"]) == {"nsr_prerl_weak", "dsrl_weak"}
    assert set(whole["controls"]) - set(left["controls"]) == {"weak"}
    assert "nsr_prerl_weak" not in left["evaluation"]["extra_updates"]


def test_a_scale_may_have_its_own_phases():
    own = {"prerl": {"phases": [{"space": "pretrain", "samples": "all", "updates": 40}]}}
    assert resolve_methods(block_of("miniature", in_scale(methods=own)))["prerl"].last_update == 40


def test_three_phases_continue_a_method_of_two():
    phases = [
        {"space": "pretrain", "samples": "negative", "updates": 20},
        {"space": "posttrain", "samples": "all", "updates": 10},
        {"space": "posttrain", "samples": "positive", "updates": "rest"},
    ]
    method = resolve_methods(block_of("miniature", {"methods": {"three": {"phases": phases}}}))["three"]
    assert (method.parent, method.parent_update, method.first_update) == ("dsrl", 30, 31)


def test_schedule_of_the_paper():
    methods = resolve_methods(block_of("paper", ONE_RUN))
    schedule = block_of("paper")["validation"]["schedule"]
    updates = scheduled_updates(schedule, methods["grpo"])
    assert updates == [0, *range(10, 101, 10), *range(150, 348, 50), 348]
    assert scheduled_updates(schedule, methods["dsrl"])[:2] == [20, 30]
