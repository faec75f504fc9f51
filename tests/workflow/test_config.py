"""config.yaml: what it means for the methods, and that every mistake is refused with one clear message."""

import copy

import pytest
import yaml
from checkouts import ROOT

from prerl.config import read_config, refuse_duplicate_keys
from prerl.methods import (
    ConfigError,
    PhaseSettings,
    deep_merge,
    resolve_methods,
    scheduled_updates,
    warmup_values,
)

SCHEMA = ROOT / "rules/config.schema.yaml"
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def block_of(scale, change=None):
    """The scale's block once `change` (deep-merged, under its scale) is applied."""
    config = copy.deepcopy(CONFIG) | {"scale": scale}
    return read_config(deep_merge(config, change or {}), SCHEMA)


def refusal(change, scale="miniature"):
    with pytest.raises(ConfigError) as caught:
        block_of(scale, change)
    return str(caught.value)


def in_scale(**change):
    return {"scales": {"miniature": change}}


@pytest.mark.parametrize("scale", ["miniature", "smoke", "paper"])
def test_scales_are_accepted(scale):
    assert set(resolve_methods(block_of(scale))) >= {
        "grpo", "prerl", "psr_rl", "nsr_rl", "psr_prerl", "nsr_prerl", "dsrl", "nsr_rl_warmup"
    }  # fmt: skip


def test_one_nsr_prerl_run_serves_dsrl_and_the_sweep():
    block = block_of("miniature", in_scale(training={"updates": 60}, warmup_sweep={"updates": [10, 20, 30]}))
    methods = resolve_methods(block)
    trunks = {name: (method.trunk, method.first_update) for name, method in methods.items() if method.trunk}
    assert trunks == {
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


def test_official_switch_does_19_updates_for_20():
    methods = resolve_methods(block_of("paper"))
    assert (methods["dsrl"].trunk_update, methods["dsrl"].first_update, methods["dsrl"].updates) == (19, 20, 348)
    assert methods["nsr_prerl"].optimizer_updates == (4, 9, 14, 19, 24, 29, 49)
    assert methods["nsr_prerl"].evaluated_updates == (20, 348)
    assert methods["grpo"].evaluated_updates == (20, 60, 348)


def test_phase_settings_default_to_the_scale_and_change_alone():
    paper = resolve_methods(block_of("paper"))
    assert paper["dsrl"].phases[0].settings == PhaseSettings("pretrain", "negative", 0.01, False, True, "fresh")
    assert paper["dsrl"].phases[1].settings == PhaseSettings("posttrain", "all", 1.0, True, True, "keep")
    phase = {"space": "posttrain", "samples": "all", "updates": "rest", "coefficient": 0.5, "eos_in_mask": False}
    changed = resolve_methods(block_of("paper", {"methods": {"grpo": {"phases": [phase]}}}))
    assert changed["grpo"].phases[0].settings == PhaseSettings("posttrain", "all", 0.5, True, False, "fresh")
    assert {name for name in paper if paper[name] != changed[name]} == {"grpo"}


@pytest.mark.parametrize("mirror", [None, "../shared/data", "/data", "http://127.0.0.1:8000", "https://host/data/"])
def test_a_mirror_is_a_folder_or_an_address(mirror):
    assert block_of("paper", {"scales": {"paper": {"data": {"mirror": mirror}}}})["data"]["mirror"] == mirror


def test_a_scale_may_have_its_own_phases():
    own = {"prerl": {"phases": [{"space": "pretrain", "samples": "all", "updates": 40}]}}
    assert resolve_methods(block_of("miniature", in_scale(methods=own)))["prerl"].updates == 40


def test_three_phases_continue_a_method_of_two():
    phases = [
        {"space": "pretrain", "samples": "negative", "updates": 20},
        {"space": "posttrain", "samples": "all", "updates": 10},
        {"space": "posttrain", "samples": "positive", "updates": "rest"},
    ]
    method = resolve_methods(block_of("miniature", {"methods": {"three": {"phases": phases}}}))["three"]
    assert (method.trunk, method.trunk_update, method.first_update) == ("dsrl", 30, 31)


def test_schedule_of_the_paper():
    methods = resolve_methods(block_of("paper"))
    schedule = block_of("paper")["validation"]["schedule"]
    updates = scheduled_updates(schedule, methods["grpo"])
    assert updates == [0, *range(5, 101, 5), *range(125, 348, 25), 348]
    assert scheduled_updates(schedule, methods["dsrl"])[:2] == [20, 25]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"speed": 1},
            "config: Additional properties are not allowed ('speed' was unexpected); keys are scale, methods",
        ),
        (in_scale(trainig={}), "scales.miniature: Additional properties are not allowed ('trainig'"),
        (in_scale(training={"lr": 1.0}), "scales.miniature.training: Additional properties are not allowed ('lr'"),
        (in_scale(data={"benchmarks": {"chain3": {"k": 3}}}), "scales.miniature.data.benchmarks.chain3"),
        (in_scale(training={"token_mean": {"ranks": 2}}), "scales.miniature.training.token_mean"),
        (
            in_scale(training={"token_mean": {"mode": "official"}}),
            "'max_tokens_per_micro_batch' is a required property",
        ),
        (in_scale(training={"learning_rate": "1e-4"}), "learning_rate: '1e-4' is not of type 'number'"),
        (in_scale(training={"updates": 60.5}), "training.updates: 60.5 is not of type 'integer'"),
        (in_scale(seeds=["11"]), "seeds.0: '11' is not of type 'integer'"),
        (in_scale(seeds=[11, 11]), "has non-unique elements"),
        (in_scale(prompt={"enable_thinking": "no"}), "enable_thinking: 'no' is not of type 'boolean'"),
        (in_scale(rollouts={"engine": "sglang"}), "'sglang' is not one of ['transformers', 'vllm']"),
        (in_scale(validation={"benchmarks": ["chain4", "chain4"]}), "has non-unique elements"),
        (in_scale(resources={"train": {"threads": 2}}), "'train' is not one of"),
        (
            {"scales": {"paper": {"models": {"qwen3-4b": {"hub": {"revision": "main"}}}}}},
            "scales.paper.models.qwen3-4b.hub.revision: 'main' does not match",
        ),
        (
            in_scale(data={"mirror": "ftp://host/data"}),
            "scales.miniature.data.mirror: 'ftp://host/data' does not match",
        ),
        (in_scale(data={"mirror": ""}), "scales.miniature.data.mirror: '' does not match"),
        (
            {"scales": {"paper": {"data": {"train": {"file": {"name": "data/train.parquet"}}}}}},
            "scales.paper.data.train.file.name: 'data/train.parquet' does not match",
        ),
        ({"methods": {"grpo": {"phases": [{"space": "rl", "samples": "all", "updates": 1}]}}}, "'rl' is not one of"),
        (
            {"methods": {"grpo": {"phases": [{"space": "posttrain", "samples": "all", "updates": "all"}]}}},
            "methods.grpo.phases.0.updates: 'rest' was expected",
        ),
        ({"scale": "huge"}, "scale: 'huge' is none of miniature, smoke, paper"),
        ({"scales": {"smoke": {"inherits": "tiny"}}}, "scales.smoke.inherits: 'tiny' is no scale"),
        ({"scales": {"miniature": {"inherits": "smoke"}}}, "leads back to itself"),
    ],
)
def test_schema_refuses(change, said):
    assert said in refusal(change)


