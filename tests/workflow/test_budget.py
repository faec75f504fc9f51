"""`snakemake budget`: what it reads, how it adds up, and how near it comes to what was measured."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import budget
from checkouts import ROOT, copy_checkout, planned_jobs, snakemake
from prerl.config.methods import resolve_methods
from prerl.planning.costs import JobCost, job_cost
from prerl.planning.dry_runs import PlannedJob, planned_block
from prerl.planning.dry_runs import planned_jobs as jobs_of

# docs/miniature.md, "Where the time goes": 85 minutes of one core, these shares, by eleven methods; 44 minutes with the
# installation, on two cores
MEASURED_MIN = 85
SHARES = {"train_policy": 0.62, "pretrain_miniature_model": 0.18, "generate_samples": 0.14}
RUN = {"grpo", "prerl", "psr_rl", "nsr_rl", "psr_prerl", "nsr_prerl", "dsrl", "nsr_rl_warmup"}
RUN |= {"dsrl_s5", "dsrl_s10", "dsrl_s30", "base"}


def formula_of(jobs, scale):
    block = planned_block([str(ROOT / "config.yaml")], scale, jobs)
    methods = resolve_methods(block)
    return {job.key: job_cost(job.rule, job.wildcards, block, methods) for job in jobs}


def test_the_miniature_takes_what_was_predicted(checkout):
    every = jobs_of(snakemake(checkout, "-n").stdout)
    jobs = [job for job in every if job.rule != "all" and job.wildcards.get("method", "base") in RUN]
    formula = formula_of(jobs, "miniature")
    stages = {stage.rule: stage for stage in budget.stages_of(jobs, formula, {})}
    assert stages["train_policy"].jobs == 55 and stages["generate_samples"].jobs == 60
    assert sum(stage.total_s for stage in stages.values()) == pytest.approx(60 * MEASURED_MIN, rel=0.3)
    for rule, share in SHARES.items():
        assert stages[rule].total_s == pytest.approx(60 * MEASURED_MIN * share, rel=0.3), rule
    seconds = [formula[job.key].wall_s for job in jobs]
    assert budget.elapsed(jobs, seconds, 2, len(jobs))[0] == pytest.approx(60 * 43, rel=0.3)


def test_what_half_of_the_smoke_run_took_predicts_the_other_half(smoke_run, monkeypatch):
    monkeypatch.chdir(smoke_run)
    dry_run = snakemake(smoke_run, "-n", "--forceall", "--config", "scale=smoke").stdout
    jobs = [job for job in jobs_of(dry_run) if budget.seconds_measured(job)]
    formula = formula_of(jobs, "smoke")
    known, left = jobs[::2], jobs[1::2]
    predicted = budget.stages_of(left, formula, budget.corrections(known, formula))
    assert {stage.rule for stage in predicted if stage.measured} > {"train_policy", "generate_samples", "grade_samples"}
    took = sum(budget.seconds_measured(job) for job in left)
    assert sum(stage.total_s for stage in predicted) == pytest.approx(took, rel=0.3)


def test_a_finished_run_costs_nothing_more(smoke_run):
    said = snakemake(smoke_run, "--cores", "1", "--config", "scale=smoke", "--", "budget").stdout
    assert "all at scale smoke: 149 of 149 jobs are done." in said and "stage " not in said


def job(rule, name="", inputs=(), outputs=(), **resources):
    return PlannedJob(rule, {"seed": name} if name else {}, {"cpus": "1"} | resources, inputs, outputs)


DIAMOND = [
    job("a", outputs=("x",)),
    job("b", inputs=("x", "code.py"), outputs=("y",), gpu="8"),
    job("c", inputs=("x",), outputs=("z",), gpu="8"),
    job("d", inputs=("y", "z"), cpus="64"),
]


@pytest.mark.parametrize(
    ("cores", "at_once", "expected"), [(1, 9, (10, 8)), (2, 9, (7, 16)), (2, 1, (10, 8)), (64, 64, (7, 16))]
)
def test_elapsed_time_by_hand(cores, at_once, expected):
    # a 2, then b 3 and c 4, then d 1, which takes all the cores there are
    assert budget.elapsed(DIAMOND, [2, 3, 4, 1], cores, at_once) == expected


def test_measured_times_correct_the_formula_by_rule(tmp_path):
    jobs = [job("train_policy", "1"), job("train_policy", "2"), job("grade_samples", "1")]
    jobs[0].benchmark = str(tmp_path / "1.tsv")
    jobs[1].benchmark = str(tmp_path / "not there yet.tsv")
    (tmp_path / "1.tsv").write_text("s\th:m:s\n30.0\t0:00:30\n")
    formula = {jobs[0].key: JobCost(8, 20, 1), jobs[1].key: JobCost(8, 40, 2), jobs[2].key: JobCost(0, 7, 0)}
    corrected = budget.corrections(jobs, formula)
    assert corrected == {"train_policy": (1.5, 1)}
    training, grading = budget.stages_of(jobs[1:], formula, corrected)
    assert training == budget.Stage("train_policy", 1, 8, pytest.approx(8 * 60 / 3600), 60, 60, 2, 1)
    assert grading == budget.Stage("grade_samples", 1, 0, 0, 7, 7, 0, 0)


def test_a_training_run_in_slices_took_at_least_its_updates(tmp_path):
    run = job("train_policy", outputs=(str(tmp_path / "metrics.parquet"), "validation.parquet"))
    run.benchmark = str(tmp_path / "run.tsv")
    (tmp_path / "run.tsv").write_text("s\th:m:s\n5.0\t0:00:05\n")  # of the last slice
    assert budget.seconds_measured(run) == 5
    pq.write_table(pa.table({"seconds_total": [10.0, 12.5]}), tmp_path / "metrics.parquet")
    assert budget.seconds_measured(run) == 22.5


@pytest.mark.parametrize(("seconds", "said"), [(50, "50 s"), (600, "10 min"), (9000, "2.5 h"), (345600, "4.0 days")])
def test_durations(seconds, said):
    assert budget.duration(seconds) == said


def rows(said):
    """Stage -> its columns."""
    lines = [re.split(r" {2,}", line) for line in said.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) == 8}


def test_the_rule_prints_the_plan_and_runs_nothing(tmp_path, monkeypatch):
    folder = copy_checkout(tmp_path / "workflow")
    command = ["--cores", "1", "--config", "scale=smoke", "--", "budget"]
    result = snakemake(folder, *command)
    assert result.returncode == 0, result.stdout
    printed = rows(result.stdout)
    plan = planned_jobs(folder, "--config", "scale=smoke")
    assert {stage: int(row[0]) for stage, row in printed.items() if stage not in ("stage", "all")} == {
        rule: count for rule, count in plan.items() if rule != "all"
    }
    assert printed["all"][0] == "149" and printed["train_policy"][-1] == "formula"
    monkeypatch.setenv("TARGETS", "figure_alignment")
    alone = rows(snakemake(folder, *command).stdout)
    assert set(alone) == {
        "stage", "all", "pretrain_miniature_model", "prepare_miniature_data", "sample_rollouts",
        "measure_gradient_alignment", "figure_alignment"
    }  # fmt: skip
    assert not (folder / "results").exists()


def test_gpus_are_those_that_the_command_asks_for(tmp_path):
    folder = copy_checkout(tmp_path / "workflow")
    said = snakemake(
        folder, "--cores", "1", "--config", "scale=paper", "--set-resources", "evaluate_ood:gpu=4", "--", "budget"
    ).stdout
    assert {rule: rows(said)[rule][:2] for rule in ("train_policy", "evaluate_ood")} == {
        "train_policy": ["114", "8"],
        "evaluate_ood": ["120", "4"],
    }
