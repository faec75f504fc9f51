"""The formula of time and disk: by hand, and against times that a run of the miniature took."""

from pathlib import Path

import pytest

from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config, read_files
from prerl.core.constants import BASE
from prerl.planning.costs import JobCost, job_cost, stage_costs
from prerl.planning.gpus import choose_gpus

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


def test_gpu_hours_are_gpus_times_hours():
    assert JobCost(gpus=8, wall_s=1800, disk_gib=0).gpu_hours == 4


def test_a_checkpoint_takes_twelve_bytes_a_parameter_with_moments_and_four_without():
    # nsr_prerl of the paper keeps 9 updates, of which 7 are continued; its state holds two whole ones while it runs
    run = {"model": "qwen3-4b", "method": "nsr_prerl", "seed": "1"}
    block, methods = scale("paper")
    cost = job_cost("train_policy", run, block, methods)
    assert cost.disk_gib == pytest.approx((9 * 4 + 7 * 8) * 4_022_468_096 / 2**30)
    assert cost.running_gib == pytest.approx(24 * 4_022_468_096 / 2**30)
    released = job_cost("release_checkpoints", run, block, methods)
    samples = job_cost("generate_samples", run, block, methods)
    assert cost.disk_gib + samples.disk_gib + released.disk_gib == pytest.approx(
        samples.disk_gib / 2
    )  # the answers stay
    kept = {**block, "training": block["training"] | {"keep_checkpoints": True}}
    # 9 whole ones, and the newest that is not among them
    assert job_cost("train_policy", run, kept, methods).disk_gib == pytest.approx(120 * 4_022_468_096 / 2**30)


def test_the_pilot_takes_about_a_gpu_day():
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
    assert 18 < sum(cost.gpu_hours for cost in costs) < 30
    assert all(cost.gpus == 1 for cost in costs)


def test_more_work_takes_longer():
    def seconds(method, model="qwen3-4b"):
        return job_cost("train_policy", {"model": model, "method": method, "seed": "1"}, *scale("paper")).wall_s

    assert seconds("grpo") > seconds("dsrl")  # which trains the last 329 of 348 updates
    assert seconds("ppo") > 1.05 * seconds("grpo")  # a critic
    assert seconds("grpo") > seconds("prerl")  # no prompt
    assert seconds("prerl") > seconds("nsr_prerl")  # fewer rows
    assert seconds("grpo", "qwen3-8b") > 1.2 * seconds("grpo")
