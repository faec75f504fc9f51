"""The plan that snakemake makes: job counts by hand, and what an edit reruns. No job runs here but in `smoke_run`."""

import os
import re

import pytest

from checkouts import copy_checkout, planned_jobs, planned_runs, snakemake

FIGURES = [
    "figure_alignment",
    "figure_spaces",
    "figure_thoughts",
    "figure_warmup",
    "figure_passk",
    "figure_dynamics",
    "figure_efficiency",
]
TABLES = ["table_main", "table_warmup_space", "table_ood", "table_alignment", "table_efficiency", "table_claims"]
PUBLISHED = dict.fromkeys([*FIGURES, *TABLES, "page", "report", "collect_provenance", "all"], 1)


def plan(models, seeds, methods, continued, alignment_jobs=1):
    """Jobs of `models` x `seeds`, `methods` trained (the base is evaluated beside them), `continued` from a parent."""
    runs = models * seeds
    evaluated = runs * (methods + 1)
    return PUBLISHED | {
        "sample_rollouts": runs,
        "measure_gradient_alignment": runs * alignment_jobs,
        "gather_alignment": runs,
        "train_policy": runs * methods,
        "reincarnate_policy": runs * continued,
        "generate_samples": evaluated,
        "grade_samples": evaluated,
        "count_thoughts": evaluated,
        "aggregate_scores": models,
        "aggregate_ood": models,
        "measure_answers": 4 * models,  # base, NSR-PreRL, GRPO, DSRL of one seed
        "browse_rollouts": models,
    }


def test_default_plan(checkout):
    # 8 methods of the paper, the sweep's S = 5, 10, 30; of these dsrl, nsr_rl_warmup and the sweep are continued
    jobs = plan(models=1, seeds=5, methods=11, continued=5)
    assert planned_jobs(checkout) == jobs | {"pretrain_miniature_model": 5, "prepare_miniature_data": 5}


def test_smoke_plan(checkout):
    jobs = plan(models=1, seeds=2, methods=9, continued=3, alignment_jobs=2)
    jobs |= {"pretrain_miniature_model": 2, "prepare_miniature_data": 5}
    assert planned_jobs(checkout, "--config", "scale=smoke") == jobs


def test_paper_plan(checkout):
    # sweep S = 5, 10, 15, 25, 30, 50; train file and six benchmarks; the hub's model serves every seed; the first
    # updates of grpo, nsr_rl and nsr_prerl are runs of their own, the first and last of these have answers
    jobs = plan(models=2, seeds=3, methods=14 + 3, continued=8 + 3, alignment_jobs=4)
    jobs |= dict.fromkeys(("generate_samples", "grade_samples", "count_thoughts"), 2 * 3 * (1 + 14 + 2))
    jobs |= {"measure_answers": 2 * (4 + 2)}
    jobs |= {
        "download_model": 2,
        "download_data": 7,
        "prepare_data": 7,
        "release_checkpoints": 2 * 3 * 17,
        "release_state": 2 * 3 * 17,
    }
    # GPQA-Diamond, MMLU-Pro and BBH; HumanEval runs generated code and is left out, which the plan says
    jobs |= {"download_ood": 3, "evaluate_ood": 2 * 3 * 15}
    assert "model writes: humaneval." in snakemake(checkout, "-n", "--quiet", "--config", "scale=paper").stdout
    assert planned_jobs(checkout, "--config", "scale=paper") == jobs


def test_the_headline_trains_grpo_dsrl_and_its_warmup_alone(checkout):
    target = planned_jobs(checkout, "--config", "scale=paper", "--", "headline")
    # of three seeds: grpo_to60, grpo, nsr_prerl_to20, dsrl; the answers of the base, GRPO and DSRL at their ends
    assert (target["train_policy"], target["reincarnate_policy"], target["generate_samples"]) == (12, 6, 9)
    said = snakemake(checkout, "-n", "--config", "scale=paper", "--", "headline").stdout
    trained = set(re.findall(r"model=(\S+), method=(\S+), seed", said))
    assert trained == {("qwen3-4b", name) for name in ("base", "grpo_to60", "grpo", "nsr_prerl_to20", "dsrl")}


