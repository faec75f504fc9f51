"""The smoke DAG through `snakemake --profile slurm`, with conda: what came out, and by sacct where and how it ran."""

import pytest

from virtual_cluster import SMOKE

LOCAL = {"aggregate_scores", "aggregate_ood", "release_checkpoints", "collect_provenance", "page", "report", "all"}


@pytest.fixture(scope="module")
def run(base):
    """A checkout in which the whole DAG has run."""
    checkout = base.copy("smoke", SMOKE)
    checkout.run()
    return checkout


@pytest.fixture(scope="module")
def jobs(run):
    """SLURM jobs by rule."""
    found = {}
    for job in run.accounting():
        rule = job["Comment"].removeprefix("rule_").split("_wildcards_")[0]
        found.setdefault(rule, []).append(job)
    return found


def test_everything_is_made(run):
    results = run.folder / "results/smoke"
    assert (results / "report.html").stat().st_size
    assert (results / "tables/table_claims.md").stat().st_size
    assert run.said().count("Error in rule") == 0


def test_each_rule_but_the_local_ones_ran_as_slurm_jobs(jobs):
    assert {job["State"] for of_rule in jobs.values() for job in of_rule} == {"COMPLETED"}
    assert not LOCAL & set(jobs)
    assert {
        rule: len(of_rule) for rule, of_rule in jobs.items() if rule.startswith(("train", "gen", "re", "grade"))
    } == {
        "train_policy": 9,
        "reincarnate_policy": 3,
        "generate_samples": 10,
        "grade_samples": 10,
    }
    assert {job["Account"] for of_rule in jobs.values() for job in of_rule} == {"lab"}
    assert {job["Partition"] for of_rule in jobs.values() for job in of_rule} == {"main"}


def test_a_job_is_named_after_what_it_does(jobs):
    comments = {job["Comment"] for job in jobs["train_policy"]}
    assert {"rule_train_policy_wildcards_miniature_dsrl_1", "rule_train_policy_wildcards_miniature_grpo_1"} <= comments


def test_jobs_ran_on_both_nodes(jobs):
    assert {job["NodeList"] for job in jobs["train_policy"]} == {"node1", "node2"}


@pytest.mark.parametrize(
    ("rule", "allocated", "time_limit"),
    [
        ("train_policy", "billing=1,cpu=1,gres/gpu:h100=1,gres/gpu=1,mem=2000M,node=1", "1-00:00:00"),  # the profile's
        ("generate_samples", "billing=2,cpu=2,gres/gpu:h100=1,gres/gpu=1,mem=4000M,node=1", "00:20:00"),
        ("grade_samples", "billing=1,cpu=1,mem=3000M,node=1", "00:30:00"),
        ("figure_passk", "billing=1,cpu=1,mem=16000M,node=1", "02:00:00"),  # the profile's defaults
    ],
)
def test_jobs_got_the_gpus_cores_and_time_that_they_asked_for(jobs, rule, allocated, time_limit):
    assert {(job["AllocTRES"], job["Timelimit"]) for job in jobs[rule]} == {(allocated, time_limit)}


def test_only_jobs_that_ask_for_gpus_get_some(jobs):
    with_gpu = {rule for rule, of_rule in jobs.items() for job in of_rule if "gpu" in job["AllocTRES"]}
    measuring = {"measure_gradient_alignment", "measure_answers"}
    assert with_gpu == {"train_policy", "generate_samples", "sample_rollouts"} | measuring