def phase(**values):
    return {"space": "posttrain", "samples": "all", "updates": "rest", **values}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (in_scale(rollouts={"samples_per_prompt": 1}), "rollouts.samples_per_prompt: 1 answer makes a group without"),
        (in_scale(warmup_sweep={"method": "dsrll"}), "warmup_sweep.method: 'dsrll' is no method; methods are grpo"),
        (in_scale(warmup_sweep={"method": "grpo"}), "warmup_sweep.method: grpo has one phase"),
        (in_scale(warmup_sweep={"updates": [61]}), "ends at update 61, beyond training.updates: 60"),
        (in_scale(warmup_sweep={"updates": [60]}), "leaves the phase no update"),
        (in_scale(validation={"benchmarks": ["chain9"]}), "validation.benchmarks: 'chain9' is no benchmark"),
        (in_scale(alignment={"benchmark": "chain9"}), "alignment.benchmark: 'chain9' is no benchmark"),
        (in_scale(alignment={"questions": 10_000}), "alignment.questions: 10000 is more than chain4's"),
        (in_scale(training={"prompts_per_update": 10_000}), "training.prompts_per_update: 10000 is more than the 4096"),
        (in_scale(evaluation={"reference_updates": {"rl": 61}}), "evaluation.reference_updates.rl: 61 is no update"),
        (in_scale(evaluation={"updates": {"dsrl": [20]}}), "evaluation.updates.dsrl: 20 is no update of dsrl"),
        (in_scale(evaluation={"updates": {"ppo": [20]}}), "evaluation.updates.ppo: no such method"),
        (in_scale(validation={"schedule": [{"every": 5, "until": 20}]}), "must rise and be `end` in the last entry"),
        (
            in_scale(
                data={"benchmarks": {"chain9": {"role": "ood", "generated": {"operations": [9], "questions": 5}}}}
            ),
            "chain9 asks for 9 operations, the corpus of miniature ends at 8",
        ),
        (
            in_scale(data={"benchmarks": {"train": {"role": "ood", "generated": {"operations": [3], "questions": 5}}}}),
            "data.benchmarks.train: the name belongs to the training problems",
        ),
        (
            in_scale(data={"benchmarks": {name: {"role": "ood"} for name in ("chain3", "chain4", "chain6")}}),
            "none has `role: main`",
        ),
        ({"methods": {"base": {"phases": [phase(updates=30)]}}}, "methods.base: the name means the untrained model"),
        ({"methods": {"again": {"phases": [phase()]}}}, "methods.again is the same run as methods.grpo"),
        ({"methods": {"grpo": {"phases": [phase(optimizer="keep")]}}}, "the first phase has no moments to keep"),
        ({"methods": {"new": {"phases": [phase(), phase()]}}}, "only the last phase may take the `rest`"),
        (
            {"methods": {"new": {"phases": [phase(samples="positive", updates=9, coefficient=3.0), phase()]}}},
            "methods.new: no method trains its first 1 phase(s) for at least 9 updates; add one",
        ),
    ],
)
def test_what_no_schema_says_is_refused(change, said):
    assert said in refusal(change)


def test_the_same_file_twice_is_refused():
    aime = CONFIG["scales"]["paper"]["data"]["benchmarks"]["aime24"]
    change = {"scales": {"paper": {"data": {"benchmarks": {"again": aime}}}}}
    assert "data.benchmarks.again is the same file as aime24" in refusal(change, "paper")


def test_official_switch_cannot_do_one_update():
    change = {"scales": {"paper": {"warmup_sweep": {"updates": [1]}}}}
    assert "training.phase_switch: before_step" in refusal(change, "paper")


def test_a_key_written_twice_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a:\n  chain3: 1\n  chain3: 2\n")
    with pytest.raises(ConfigError, match="the key 'chain3' stands twice"):
        refuse_duplicate_keys([str(file)])


def test_every_fault_is_named_at_once():
    said = refusal(in_scale(rollouts={"samples_per_prompt": 1}, alignment={"benchmark": "chain9"}))
    assert "samples_per_prompt" in said and "chain9" in said
