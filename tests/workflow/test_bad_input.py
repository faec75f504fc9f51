"""Bad input, one table: what is wrong, where it is said, and words that must stand in the message.

"plan": before any job, by every `snakemake` command; "job": by the job that meets it, at the end of its log. Whatever
stood on disk before stands there afterwards. tests/bad_input.py spoils the input.
"""

import os
import re
import subprocess
import sys

import pytest

import bad_input as bad
from bad_input import configured, in_base, in_scale
from checkouts import ROOT, copy_checkout, environment, snakemake
from prerl.config.errors import ConfigError
from prerl.config.validation import refuse_duplicate_keys
from prerl.core.errors import UserError
from tiny_training import Workshop, metrics, tensors

CHAIN = {"operations": [3], "questions": 60}
CHIAN4 = {"questions": 4, "rollouts_per_question": 2, "jobs": 1}
AIME = bad.CONFIG["scales"]["paper"]["data"]["benchmarks"]["aime24"]
HARNESS = {k: v for k, v in bad.CONFIG["scales"]["paper"]["ood"]["tasks"]["bbh"].items() if k != "dataset"}
HARNESS |= {"folder": "nowhere"}
OWN = {"path": "nowhere.jsonl", "columns": {"problem": "q", "answer": "a"}, "questions": 1}
MATH = bad.CONFIG["scales"]["paper"]["data"]["train"]


def phase(**values):
    return {"space": "posttrain", "samples": "all", "updates": "rest", **values}


def method(*phases, name="new"):
    return configured({"methods": {name: {"phases": list(phases)}}})


def benchmarks(**entries):
    return in_scale(data={"benchmarks": entries})


def paper(**change):
    return configured({"scales": {"paper": change}}, "paper")