def test_the_baselines_are_trained_and_only_ppo_gets_a_critic(checkout):
    commands = snakemake(checkout, "-n", "baselines", "--config", "scale=smoke").stdout.splitlines()
    jobs = {line.split("--output ")[1].split()[0]: line for line in commands if "/train_policy.py --settings" in line}
    folder = "results/smoke/miniature"
    baselines = {"ppo", "reinforce_pp", "rloo", "w_reinforce", "nsr_decomposed"}
    others = {"grpo", "nsr_prerl", "dsrl"}
    assert {f"{folder}/{name}/seed{seed}" for name in baselines | others for seed in (1, 2)} == set(jobs)
    assert {path for path, line in jobs.items() if '"critic"' in line} == {f"{folder}/ppo/seed{s}" for s in (1, 2)}
    assert '"positive_advantage_weight": 0.1' in jobs[f"{folder}/w_reinforce/seed1"]


def test_pilot_plan(checkout):
    # the paper's methods without the baselines, the sweep's S = 20; dsrl, nsr_rl_warmup and the sweep are continued
    jobs = plan(models=2, seeds=2, methods=9, continued=3)
    jobs |= {"download_model": 2, "download_data": 7, "prepare_data": 7, "download_ood": 1, "evaluate_ood": 2 * 2 * 10}
    jobs |= {"release_checkpoints": 2 * 2 * 9, "release_state": 2 * 2 * 9}
    assert planned_jobs(checkout, "--config", "scale=pilot") == jobs


def test_a_job_of_the_pilot_that_needs_the_gpu_runs_alone(checkout):
    jobs = named_jobs(checkout, "--cores", "11", "--config", "scale=pilot")
    assert {job["cpus"] for job in jobs if "gpu" in job} == {"11"}
    assert {job["gpu"] for job in jobs if "gpu" in job} == {"1"}


def test_a_dry_run_names_engine_resources_and_environment_of_every_job(checkout):
    jobs = named_jobs(checkout, "--config", "scale=paper")
    for job in jobs:
        assert {"cpus", "engine", "environment"} <= set(job), job
        assert job["environment"] == "driver" or (checkout / job["environment"]).is_file()
        assert (job["engine"] == "none") == ("gpu" not in job)
    training = [job for job in jobs if job["rule"] == "train_policy"]
    assert {tuple(job[key] for key in ("engine", "gpu", "cpus", "mem_mb", "runtime")) for job in training} == {
        ("vllm", "2", "16", "128000", "7200"),  # 4B; `gpu: auto`: of each GPU 8 cores and 64 GB
        ("vllm", "4", "32", "256000", "7200"),
    }  # fmt: skip


def test_a_config_that_cannot_fit_ends_the_command_before_any_job(tmp_path):
    folder = copy_checkout(tmp_path / "workflow")
    config = folder / "scales/paper.yaml"
    config.write_text(config.read_text().replace("memory_gib: 79,", "memory_gib: 20,"))
    result = snakemake(folder, "--cores", "2", "--config", "scale=paper", "--", "table_main")
    assert result.returncode == 1 and "resources.train_policy: qwen3-4b needs" in result.stdout, result.stdout
    assert not (folder / "results").exists()


def named_jobs(folder, *arguments):
    """What a dry run says of each job but `all`: its rule and, by name, its resources."""
    result = snakemake(folder, "-n", *arguments)
    assert result.returncode == 0, result.stdout
    jobs = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", result.stdout, re.M)
    assert len(jobs) == int(re.search(r"^total +(\d+)$", result.stdout, re.M)[1])
    return [{"rule": rule} | dict(re.findall(r"(\w+)=([^,]+)", named)) for rule, named in jobs if rule != "all"]


