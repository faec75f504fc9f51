"""The formula of time and disk: by hand, and against times that a run of the miniature took."""

from pathlib import Path

import pytest

from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config, read_files
from prerl.config.shapes import Shape, shape_of
from prerl.core.constants import BASE
from prerl.planning.answers import exponential_answers
from prerl.planning.costs import JobCost, decoding_seconds, job_cost, stage_costs
from prerl.planning.gpus import choose_gpus
from prerl.planning.machines import gpu_machine

ROOT = Path(__file__).parents[3]


def scale(name):
    config = read_files() | {"scale": name}
    block = read_config(config)
    methods = resolve_methods(block)
    return choose_gpus(block, methods), methods


# Mean seconds of a job in the run of results/reference/miniature: two jobs at a time, eleven methods and the base.
# The constants marked M come from it, so this holds the form of the formula.
MEASURED = {
    "pretrain_miniature_model": 187.8,
    "sample_rollouts": 5.60,
    "train_policy": 57.7,
    "generate_samples": 12.2,
    "grade_samples": 1.10,
    "count_thoughts": 0.67,
}
RUN = ["grpo", "prerl", "psr_rl", "nsr_rl", "psr_prerl", "nsr_prerl", "dsrl", "nsr_rl_warmup"]
RUN += ["dsrl_s5", "dsrl_s10", "dsrl_s30"]


@pytest.mark.parametrize("rule", MEASURED)
def test_the_miniatures_jobs_take_what_was_measured(rule):
    methods = RUN if rule == "train_policy" else [BASE, *RUN]
    base = {"model": "miniature", "seed": "11", "benchmark": "chain4"}
    jobs = [(rule, base | {"method": method}) for method in methods]
    costs = stage_costs(jobs, *scale("miniature"))[rule]
    assert sum(cost.wall_s for cost in costs) / len(costs) == pytest.approx(MEASURED[rule], rel=0.3)
    assert all(cost.gpu_hours == 0 for cost in costs)


# vLLM, Qwen3-8B in bfloat16 on an H100: running rows, their mean length with the prompt, output tokens a second.
# ml-energy/leaderboard at 0ea52b6, public/data/models/Qwen__Qwen3-8B__{gpqa,lm-arena-chat}.json; a token's mean
# position is 5,400 and 620 by its histograms of answers, the prompts (250 and 200) are ours.
PUBLISHED = [(8, 5650, 818), (16, 5650, 1345), (32, 5650, 1917), (63.3, 5650, 2510), (8, 820, 962), (16, 820, 1745)]
PUBLISHED += [(63.9, 820, 4315), (127.8, 820, 5930), (255.5, 820, 7719), (383, 820, 8258)]


@pytest.mark.parametrize(("rows", "context", "tokens_per_s"), PUBLISHED)
def test_decoding_takes_what_others_have_measured_or_a_little_longer(rows, context, tokens_per_s):
    shape = shape_of(scale("paper")[0]["models"]["qwen3-8b"])
    step_s = decoding_seconds(gpu_machine(989, 3.35, "vllm"), shape, 1, rows, context)
    assert 1 < step_s * tokens_per_s / rows < 1.3


def test_a_whole_update_takes_what_others_have_measured_or_a_little_longer():
    """NeMo RL 0.4 (docs/about/performance-summary.md at 06beed9): GRPO of Llama 3.1 8B, 2,048 answers of 1,060 tokens,
    at most 4,096, on 16 H100s in 97.7 s. Prompts of 100 tokens and two passes for log-probs are ours."""
    shape = Shape(4096, 14336, 32, 32, 8, 128, 128256, tie_word_embeddings=False)
    machine, answers = gpu_machine(989, 3.35, "vllm"), exponential_answers(1100, 4096)
    tokens = 2048 * answers.mean / 16
    assert answers.mean == pytest.approx(1060, rel=0.02)
    seconds = decoding_seconds(machine, shape, answers.longest, tokens, 100 + answers.position)
    seconds += machine.update_s + machine.sync_s * shape.parameters
    flops = 2 * shape.forward_flops(tokens, 1060, tokens) + shape.training_flops(tokens, 1060, tokens)
    assert 97.7 < seconds + flops / machine.training < 1.1 * 97.7