TABLE = [
    # keys
    ("unknown key", "plan", configured({"speed": 1}), "speed: unknown key; keys are scale, external, against, methods"),
    ("misspelt key", "plan", in_scale(trainig={}), "scales.miniature.trainig: unknown key; …did you mean 'training'?"),
    ("key of another program", "plan", in_scale(training={"lr": 1.0}), "scales.miniature.training.lr: unknown key"),
    ("unknown key of a benchmark", "plan", benchmarks(chain3={"k": 3}), "data.benchmarks.chain3.k: unknown key"),
    ("key of another mode in a phase", "plan", in_scale(methods={"grpo": {"phases": [
        {"space": "posttrain", "samples": "all", "updates": "rest", "token_mean": {"mode": "global", "ranks": 2}}]}}),
     "methods.grpo.phases.0.token_mean.ranks: belongs to `mode: official`; remove it"),
    ("key of another mode", "plan", in_scale(training={"token_mean": {"ranks": 2}}),
     "training.token_mean.ranks: belongs to `mode: official`; remove it"),
    ("renamed key", "plan", in_scale(training={"updates": 9}), "updates: unknown key; …now `training.total_updates`"),
    ("missing key", "plan", in_scale(training={"token_mean": {"mode": "official"}}), "token_mean.ranks: missing"),
    ("unknown job", "plan", in_scale(resources={"train": {"threads": 2}}), 'the name "train" is none of …train_policy'),
    ("a search for a model of chains", "plan", in_scale(data={"train": {"generated": {"search": True}}}),
     "data: train is a search, which miniature has never seen; set generated.search: false"),
    ("GPUs that a job leaves idle", "plan", in_scale(resources={"measure_answers": {"threads": 1, "gpu": 2}}),
     "resources.measure_answers.gpu: 2; it uses one GPU, give 1"),
    ("several nodes to sample", "plan", in_scale(resources={"generate_samples": {"threads": 1, "gpu": 2, "nodes": 2}}),
     "resources.generate_samples.nodes: 2; only train_policy runs on several nodes"),
    ("GPUs of no kind", "plan", in_scale(resources={"train_policy": {"threads": 1, "gpu": 2}}),
     "hardware.gpu: missing, but resources.train_policy asks for 2; give its name"),
    ("GPUs that nodes cannot share", "plan", in_scale(resources={"train_policy": {"threads": 1, "gpu": 3, "nodes": 2}}),
     "resources.train_policy.gpu: 3 on 2 nodes; give the total"),
    # types
    ("text for a number", "plan", in_scale(training={"learning_rate": "1e-4"}),
     'training.learning_rate: "1e-4" is not a number; no quotes, and 1.0e-4 (YAML takes 1e-4 for text)'),
    ("half an update", "plan", in_scale(training={"total_updates": 60.5}), "total_updates: 60.5 is not a whole number"),
    ("text for a seed", "plan", in_scale(seeds=["11"]), 'seeds.0: "11" is not a whole number'),
    ("text for yes or no", "plan", in_scale(prompt={"enable_thinking": "no"}), '"no" is not true or false'),
    ("a number that is none", "plan", in_scale(training={"eps": float("nan")}), "training.eps: NaN is not a number"),
    ("a value for a block", "plan", in_scale(training=3), "scales.miniature.training: 3 is not a block of keys"),
    ("nothing for methods", "plan", configured({"methods": None}), "methods: null is not a block of keys"),
    ("a list as scale", "plan", configured({"scales": {"smoke": {"inherits": ["x"]}}}), "['x'] is no scale"),
    # names
    ("unknown scale", "plan", configured({}, "minature"), "scale: 'minature' is …; did you mean 'miniature'?"),
    ("unknown parent", "plan", configured({"scales": {"smoke": {"inherits": "tiny"}}}), "inherits: 'tiny' is no scale"),
    ("circular parent", "plan", in_scale(inherits="smoke"), "inherits leads back to itself; remove one"),
    ("vLLM without its cache", "plan", in_scale(rollouts={"engine": "vllm"}), "rollouts.kv_cache_gib: missing"),
    ("no log-probs by vLLM", "plan",
     in_scale(rollouts={"engine": "vllm", "kv_cache_gib": 1, "temperature": 0.7, "top_p": 0.8}),
     "rollouts.temperature: 0.7 together with top_p: 0.8; …set one of them to 1"),
    ("unknown engine", "plan", in_scale(rollouts={"engine": "sglang"}), '"sglang" is none of transformers, vllm'),
    ("harness without vLLM", "plan", paper(rollouts={"engine": "transformers"}), "ood.tasks: they run with vLLM, and"),
    ("name of a task", "plan", paper(ood={"tasks": {"amc23": HARNESS}}), "ood.tasks.amc23: the name is taken"),
    ("folder of a task", "plan", paper(ood={"tasks": {"own": HARNESS}}), "ood.tasks.own.folder: nowhere is not"),
    ("branch as revision", "plan", paper(models={"qwen3-4b": {"hub": {"revision": "main"}}}),
     'models.qwen3-4b.hub.revision: "main" is not allowed here; give the 40 hex digits of a commit'),
    ("unsupported model", "plan", paper(models={"qwen3-4b": {"architecture": {"model_type": "gemma2"}}}),
     "models.qwen3-4b.architecture: model_type 'gemma2' is not supported, only …soft-capped attention"),
    ("model that vLLM lacks", "plan", paper(models={"qwen3-4b": {"architecture": {"model_type": "phi"}}}),
     "rollouts.engine: vllm has no phi of its own, as models.qwen3-4b needs; set it to transformers"),
    ("folder without a model", "plan", paper(models={"own": {"folder": "nowhere"}}),
     "models.own.folder: nowhere has no config.json; name a transformers folder"),
    ("unknown method", "plan", in_scale(warmup_sweep={"method": "dsrll"}),
     "warmup_sweep.method: 'dsrll' is not a method; methods are …; did you mean 'dsrl'?"),
    ("unknown method to evaluate", "plan", in_scale(evaluation={"extra_updates": {"dpo": [20]}}),
     "evaluation.extra_updates.dpo: no such method; methods are grpo"),
    ("unknown phase", "plan", method(phase(kind="warmup")), "methods.new.phases.0.kind: unknown key"),
    ("unknown space", "plan", method(phase(space="pretran")),
     'phases.0.space: "pretran" is none of pretrain, posttrain, mismatched; did you mean \'pretrain\'?'),
    ("unknown sample set", "plan", method(phase(samples="positiv")),
     'phases.0.samples: "positiv" is none of all, positive, negative; did you mean \'positive\'?'),
    ("unknown estimator", "plan", method(phase(estimator="rlo")),
     'phases.0.estimator: "rlo" is none of grpo, rloo, reinforce_plus_plus, psr_nsr, gae; did you mean \'rloo\'?'),
    ("std of another estimator", "plan", method(phase(estimator="rloo", advantage_std=True)),
     "methods.new.phases.0.advantage_std: belongs to `estimator: grpo`, but this one is rloo; remove it"),
    ("weight of another estimator", "plan", method(phase(positive_advantage_weight=0.1)),
     "phases.0.positive_advantage_weight: belongs to `estimator: psr_nsr`, but this one is grpo; remove it"),
    ("no weight of right rows", "plan", method(phase(estimator="psr_nsr")),
     "phases.0.positive_advantage_weight: missing; `estimator: psr_nsr` needs it (0.1 is W-REINFORCE, 0 NSR)"),
    ("sign of a row by token", "plan", method(phase(estimator="reinforce_plus_plus", samples="negative")),
     "phases.0.samples: negative selects by the sign …each token a different one; use all"),
    ("critic without a prompt", "plan", method(phase(estimator="gae", space="pretrain")),
     "phases.0.space: pretrain would hide the prompt from the critic of `estimator: gae`; use posttrain"),
    ("method named like a path", "plan", method(phase(), name="../grpo"),
     'methods: the name "../grpo" is not allowed here; the name becomes a folder'),
    ("model named like a folder", "plan", in_scale(models={"data": {}}), 'the name "data" is not allowed here'),
    ("scale named like a path", "plan", configured({"scales": {"a/b": {"inherits": "smoke"}}}), 'name "a/b" is not'),
    ("method named as the base", "plan", method(phase(updates=30), name="base"), "methods.base: …rename the method"),
    # phases and updates
    ("phase of no length", "plan", method(phase(updates="all")), '"all" is neither a number nor \'rest\'; write one'),
    ("rest in the middle", "plan", method(phase(), phase()), "only the last phase may take the `rest`"),
    ("moments of no phase", "plan", method(phase(optimizer="keep"), name="grpo"), "first phase has no moments to keep"),
    ("the same run twice", "plan", method(phase()), "methods.new is the same run as methods.grpo; remove one"),
    ("warm-up that nothing trains", "plan", method(phase(samples="positive", updates=9, coefficient=3.0), phase()),
     "methods.new: no method trains its first 1 phase(s) for at least 9 updates; add one"),
    ("S beyond the run", "plan", in_scale(warmup_sweep={"lengths": [61]}),
     "warmup_sweep.lengths: 61: …the phase ends at update 61, beyond training.total_updates: 60; lower this"),
    ("S that leaves nothing", "plan", in_scale(warmup_sweep={"lengths": [60]}), "leaves the phase no update"),
    ("S of no update", "plan", paper(warmup_sweep={"lengths": [1]}), "training.phase_switch: before_step"),
    ("warm-up of one phase", "plan", in_scale(warmup_sweep={"method": "grpo"}), "grpo has one phase"),
    ("reference beyond the run", "plan", in_scale(evaluation={"reference_updates": {"rl": 61}}),
     "evaluation.reference_updates.rl: grpo has no update 61, it trains 1 to 60; choose one"),
    ("update of the parent", "plan", in_scale(evaluation={"extra_updates": {"dsrl": [20]}}), "dsrl has no update 20"),
    ("schedule without end", "plan", in_scale(validation={"schedule": [{"every": 5, "until": 20}]}),
     "validation.schedule: `until` is [20]; it must rise and be `end` in the last entry"),
    # numbers of samples
    ("k > n", "job", bad.more_tries_than_answers, "pass@9 needs 1 <= k <= n, …n = 8 answers: lower k or sample more"),
    ("more measured than sampled", "plan", in_scale(training={"measured_samples_per_prompt": 9}),
     "training.measured_samples_per_prompt: 9 is more than rollouts.samples_per_prompt: 8; lower it"),
    ("group size 1", "plan", in_scale(rollouts={"samples_per_prompt": 1}, training={"measured_samples_per_prompt": 1}),
     "rollouts.samples_per_prompt: a group of 1 has no spread, …; use 2 or more"),
    ("temperature 0", "plan", in_scale(rollouts={"temperature": 0}),
     "rollouts.temperature: 0 must be above 0; at 0 all answers to a prompt are equal and every advantage is 0"),
    ("the same seed twice", "plan", in_scale(seeds=[11, 12, 11]), "[11, 12, 11] holds 11, 11; remove the repetition"),
    ("more prompts than problems", "plan", in_scale(training={"prompts_per_update": 10_000}),
     "training.prompts_per_update: 10000 is more than the 4096 training problems; lower it"),
    ("more prompts than problems", "job", bad.too_few_problems, "3 problems, fewer than training.prompts_per_update 4"),
    ("more questions than problems", "plan", in_scale(alignment={"benchmarks": {"chain4": {"questions": 10_000}}}),
     "alignment.benchmarks.chain4.questions: 10000 is more than its"),
    # benchmarks
    ("no benchmark", "plan", configured({"scales": {"bare": bad.without_benchmarks()}}, "bare"),
     "scales.bare.data.benchmarks: empty; give at least one"),
    ("unknown benchmark", "plan", in_scale(validation={"benchmarks": ["chain9"]}),
     "validation.benchmarks: 'chain9' is not one of data.benchmarks: chain3"),
    ("unknown benchmark to align", "plan", in_scale(alignment={"benchmarks": {"chian4": CHIAN4}}),
     "did you mean 'chain4'?"),
    ("fewer questions than other problems", "plan", in_scale(alignment={"other_problems": 50}),
     "alignment.benchmarks.chain4.questions: 50 leaves 49 other problems of alignment.other_problems: 50; raise"),
    ("repeated name", "plan", in_scale(validation={"benchmarks": ["chain4", "chain4"]}), "remove the repetition"),
    ("repeated file", "plan", paper(data={"benchmarks": {"again": AIME}}),
     "data.benchmarks.again is the same file as aime24; remove one"),
    ("benchmark of training problems", "plan", paper(data={"benchmarks": {"again": MATH | {"role": "ood"}}}),
     "data.benchmarks.again is the same file as train; remove one"),
    ("generated twins", "plan", benchmarks(twin={"role": "main", "generated": CHAIN}),
     "data.benchmarks.twin asks for the same generated problems as chain3; remove one"),
    ("own problems that are not there", "plan", benchmarks(mine={"role": "ood", "own": OWN}),
     "data.benchmarks.mine.own.path: nowhere.jsonl is not there (in "),
    ("own problems of no format", "plan", benchmarks(mine={"role": "ood", "own": OWN | {"path": __file__}}),
     "data.benchmarks.mine.own.path: …test_bad_input.py is none of .jsonl, .csv, .parquet; convert it"),
    ("own problems without columns", "plan", benchmarks(mine={"role": "ood", "own": {"path": "x.csv", "questions": 1}}),
     "data.benchmarks.mine.own.columns: missing"),
    ("unknown reward", "plan", in_scale(reward={"function": "math"}),
     'reward.function: "math" is not allowed here; give boxed, math_verify, number, pattern, or FILE.py:FUNCTION'),
    ("reward function that is not there", "plan", in_scale(reward={"function": f"{__file__}:score"}),
     "reward.function: …test_bad_input.py defines no function 'score', only: phase, method"),
    ("pattern without groups", "plan", in_scale(reward={"function": "pattern", "pattern": "#### .+"}),
     "reward.pattern: '#### .+' has 0 groups; make one group of what is compared"),
    ("unknown tracker", "plan", in_scale(training={"tracker": "wanb"}),
     'training.tracker: "wanb" is none of none, tensorboard, wandb, mlflow; did you mean \'wandb\'?'),
    ("answers of others that are not there", "plan", configured({"external": "nowhere.jsonl"}),
     "external: nowhere.jsonl is not there (in "),
    ("benchmark named train", "plan", benchmarks(train={"role": "ood", "generated": CHAIN}), "rename the benchmark"),
    ("benchmark of two kinds", "plan", benchmarks(chain3=AIME),
     "chain3: holds role, generated, file; give exactly one of generated, …, own, and null for one"),
    ("no benchmark in the mean", "plan", benchmarks(**{f"chain{n}": {"role": "ood"} for n in (3, 4, 6)}),
     "data.benchmarks: none has `role: main`, …give one that role"),
    ("longer than the corpus", "plan", benchmarks(chain9={"role": "ood", "generated": {**CHAIN, "operations": [9]}}),
     "chain9 asks for 9 operations, the corpus of miniature ends at 8, …add the length"),
    ("mirror of another protocol", "plan", in_scale(data={"mirror": "ftp://host/data"}),
     'data.mirror: "ftp://host/data" is not allowed here; give a folder, an address that begins with http://'),
    ("mirror without a name", "plan", in_scale(data={"mirror": ""}), 'data.mirror: "" is not allowed here; give'),
    ("a path in the mirror", "plan", paper(data={"train": {"file": {"name": "data/train.parquet"}}}),
     'train.file.name: "data/train.parquet" is not allowed here; give the name that the file has in a mirror'),
    ("benchmark without a problem", "job", bad.no_problem, "empty.parquet holds no problem: delete it"),
    # prompts
    ("prompt and answer too long", "plan", in_scale(prompt={"max_prompt_tokens": 400}),
     "evaluation.max_new_tokens: 160 and prompt.max_prompt_tokens: 400 add up to more than …512; lower one"),
    ("prompt and answer too long", "job", bad.asked(**bad.settings_of("max_new_tokens", 200)),
     "prompt.max_prompt_tokens: 64 and max_new_tokens: 200 are together more than the 256 tokens of the model"),
    ("prompt limit below every prompt", "plan", in_scale(prompt={"max_prompt_tokens": 16}),
     "prompt.max_prompt_tokens: 16 is below every prompt of train: 17 tokens or more, 12 of them …raise it to 21"),
    ("prompt limit below a benchmark's", "plan", in_scale(prompt={"max_prompt_tokens": 28}),
     "prompt.max_prompt_tokens: 28 is below every prompt of chain8: 29 tokens or more, …raise it to 29"),
    ("prompt limit below the system message", "plan", paper(prompt={"max_prompt_tokens": 12}),
     "prompt.max_prompt_tokens: 12 is below every prompt of train: 13 tokens or more, …raise it well above 13"),
    ("prompt without a problem", "job", bad.asked(**bad.settings_of("max_prompt_tokens", 12)),
     "prompt.max_prompt_tokens: 12 leaves a problem no room, …alone take 12 tokens; raise it"),
    ("prefix of several tokens", "job", bad.asked(**bad.settings_of("prefix_token", "Let me")),
     "prompt.prefix_token 'Let me' is …not one token; name a special token"),
    # files
    ("truncated problems", "job", bad.truncated("train.parquet"), "train.parquet cannot be read …delete it and run"),
    ("truncated metrics", "job", bad.truncated("run/output/metrics.parquet"), "metrics.parquet cannot be read"),
    ("truncated shard of samples", "job", bad.truncated_shard, "easy-…parquet cannot be read …delete it"),
    ("flipped byte in a parquet", "job", bad.flipped, "values.parquet cannot be read …delete it"),
    ("model without tokenizer", "job", in_base(lambda folder: (folder / "tokenizer.json").unlink(), sealed=True),
     "base holds no tokenizer (tokenizer.json): fetch or save the model folder again, whole"),
    ("model without configuration", "job", in_base(lambda folder: (folder / "config.json").unlink(), sealed=True),
     "config.json is missing: fetch or make the model folder again, whole"),
    ("model with a missing shard", "job", in_base(bad.lose_a_shard, sealed=True),
     "model-00002-of-00005.safetensors…: fetch or make the model folder again, whole"),
    ("model with a missing tensor", "job", in_base(bad.lose_a_tensor, sealed=True),
     "missing_keys ['model.layers.1.mlp.up_proj.weight'], a foreign file: fetch or make"),
    ("model with a truncated file", "job",
     in_base(lambda folder: os.truncate(folder / "model.safetensors", 20_000), sealed=True), "base cannot be loaded"),
    ("model without chat template", "job",
     in_base(lambda folder: (folder / "chat_template.jinja").unlink(), sealed=True),
     "base has no chat template: name a model that was trained for conversations"),
    ("model with another EOS", "job", in_base(bad.close_turns_otherwise, sealed=True),
     "answers end at '<|im_end|>' (…and the chat template closes one with '<|endoftext|>': no answer would end"),
    ("checkpoint with a missing file", "job", in_base(lambda folder: (folder / "model.safetensors").unlink()),
     "model.safetensors is missing though …manifest.json lists it: rerun the job that makes it"),
    ("checkpoint with a damaged file", "job", in_base(bad.flip_last_byte), "model.safetensors is damaged …rerun"),
    ("checkpoint with a foreign file", "job", in_base(lambda folder: (folder / "adapter_config.json").write_text("{}")),
     "adapter_config.json is foreign, …manifest.json does not list it: move it elsewhere"),
    ("checkpoint with a damaged list", "job", in_base(bad.damaged_manifest), "manifest.json is damaged (…rerun"),
    ("checkpoint with foreign moments", "job", bad.foreign_moments, "moments of …a foreign checkpoint: rerun the job"),
    # disk
    ("full disk, checkpoint", "job", bad.disk_full,
     "update000003 not written: File too large (about …bytes needed, …free): what was there is kept: make room"),
    ("full disk, table", "job", bad.device_full("a.parquet", bad.write_numbers),
     "a.parquet not written: No space left on device (about 80,000 bytes needed"),
    ("full disk, record", "job", bad.device_full("a.json", bad.write_record),
     "a.json not written: No space left on device (about"),
    # numbers that are none
    ("loss not finite", "job", bad.not_finite("loss"), "update 3: the loss is …lower training.learning_rate"),
    ("reward not finite", "job", bad.not_finite("reward"), "update 3: reward_mean is nan: no step was taken"),
    ("log-prob not finite", "job", bad.not_finite("log-prob"), "update 3: entropy_nats is inf: no step was taken"),
    ("pre-training diverges", "job", bad.diverging_pretraining, "the loss is nan, …lower pretraining."),
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    shop = Workshop(tmp_path_factory.mktemp("made") / "shop")
    shop.run("run", bad.run_job(2))
    return shop


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    return bad.Run(made, tmp_path / "shop", monkeypatch)


@pytest.mark.parametrize(
    ("where", "spoil", "said"), [pytest.param(*row[1:], id=f"{row[0]} ({row[1]})") for row in TABLE]
)
def test_bad_input_ends_in_one_clear_message(request, where, spoil, said):
    run = request.getfixturevalue("run") if where == "job" else None
    refused = spoil(run)
    before = bad.contents(run.folder) if run else {}
    # a k beyond n can come from no input file: a mistake in the code, which keeps its traceback
    with pytest.raises(ValueError if spoil is bad.more_tries_than_answers else UserError) as caught:
        refused()
    message = str(caught.value)
    position = 0
    for words in said.split("…"):  # in this order
        assert words in message[position:], message
        position = message.index(words, position) + len(words)
    if run:
        after = bad.contents(run.folder)
        changed = [name for name, content in before.items() if after.get(name) != content]
        # but for the last answers to look at, and the oldest checkpoint, which makes room for the one that is written
        replaced = r"run/state/(last_answers.json|\w+/checkpoints/update000001/.*)"
        assert [name for name in changed if not re.fullmatch(replaced, name)] == []
        assert not list(run.folder.rglob(".*"))  # half-written


def test_a_fault_is_said_once_and_all_at_once():
    with pytest.raises(ConfigError) as caught:
        in_scale(rollouts={"samples_per_prompts": 8, "top_p": 2}, grading={"processes": 0})(None)()
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "scales.miniature.grading.processes",  # and not in scales.smoke, which inherits it
        "scales.miniature.rollouts.samples_per_prompts",
        "scales.miniature.rollouts.top_p",
        "Keys, types and bounds are in docs/config.md",
    ]


