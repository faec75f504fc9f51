"""`snakemake budget`: what it reads, how it adds up, and how near it comes to what was measured."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import budget
from checkouts import ROOT, copy_checkout, planned_jobs, snakemake
from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config, read_files
from prerl.planning.costs import JobCost, job_cost
from prerl.planning.dry_runs import PlannedJob, planned_block
from prerl.planning.dry_runs import planned_jobs as jobs_of
from prerl.planning.schedule import elapsed, priority
from prerl.publishing.claims import CLAIMS

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
    assert elapsed(jobs, [formula[job.key] for job in jobs], seconds, 2, len(jobs))[0] == pytest.approx(
        60 * 43, rel=0.3
    )


def test_an_evening_is_two_hours_of_one_card(checkout):
    plan = snakemake(checkout, "-n", "--config", "scale=evening").stdout
    jobs = [job for job in jobs_of(plan) if job.rule != "all"]
    costs = list(formula_of(jobs, "evening").values())
    assert {job.resources.get("gpu", "0") for job in jobs} == {"0", "1"}
    assert sum(cost.wall_s for cost in costs) < 7200  # one by one, as the jobs of one card run
    in_turn = elapsed(jobs, costs, [cost.wall_s for cost in costs], 8, 1)
    assert in_turn[1] == 1 and in_turn[2] * 2**30 < 26e9  # of one_gpu.md
    first = max(job.priority for job in jobs)
    assert {job.rule for job in jobs if job.priority == first} == {"download_model", "download_data", "prepare_data"}


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
    assert "all at scale smoke: 122 of 122 jobs are done." in said and "stage " not in said


def job(rule, name="", inputs=(), outputs=(), priority=0, **resources):
    wildcards = {"seed": name} if name else {}
    return PlannedJob(rule, wildcards, {"cpus": "1"} | resources, inputs, outputs, priority=priority)


DIAMOND = [
    job("a", outputs=("x",)),
    job("b", inputs=("x", "code.py"), outputs=("y",), gpu="8"),
    job("c", inputs=("x",), outputs=("z",), gpu="8"),
    job("d", inputs=("y", "z"), cpus="64"),
]


@pytest.mark.parametrize(
    ("cores", "at_once", "expected"),
    [(1, 9, (10, 8, 16)), (2, 9, (7, 16, 20)), (2, 1, (10, 8, 16)), (64, 64, (7, 16, 20))],
)
def test_elapsed_time_by_hand(cores, at_once, expected):
    # a 2, then b 3 and c 4, then d 1, which takes all the cores there are. GiB: a leaves 1, b 5 and holds 6 more, c 8
    # (one by one at most 1 + 5 + 8 and d's 2, together 1 + 11 + 8), d removes 9 and holds 2
    costs = [JobCost(0, 2, 1), JobCost(8, 3, 5, 6), JobCost(8, 4, 8), JobCost(0, 1, -9, 2)]
    assert elapsed(DIAMOND, costs, [2, 3, 4, 1], cores, at_once) == expected


def test_jobs_that_free_the_disk_come_first():
    costs = [JobCost(0, 1, 10), JobCost(0, 1, -4)]
    for of_training, of_release, peak_gib in ((0, 3, 6), (3, 0, 10)):
        jobs = [job("train_policy", "1", priority=of_training), job("release_checkpoints", "2", priority=of_release)]
        assert elapsed(jobs, costs, [1, 1], 1, 2) == (2, 0, peak_gib)


def test_one_seed_goes_before_the_next_and_a_continued_run_before_a_new_one():
    block = read_config(read_files() | {"scale": "paper"})

    def of(rule, model="qwen3-4b", method="grpo_to60", seed="1", **training):
        changed = block | {"training": block["training"] | training}
        return priority(rule, {"model": model, "method": method, "seed": seed}, changed, resolve_methods(block))

    ordered = [priority("prepare_data", {"set": "math500"}, block, {})]  # nothing is evaluated without it
    ordered += [
        of("release_checkpoints"),
        of("generate_samples"),
        of("train_policy", method="dsrl"),
        of("train_policy"),
    ]
    ordered += [of("release_checkpoints", seed="2"), of("train_policy", seed="3")]
    ordered += [of("release_checkpoints", "qwen3-8b"), of("train_policy", "qwen3-8b", seed="3")]
    ordered += [of("release_checkpoints", seed="9"), priority("table_main", {}, block, {})]  # a further seed, no seed
    assert ordered == sorted(ordered, reverse=True) and len({*ordered[:10]}) == 10
    kept = [of("train_policy", seed=seed, keep_checkpoints=True) for seed in "123"]
    assert kept == [0, 0, 0] and of("train_policy", method="dsrl", keep_checkpoints=True) == 1


def test_what_a_product_needs_is_everything_before_it():
    assert budget.needed(DIAMOND, [1]) == {0, 1} and budget.needed(DIAMOND, [3]) == {0, 1, 2, 3}
    assert budget.needed(DIAMOND, []) == set()


def test_each_figure_table_and_claim_has_its_price(tmp_path):
    """Alone, and what it adds where the base model and GRPO of both seeds are done."""
    folder = copy_checkout(tmp_path / "workflow")
    jobs = jobs_of(snakemake(folder, "-n", "--config", "scale=smoke").stdout)
    formula = formula_of(jobs, "smoke")
    block = planned_block([str(ROOT / "config.yaml")], "smoke", jobs)
    made = budget.products(jobs, block)
    claims = {name.removeprefix("claim ") for name in made if name.startswith("claim ")}
    assert claims == {claim.name for claim in CLAIMS} - {"main_8b", "behaviours"}
    runs = {name: {j.wildcards["method"] for j in map(jobs.__getitem__, chosen) if j.rule == "train_policy"}
            for name, chosen in made.items()}  # fmt: skip
    assert runs["claim main_4b"] == {"grpo", "nsr_prerl", "dsrl"}  # DSRL's first updates are NSR-PreRL's
    assert runs["claim solved"] == {"nsr_prerl"} and runs["claim alignment"] == runs["figure_alignment"] == set()
    assert runs["claim warmup_steps"] == {"grpo", "nsr_prerl", "dsrl", "dsrl_s2"}
    assert "grade_samples" not in {jobs[index].rule for index in made["claim efficiency"]}
    done = {j.key for j in jobs if j.wildcards.get("method") == "grpo" or j.rule.startswith(("pretrain", "prepare"))}
    missing = {j.key for j in jobs} - done
    table = budget.price_table(jobs, formula, {"train_policy": 2.0}, missing, block)
    row = next(line.split() for line in table.splitlines() if line.startswith("claim solved "))
    alone = [jobs[index] for index in made["claim solved"]]
    left = [j for j in alone if j.key in missing]
    assert [j.rule for j in left] == ["train_policy"] * 2
    seconds = sum(2 * formula[j.key].wall_s for j in left)
    assert row[2:4] == [str(len(alone)), "0.0"] and row[-4:] == ["2", "0.0", *budget.duration(seconds).split()]


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
    assert printed["all"][0] == "122" and printed["train_policy"][-1] == "formula"
    monkeypatch.setenv("TARGETS", "figure_alignment")
    alone = rows(snakemake(folder, *command).stdout)
    assert set(alone) == {
        "stage", "all", "pretrain_miniature_model", "prepare_miniature_data", "sample_rollouts",
        "measure_gradient_alignment", "gather_alignment", "figure_alignment"
    }  # fmt: skip
    assert not (folder / "results").exists()


def test_gpus_are_those_that_the_command_asks_for(tmp_path):
    folder = copy_checkout(tmp_path / "workflow")
    said = snakemake(
        folder, "--cores", "1", "--config", "scale=paper", "--set-resources", "evaluate_ood:gpu=4", "--", "budget"
    ).stdout
    assert {rule: rows(said)[rule][:2] for rule in ("train_policy", "evaluate_ood")} == {
        "train_policy": ["102", "4"],
        "evaluate_ood": ["90", "4"],
    }