def test_the_state_of_samples_lies_outside_the_trainers(checkout):
    # the trainer removes what it does not know in its own state folder
    commands = snakemake(checkout, "-n", "--printshellcmds", "--config", "scale=smoke").stdout.splitlines()
    states = {
        script: {re.search(r"--state (\S+)", line)[1] for line in commands if f"/{script}.py --settings" in line}
        for script in ("train_policy", "generate_samples")
    }
    assert len(states["train_policy"]) == 18 and len(states["generate_samples"]) == 20
    assert not any(s.startswith(t) for s in states["generate_samples"] for t in states["train_policy"])


def test_each_target_has_its_name(checkout):
    targets = {*FIGURES, *TABLES, "page", "report"}
    result = snakemake(checkout, "-n", "--quiet", "--", *targets)
    assert result.returncode == 0, result.stdout
    assert targets <= set(result.stdout.split())


def test_an_unknown_scale_is_refused(checkout):
    result = snakemake(checkout, "-n", "--config", "scale=huge")
    assert result.returncode == 1
    known = "controls, evening, long, map, miniature, paper, pilot, quick, search, smoke, smollm2"
    assert f"scale: 'huge' is not one of {known}" in result.stdout


def test_a_mirror_that_does_not_exist_is_refused(checkout, tmp_path):
    changes = tmp_path / "changes.yaml"
    changes.write_text("{scale: paper, scales: {paper: {data: {mirror: nowhere}}}}")
    result = snakemake(checkout, "-n", "--configfile", str(changes))
    assert result.returncode == 1
    assert "data.mirror: nowhere is not a folder (in " in result.stdout
    assert "and train, math500, amc23, aime24, aime25, minerva, olympiadbench must still be fetched" in result.stdout


def test_a_scale_without_baselines_says_so(checkout):
    result = snakemake(checkout, "-n", "baselines", "--config", "scale=pilot")
    assert result.returncode == 1
    assert "scale pilot has no baselines: give a method `target: baselines`" in result.stdout


def test_the_plan_of_the_controls(checkout):
    """11 runs of the miniature without PreRL, PSR-RL and PSR-PreRL, 20 of controls; a method is trained once."""
    jobs = planned_jobs(checkout, "controls", "--config", "scale=controls")
    assert jobs["train_policy"] == 8 * (8 + 20) and jobs["pretrain_miniature_model"] == 8
    assert {target: jobs[target] for target in ("table_controls", "figure_controls", "aggregate_controls")} == {
        "table_controls": 1, "figure_controls": 1, "aggregate_controls": 1
    }  # fmt: skip
    assert "figure_spaces" not in jobs


def test_baselines_at_a_scale_that_keeps_no_checkpoints(tmp_path):
    """To their end: the table, checkpoints and state of the baselines removed, and nothing left to do."""
    folder = copy_checkout(tmp_path / "workflow")
    methods = "{reinforce_pp: null, rloo: null, nsr_decomposed: null}"  # for time; their estimators have unit tests
    smoke = f"{{seeds: [1], training: {{keep_checkpoints: false}}, methods: {methods}}}"
    (folder / "few.yaml").write_text(f"scales: {{smoke: {smoke}}}\n")
    few = ("--configfile", "few.yaml", "--config", "scale=smoke")
    result = snakemake(folder, "baselines", "--cores", "2", *few)
    assert result.returncode == 0, result.stdout
    table = (folder / "results/smoke/tables/table_baselines.md").read_text()
    for name in ("Base", "GRPO", "NSR-PreRL", "DSRL", "PPO", "W-REINFORCE"):
        assert f"| miniature | {name}" in table
    assert table.endswith("Its numbers mean nothing.\n")
    checkpoints = {path.name for path in (folder / "results/smoke/miniature/ppo/seed1/checkpoints").iterdir()}
    assert checkpoints == {"manifest.json", "released.json", "state_released.json"}
    state = {path.name for path in (folder / "results/smoke/state/miniature/ppo/seed1").iterdir()}
    assert state == {"lock", "progress.json"}
    assert planned_jobs(folder, "baselines", *few) == {}