def test_a_key_written_twice_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a:\n  chain3: 1\n  chain3: 2\n")
    with pytest.raises(ConfigError, match="the key 'chain3' occurs twice"):
        refuse_duplicate_keys([str(file)])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: [1", "sede: 3\nseeds: [1", "scales.smoke.sede: unknown key"),
        ("inherits: miniature\n", "inherits: miniature\ninherits: miniature\n", "the key 'inherits' occurs twice"),
        ("warmup_sweep: {lengths: [2]}", "warmup_sweep: {lengths: [9]}", "update 9, beyond training.total_updates: 3"),
    ],
)  # fmt: skip
def test_snakemake_says_it_before_any_job_and_without_a_traceback(tmp_path, old, new, said):
    folder = copy_checkout(tmp_path / "workflow")
    config = folder / "scales/smoke.yaml"
    text = config.read_text()
    assert text.count(old) == 1
    config.write_text(text.replace(old, new))
    result = snakemake(folder, "--cores", "1", "--config", "scale=smoke")
    assert result.returncode == 1
    assert "the configuration cannot be used" in result.stdout and said in result.stdout
    assert "Traceback" not in result.stdout
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        ('{"update": 3, "optimizer": "keep"}', "error: {} is missing: the checkpoint was not finished; rerun the job"),
        ("{", "json.decoder.JSONDecodeError: Expecting property name"),
    ],
)
def test_a_script_shows_the_message_alone_and_of_a_bug_the_traceback(tmp_path, settings, last):
    manifest = tmp_path / "manifest.json"
    arguments = ["--settings", settings, "--checkpoint", str(manifest), "--start", str(tmp_path / "start")]
    script = ROOT / "workflow_scripts/reincarnate_policy.py"
    result = subprocess.run(
        [sys.executable, str(script), *arguments], env=environment(), capture_output=True, text=True
    )
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and lines[-1].startswith(last.format(manifest))
    assert (len(lines) == 1) is last.startswith("error: ") is ("Traceback" not in result.stderr)


def test_every_parquet_is_read_by_the_helper_with_the_message():
    scripts = (ROOT / "workflow_scripts").rglob("*.py")
    reading = {path.name for path in scripts if any(w in path.read_text() for w in ("read_parquet", "pq.read"))}
    assert reading == {"files.py"}


def test_with_room_again_the_run_goes_on_as_if_nothing_had_been(run, made):
    with pytest.raises(UserError, match="not written"):
        bad.disk_full(run)()
    assert run.trainer("run", bad.run_job(3)).update == 2
    resumed, straight = run.run("run", bad.run_job(3)), made.run("straight", bad.run_job(3))
    assert tensors(resumed, 3) == tensors(straight, 3) and metrics(resumed) == metrics(straight)