def test_lengths_of_answers_by_hand():
    # without a limit e^-x has mean 1 and half its mean square 1; cut at its mean: 1 - 1/e, and 1 - 1/(e - 1)
    assert exponential_answers(1000, 10**6).mean == pytest.approx(1000)
    assert exponential_answers(1000, 10**6).position == pytest.approx(1000)
    cut = exponential_answers(1000, 1000)
    assert (cut.mean, cut.position) == (pytest.approx(632.12, abs=0.01), pytest.approx(418.02, abs=0.01))


def test_gpu_hours_are_gpus_times_hours():
    assert JobCost(gpus=8, wall_s=1800, disk_gib=0).gpu_hours == 4


def test_a_checkpoint_takes_twelve_bytes_a_parameter_with_moments_and_four_without():
    # NSR-PreRL of the paper to update 20 keeps 5 updates, which are continued; after that 4, of which 3 are; the state
    # holds two whole ones while it runs
    run = {"model": "qwen3-4b", "method": "nsr_prerl", "seed": "1"}
    block, methods = scale("paper")
    cost = job_cost("train_policy", run, block, methods)
    assert cost.disk_gib == pytest.approx((4 * 4 + 3 * 8 + 24) * 4_022_468_096 / 2**30)
    state = job_cost("release_state", run, block, methods)
    assert state.disk_gib == pytest.approx(-24 * 4_022_468_096 / 2**30)
    released = job_cost("release_checkpoints", run, block, methods)
    samples = job_cost("generate_samples", run, block, methods)
    assert cost.disk_gib + samples.disk_gib + state.disk_gib + released.disk_gib == pytest.approx(
        samples.disk_gib / 2
    )  # the answers stay
    kept = {**block, "training": block["training"] | {"keep_checkpoints": True}}
    # 4 whole ones, and the newest that is not among them
    assert job_cost("train_policy", run, kept, methods).disk_gib == pytest.approx(60 * 4_022_468_096 / 2**30)
    early = job_cost("train_policy", run | {"method": "nsr_prerl_to20"}, block, methods)
    assert early.disk_gib == pytest.approx(7 * 12 * 4_022_468_096 / 2**30)


def test_the_pilot_takes_about_a_gpu_day_and_a_half():
    block, methods = scale("pilot")
    jobs = []
    for model in block["models"]:
        for seed in block["seeds"]:
            base = {"model": model, "seed": str(seed)}
            aligned = base | {"benchmark": "amc23"}
            jobs += [(rule, aligned) for rule in ("sample_rollouts", "measure_gradient_alignment")]
            jobs += [("train_policy", base | {"method": method}) for method in methods]
            evaluations = [base | {"method": method} for method in [BASE, *methods]]
            jobs += [(rule, job) for rule in ("generate_samples", "evaluate_ood") for job in evaluations]
    costs = [cost for costs in stage_costs(jobs, block, methods).values() for cost in costs]
    assert 30 < sum(cost.gpu_hours for cost in costs) < 40
    assert all(cost.gpus == 1 for cost in costs)


def test_more_work_costs_more():
    def gpu_hours(method, model="qwen3-4b"):
        return job_cost("train_policy", {"model": model, "method": method, "seed": "1"}, *scale("paper")).gpu_hours

    assert gpu_hours("rloo") > gpu_hours("dsrl")  # which trains the last 329 of 348 updates
    assert gpu_hours("ppo") > 1.05 * gpu_hours("rloo")  # a critic
    assert gpu_hours("rloo") > gpu_hours("prerl")  # no prompt
    assert gpu_hours("nsr_prerl") > gpu_hours("prerl")  # fewer rows, but longer answers
    assert gpu_hours("rloo", "qwen3-8b") > 1.2 * gpu_hours("rloo")