@pytest.mark.parametrize("command", ["false; true", "false | true", "echo $NO_SUCH_VARIABLE"])
def test_a_command_fails_where_any_part_of_it_fails(tmp_path, command):
    folder = copy_checkout(tmp_path / "workflow")
    (folder / "fails.smk").write_text(f'include: "Snakefile"\nrule fails:\n    shell: "{command}"\n')
    result = snakemake(folder, "--snakefile", "fails.smk", "--cores", "1", "--", "fails")
    assert result.returncode == 1 and "Error in rule fails" in result.stdout, result.stdout


class TestReruns:
    """What a change reruns once everything is made."""

    ALWAYS_AFTER = {"page", "report", "collect_provenance", "all"}

    @pytest.fixture
    def edit(self, smoke_run):
        """edit(file, old, new): change a file of the finished run; restored afterwards, its time as well."""
        changed = []

        def change(name, old, new):
            file = smoke_run / name
            text, status = file.read_text(), file.stat()
            assert old in text
            changed.append((file, text, status))
            file.write_text(text.replace(old, new, 1))

        yield change
        for file, text, status in reversed(changed):
            file.write_text(text)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    @staticmethod
    def jobs(smoke_run):
        return planned_jobs(smoke_run, "--config", "scale=smoke")

    @staticmethod
    def runs(smoke_run):
        return planned_runs(smoke_run, "--config", "scale=smoke")

    def test_everything_is_made(self, smoke_run):
        results = smoke_run / "results/smoke"
        for target in FIGURES:
            assert all((results / f"figures/{target}.{suffix}").stat().st_size for suffix in ("pdf", "png", "csv"))
        for target in TABLES:
            assert all((results / f"tables/{target}.{suffix}").stat().st_size for suffix in ("csv", "md"))
        report = (results / "report.html").read_text()
        assert all(target in report for target in [*FIGURES, *TABLES])
        assert self.jobs(smoke_run) == {}

    def test_logs_and_benchmarks_mirror_the_rules(self, smoke_run):
        results = smoke_run / "results/smoke"
        names = {file.name for file in (results / "benchmarks").iterdir()}
        assert names == {file.name for file in (results / "logs").iterdir() if file.is_dir()}
        assert names >= {"train_policy", "generate_samples", "report"}
        assert (results / "logs/train_policy/miniature_dsrl_seed1.log").is_file()

    def test_a_touch_reruns_nothing(self, smoke_run):
        files = [
            *(smoke_run / "workflow_scripts").rglob("*.py"),
            smoke_run / "config.yaml",
            *smoke_run.glob("scales/*"),
            *smoke_run.glob("rules/*"),
        ]
        for file in files:
            file.touch()
        assert self.jobs(smoke_run) == {}

    def test_an_edit_of_the_objective_reruns_training(self, smoke_run, edit):
        edit("workflow_scripts/prerl/objectives/advantages.py", "import torch", "# a comment\nimport torch")
        jobs = self.jobs(smoke_run)
        assert jobs["train_policy"] == 18
        assert jobs["reincarnate_policy"] == 6 and jobs["table_claims"] == 1
        assert not {"pretrain_miniature_model", "sample_rollouts", "measure_gradient_alignment"} & set(jobs)

    def test_another_size_of_the_engines_cache_reruns_nothing(self, smoke_run, edit):
        edit("scales/miniature.yaml", "  engine: transformers\n", "  engine: transformers\n  kv_cache_gib: 3\n")
        assert self.jobs(smoke_run) == {}

    @pytest.mark.parametrize("figure", ["figure_thoughts", "figure_efficiency"])
    def test_an_edit_of_a_plot_reruns_that_plot(self, smoke_run, edit, figure):
        edit(f"workflow_scripts/{figure}.py", "import", "# a comment\nimport")
        assert set(self.jobs(smoke_run)) == {figure} | self.ALWAYS_AFTER

    def test_an_edit_of_the_counter_samples_nothing(self, smoke_run, edit):
        edit("workflow_scripts/count_thoughts.py", "import", "# a comment\nimport")
        jobs = self.jobs(smoke_run)
        assert jobs["count_thoughts"] == 20 and "generate_samples" not in jobs and "train_policy" not in jobs

    def test_one_methods_setting_reruns_that_method_alone(self, smoke_run, edit):
        old = "phases: [{space: pretrain, samples: positive, updates: rest}]"
        edit("config.yaml", old, old.replace("rest}", "rest, coefficient: 0.5}"))
        assert self.runs(smoke_run) == {"psr_prerl/1", "psr_prerl/2"}
        jobs = self.jobs(smoke_run)
        assert jobs["generate_samples"] == jobs["grade_samples"] == jobs["count_thoughts"] == 2
        assert "reincarnate_policy" not in jobs

    def test_a_new_benchmark_trains_nothing(self, smoke_run, edit):
        old = "    chain8: {role: ood,"
        edit(
            "scales/miniature.yaml", old, "    chain5: {role: main, generated: {operations: [5], questions: 6}}\n" + old
        )
        jobs = self.jobs(smoke_run)
        assert jobs["prepare_miniature_data"] == 1 and jobs["generate_samples"] == 20
        assert not {"train_policy", "pretrain_miniature_model", "sample_rollouts"} & set(jobs)

    def test_the_second_phase_of_dsrl_leaves_its_parent(self, smoke_run, edit):
        second = "      - {space: posttrain, samples: all, updates: rest}\n  nsr_rl_warmup"
        edit("scales/smoke.yaml", second, second.replace("rest}", "rest, optimizer: fresh}"))
        assert {run.split("/")[0] for run in self.runs(smoke_run)} == {"dsrl", "dsrl_s2"}  # the sweep has dsrl's phases

    def test_more_samples_train_nothing(self, smoke_run, edit):
        edit("scales/smoke.yaml", "evaluation: {samples_per_question: 2,", "evaluation: {samples_per_question: 3,")
        jobs = self.jobs(smoke_run)
        assert jobs["generate_samples"] == 20 and "train_policy" not in jobs

    def test_a_seed_more_trains_that_seed(self, smoke_run, edit):
        edit("scales/smoke.yaml", "seeds: [1, 2]\n", "seeds: [1, 2, 3]\n")
        assert {run.split("/")[1] for run in self.runs(smoke_run)} == {"3"}
        assert self.jobs(smoke_run)["pretrain_miniature_model"] == 1

    def test_one_nsr_prerl_run_serves_dsrl_and_the_sweep(self, smoke_run):
        folder = smoke_run / "results/smoke/miniature"
        assert len(list(folder.glob("nsr_prerl/seed[12]/metrics.parquet"))) == 2
        kept = {file.name for file in (folder / "nsr_prerl/seed1/checkpoints").iterdir() if file.is_dir()}
        assert kept == {"update000001", "update000002", "update000003"}
        assert not list(folder.glob("dsrl*/seed*/checkpoints/update000001"))


def test_a_local_run_starts_no_timers_that_look_for_jobs(tmp_path):
    """Snakemake's rate limit starts one for every job that ends (Snakefile, onstart); without hooks they are seen."""
    folder = copy_checkout(tmp_path / "workflow")
    with (folder / "Snakefile").open("a", encoding="utf-8") as file:
        file.write(
            "\nfrom snakemake.scheduling.job_scheduler import JobScheduler\n"
            "JobScheduler._schedule_reevalutation = lambda self, delay: print('a timer')\n"
        )
    for hooks, timers in (["--no-hooks"], True), ([], False):
        command = [
            "--cores",
            "1",
            "--force",
            *hooks,
            "--config",
            "scale=smoke",
            "--",
            "results/smoke/data/train.parquet",
        ]
        run = snakemake(folder, *command)
        assert run.returncode == 0, run.stdout
        assert ("a timer" in run.stdout) is timers
