r"""The true pipeline on real text: MATH and AMC23, the Qwen tokenizer, a Qwen3 with the full vocabulary, real scripts.

Once with the embedded sampler, once with vLLM (training in its process, evaluation by two processes of it).

Random weights would never be right, and without a mixed group there is no advantage. So a model of two layers is first
fitted for some seconds on short answers whose boxed integer is the right one half of the time. Then, each as its own
process, as the rules start them: two NSR-PreRL updates on MATH, the hand-over, two GRPO updates, evaluation on AMC23,
a figure. The answers it is
fitted on write "answer" in two tokens where the tokenizer writes one, so that a decode and re-encode anywhere would
show: in the log-probs, and in the ids that are kept.
"""

from __future__ import annotations

import json
import math
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from prerl.config.prompt import PromptSettings
from prerl.core.files import write_parquet
from prerl.models.checkpoints import OPTIMIZER, load_model, verify
from prerl.models.logprobs import response_logprobs
from prerl.models.prompts import encode_prompts, load_tokenizer
from real_text import (
    AMC23,
    ENGINES,
    EVALUATION_SAMPLES,
    MATH,
    PROMPT,
    PROMPTS,
    SAMPLES,
    SAMPLING,
    TOKENIZER,
    UPDATES,
    VLLM_PYTHON,
    Study,
    make_base,
    own_peak_gib,
    problems_of_amc23,
    problems_of_math,
)

for needed in (AMC23, MATH, TOKENIZER / "vocab.json"):
    if not needed.exists():
        pytest.skip(f"{needed} is absent: the data files go there", allow_module_level=True)
MISSING = pytest.mark.skipif(not VLLM_PYTHON.exists(), reason="needs .venv-vllm: make .venv-vllm/installed")
NEEDS = {"vllm": (pytest.mark.vllm, MISSING)}

MEMORY_GIB = 8.0


@pytest.fixture(scope="module")
def problems():
    return {"amc23": problems_of_amc23(), "train": problems_of_math()}


@pytest.fixture(scope="module")
def base(problems, tmp_path_factory):
    """(the fitted model's folder, seconds and GiB that it took)."""
    start = time.perf_counter()
    folder = tmp_path_factory.mktemp("base") / "base"
    make_base(folder, *problems.values())
    yield folder, ("fit (this process)", time.perf_counter() - start, own_peak_gib())
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=NEEDS.get(name, ())) for name in ENGINES])
def study(request, problems, base, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp(request.param)
    result = Study(request.param, folder, [base[1]])
    for name, table in problems.items():
        write_parquet(folder / f"data/{name}.parquet", table)
    shutil.copytree(base[0], folder / "base")
    result.train("nsr_prerl", result.checkpoint(0))
    result.script(
        "reincarnate_policy",
        *("--settings", json.dumps({"update": 2, "optimizer": "keep", "start": "trained"})),
        *("--checkpoint", result.checkpoint(2)),
        *("--start", folder / "start/manifest.json"),
    )
    result.train("dsrl", folder / "start/manifest.json")
    result.evaluate()
    result.draw()
    yield result
    shutil.rmtree(folder)  # checkpoints of a full vocabulary are large


def test_problems_are_the_forty_questions_and_those_of_math(problems):
    assert [len(table) for table in problems.values()] == [40, 16]
    for table in problems.values():
        assert all(int(answer) == float(answer) for answer in table["answer"].to_pylist())


def test_prompts_have_the_ids_of_qwen3(problems):
    tokenizer = load_tokenizer(TOKENIZER)
    golden = [151644, 8948, 198, 5501, 2874, 3019, 553, 3019, 11, 323, 2182, 697, 1590, 4226, 2878, 1124, 79075, 46391]
    golden += [151645, 198, 151644, 872, 198, 3838, 374, 220, 16, 10, 16, 30, 151645, 198, 151644, 77091, 198]
    golden += [151667, 271, 151668, 271]
    prompts = encode_prompts(
        tokenizer, ["What is 1+1?", *problems["amc23"]["problem"].to_pylist()], PromptSettings(**PROMPT)
    )
    assert prompts[0] == golden
    for prompt in prompts:
        assert prompt[:3] == golden[:3] and prompt[-6:] == golden[-6:]
        assert [prompt.count(token) for token in (151644, 151645, 151667, 151668)] == [3, 2, 1, 1]


def test_every_update_has_right_and_wrong_rows_and_an_advantage(study):
    metrics = study.metrics()
    assert [row["update"] for row in metrics] == [1, 2, 3, 4]
    for row in metrics:
        assert 0 < row["reward_mean"] < 1
        assert row["prompts_solved"] + row["prompts_unsolved"] < 1, "no group is mixed, so no row has an advantage"
        assert 0 < row["rows_trained"] < PROMPTS * SAMPLES, "rows without advantage must not reach the model"
        assert 0 < row["tokens_trained"] < row["tokens_sampled"]
        assert row["grad_norm"] > 0 and row["clip_fraction"] == 0
        for name in ("logp_yx_right", "logp_yx_wrong", "logp_y_right", "logp_y_wrong"):
            assert row[name] < 0
        for name, value in row.items():
            assert isinstance(value, str) or math.isfinite(value), name
    phases = [(row["space"], row["samples"]) for row in metrics]
    assert phases == [("pretrain", "negative")] * 2 + [("posttrain", "all")] * 2


def test_sampler_and_trainer_agree(study):
    for row in study.metrics():
        assert row["gap_mean"] < 1e-4 and row["gap_max"] < 1e-2


def test_every_update_changes_the_weights(study):
    before = load_file(verify(study.checkpoint(0)) / "model.safetensors")
    for update in (1, 2, 3, 4):
        after = load_file(verify(study.checkpoint(update)) / "model.safetensors")
        assert before.keys() == after.keys()
        for name, tensor in after.items():
            assert torch.isfinite(tensor).all(), (update, name)
            assert not torch.equal(tensor, before[name]), (update, name)
        before = after


def test_hand_over_keeps_weights_and_adam_moments(study):
    parent, start = verify(study.checkpoint(2)), verify(study.folder / "start/manifest.json")
    for name in ("model.safetensors", OPTIMIZER):
        assert (parent / name).read_bytes() == (start / name).read_bytes()
    handed_over = load_file(start / OPTIMIZER)
    for update, steps in ((1, 1), (2, 2), (3, 3), (4, 4)):
        moments = load_file(verify(study.checkpoint(update)) / OPTIMIZER)
        assert moments.keys() == handed_over.keys()
        assert {value.item() for name, value in moments.items() if name.endswith("|step")} == {steps}
    third = load_file(verify(study.checkpoint(3)) / OPTIMIZER)
    for name, second_moment in handed_over.items():
        if name.endswith("|exp_avg_sq"):  # v3 = 0.999 v2 + 0.001 g^2
            assert (third[name] >= 0.999 * second_moment * (1 - 1e-5)).all(), name


def test_samples_keep_the_ids_that_the_policy_gave(study, problems):
    """The kept ids after freshly made prompts have the log-probs that the sampler recorded; EOS ends an answer."""
    tokenizer = load_tokenizer(study.folder / "base")
    samples = study.table("dsrl/samples.parquet")
    assert len(samples) == len(UPDATES["dsrl"]) * len(problems["amc23"]) * EVALUATION_SAMPLES
    for row in samples:
        stopped = row["finish_reason"] == "stop"
        assert stopped == (row["token_ids"][-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in row["token_ids"][:-1]
        assert stopped or len(row["token_ids"]) == SAMPLING["max_new_tokens"]
        assert tokenizer.decode(row["token_ids"], skip_special_tokens=True) == row["text"]
    reencoded = [tokenizer.encode(row["text"] + tokenizer.eos_token, add_special_tokens=False) for row in samples]
    differs = sum(ids != row["token_ids"] for ids, row in zip(reencoded, samples, strict=True))
    assert differs > 0.9 * len(samples), "the fitted answers were to differ from what the tokenizer writes"
    last = [row for row in samples if row["update"] == 4][:: 2 * EVALUATION_SAMPLES]
    texts = dict(zip(problems["amc23"]["id"].to_pylist(), problems["amc23"]["problem"].to_pylist(), strict=True))
    prompts = encode_prompts(tokenizer, [texts[row["question"]] for row in last], PromptSettings(**PROMPT))
    with torch.no_grad():
        logprobs_N = response_logprobs(
            load_model(verify(study.checkpoint(4))), prompts, [row["token_ids"] for row in last]
        )
    recorded_N = torch.tensor([logprob for row in last for logprob in row["logprobs"]])
    torch.testing.assert_close(logprobs_N, recorded_N, atol=1e-2, rtol=0)


def test_both_graders_and_the_thoughts_of_every_sample(study, problems):
    key = ("update", "benchmark", "question", "sample")
    samples, grades, thoughts = (study.table(f"dsrl/{name}.parquet") for name in ("samples", "grades", "thoughts"))
    assert [[row[k] for k in key] for row in grades] == [[row[k] for k in key] for row in samples]
    assert [[row[k] for k in key] for row in thoughts] == [[row[k] for k in key] for row in samples]
    for update in UPDATES["dsrl"]:
        own = [row for row in grades if row["update"] == update]
        assert {row["hendrycks"] for row in own} == {True, False}
        assert {row["math_verify"] for row in own} >= {"right", "wrong"}
    answers = dict(zip(problems["amc23"]["id"].to_pylist(), problems["amc23"]["answer"].to_pylist(), strict=True))
    for sample, grade, thought in zip(samples, grades, thoughts, strict=True):
        assert not grade["hendrycks"] or grade["boxed"] == answers[grade["question"]]
        assert not grade["hendrycks"] or grade["math_verify"] == "right"
        assert thought["tokens"] == len(sample["token_ids"])
        assert thought["truncated"] == (sample["finish_reason"] == "length")
    assert sum(row["reflections"] for row in thoughts) > 0 and sum(row["executions"] for row in thoughts) > 0


def test_scores_and_curves(study):
    scores = {
        (row["update"], row["grader"], row["metric"]): row["value"]
        for row in study.table("scores.parquet")
        if row["benchmark"] == "amc23"
    }
    grades = [row for row in study.table("dsrl/grades.parquet") if row["update"] == 4]
    assert scores[4, "hendrycks", "avg@2"] == pytest.approx(sum(row["hendrycks"] for row in grades) / len(grades))
    curve = [row for row in study.table("curves.parquet") if row["method"] == "dsrl" and row["name"] == "accuracy"]
    assert sorted({row["update"] for row in curve}) == [0, 2, 4]


def test_the_figure_is_drawn(study):
    for suffix, magic in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        assert (study.folder / f"figure_dynamics.{suffix}").read_bytes().startswith(magic)


def test_memory_and_time(study, capsys):
    with capsys.disabled():
        total = sum(seconds for _, seconds, _ in study.processes)
        print(f"\nthe pipeline on real text, engine {study.engine}, took {total:.0f} s")
        for name, seconds, gib in study.processes:
            print(f"  {name}: {seconds:.1f} s, at most {gib:.2f} GiB")
    assert len(study.processes) == 9
    assert own_peak_gib() + max(gib for _, _, gib in study.processes) < MEMORY_GIB
