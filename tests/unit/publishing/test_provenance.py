"""The jobs behind a figure, by hand: which count, what their sum says, how it reads."""

import json

from PIL import Image

from prerl.publishing import provenance

HARDWARE = {"cpu": "EPYC", "cores": 2, "memory_gib": 23.5, "gpus": []}
RULES = ["prepare_miniature_data", "pretrain_miniature_model", "download_model", "train_policy", "generate_samples"]
RULES += ["measure_gradient_alignment"]
SETTINGS = {
    "models": ["mini"],
    "runs": ["grpo", "dsrl"],
    "seeds": [11, 12],
    "behind": {"rules": RULES, "sets": ["train"], "answered": ["grpo", "dsrl"]},
}


def job(rule, name, commit="0123456789ab", dirty=False, **run):
    took = {"cpu_seconds": 900.0, "seconds": 450.0, "peak_memory_gib": 0.5, "gpu_peak_memory_gib": None}
    return {
        "rule": rule,
        "job": name,
        "commit": commit,
        "dirty": dirty,
        "code_sha256": "c",
        "settings_sha256": name,
        "inputs": {},
        "outputs": {f"{rule}/{name}": "o"},
        "environment_sha256": "e",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "run": took | {"hardware": HARDWARE} | run,
    }


RECORDS = [
    job("prepare_miniature_data", "train"),
    job("pretrain_miniature_model", "mini_seed11"),
    job("train_policy", "mini_grpo_seed11"),
    job("train_policy", "mini_dsrl_seed11", commit="fedcba987654", dirty=True, peak_memory_gib=1.25),
    job("generate_samples", "mini_base_seed12"),
    job("measure_gradient_alignment", "mini_seed12_chain4_1_of_2"),
    # not behind it: another method, seed, model, problem set, kind of job; what aggregates and draws
    job("prepare_miniature_data", "other"),
    job("diagnose_base_model", "mini_seed11"),
    job("train_policy", "mini_ppo_seed11"),
    job("train_policy", "mini_grpo_seed13"),
    job("train_policy", "mini_grpo_seed111"),
    job("download_model", "other"),
    job("aggregate_scores", "mini"),
    job("figure_x", "all"),
]


def test_the_jobs_behind_a_target_are_those_of_its_methods_and_seeds():
    found = provenance.behind(RECORDS, SETTINGS)
    assert found == RECORDS[:6]
    hub = job("download_model", "mini")
    assert provenance.behind([hub], SETTINGS) == [hub]
    part = job("train_policy", "mini_grpo_to60_seed11")  # a method's first updates, a run of their own
    assert provenance.behind([part], SETTINGS) == []
    assert provenance.behind([part], SETTINGS | {"runs": ["grpo_to60", "grpo"]}) == [part]
    answers = job("generate_samples", "mini_grpo_to60_seed11")  # which this target does not read
    assert provenance.behind([answers], SETTINGS | {"runs": ["grpo_to60", "grpo"]}) == []


def test_a_target_without_training_misses_none():
    """As the alignment, which may be drawn before, between or after the training runs."""
    settings = SETTINGS | {"behind": {"rules": ["measure_gradient_alignment"], "sets": [], "answered": []}}
    found = provenance.summary(RECORDS, settings)
    assert (found["jobs"], found["unrecorded"]) == (1, 0)
    assert found == provenance.summary([record for record in RECORDS if record["rule"] != "train_policy"], settings)


def test_the_summary_adds_times_takes_the_largest_memory_and_counts_what_is_missing():
    found = provenance.summary(RECORDS, SETTINGS)
    assert (found["jobs"], found["cpu_seconds"], found["seconds"]) == (6, 5400.0, 2700.0)
    assert (found["peak_memory_gib"], found["gpu_peak_memory_gib"]) == (1.25, None)
    assert found["commits"] == ["0123456789ab", "fedcba987654"] and found["dirty"]
    assert found["unrecorded"] == 2  # of two methods in two seeds
    other = RECORDS[0] | {"versions": {"python": "3.12.1"}}
    mixed = provenance.summary([other, *RECORDS[1:]], SETTINGS)["versions"]
    assert mixed == {"python": "3.11.7 / 3.12.1", "torch": "2.13.0"}
    assert json.loads(json.dumps(found)) == found


def test_a_hash_changes_with_its_own_part_alone():
    def hashes(records):
        found = provenance.summary(records, SETTINGS)
        return [found[key] for key in ("code", "settings", "model_and_data", "environment")]

    before = hashes(RECORDS)
    for index, change in enumerate(
        [{"code_sha256": "d"}, {"settings_sha256": "d"}, {"outputs": {"prepare": "d"}}, {"environment_sha256": "d"}]
    ):
        after = hashes([RECORDS[0] | change, *RECORDS[1:]])
        assert [a != b for a, b in zip(before, after, strict=True)] == [place == index for place in range(4)]
    slower = RECORDS[0] | {"run": RECORDS[0]["run"] | {"seconds": 1.0, "job_id": "slurm 1"}}
    assert hashes([slower, *RECORDS[1:]]) == before


def test_the_line_of_a_footer(monkeypatch):
    found = provenance.summary(RECORDS, SETTINGS)
    text = provenance.line(found)
    for part in (
        "commit 0123456789ab, fedcba987654 with uncommitted changes; ",
        f"settings {found['settings'][:8]}, model and data {found['model_and_data'][:8]}, ",
        "python 3.11.7, torch 2.13.0; seeds 11-12; 6 jobs on 2 cores of EPYC, 23.5 GiB; 1.50 core-hours, ",
        "at most 1.2 GiB; ",
        "training runs without a record: 2",
    ):
        assert part in text
    monkeypatch.setenv("PRERL_LOG", "results/mini/logs/figure_x/all.log")
    assert provenance.line(found) == f"{text}; provenance/figure_x/all.json"
    assert provenance.line(None) == ""
    assert provenance.short(provenance.summary([], SETTINGS)) == "no record of the jobs behind it"


def test_several_gpus_and_seeds_are_named_once():
    gpus = HARDWARE | {"gpus": ["H200", "H200"]}
    record = job("train_policy", "mini_grpo_seed11", hardware=gpus, gpu_peak_memory_gib=80.0)
    text = provenance.short(provenance.summary([record], SETTINGS))
    assert "2 cores of EPYC, 23.5 GiB, 2 x H200" in text and "at most 0.5 GiB and 80.0 GiB of a GPU" in text
    assert provenance.seeds_text([21, 11, 12, 13, 23, 22, 30]) == "11-13, 21-23, 30"


def test_records_are_read_from_a_run(tmp_path):
    (tmp_path / "train_policy").mkdir()
    (tmp_path / "train_policy/a.json").write_text(json.dumps(RECORDS[2]))
    assert provenance.read_records(tmp_path) == [RECORDS[2]]
    assert provenance.read_records(tmp_path / "none") == []


def test_a_figure_and_a_table_carry_the_line(tmp_path):
    import pandas as pd

    from prerl.publishing import plotting, tables
    from prerl.publishing.inputs import Job

    settings = SETTINGS | {"scale": "mini", "reading": "A note."}
    found = provenance.summary(RECORDS, settings)
    outputs = {suffix: tmp_path / f"x.{suffix}" for suffix in ("pdf", "png", "csv", "json", "md")}
    job_ = Job(settings, {}, outputs, found)
    plotting.draw_models(job_, lambda block, settings: block.subplots(), "seeds", height_in=2.0)
    with Image.open(outputs["png"]) as image:
        assert image.text["Provenance"] == provenance.line(found)
    assert b"0123456789ab" in outputs["pdf"].read_bytes()
    tables.write(job_, pd.DataFrame({"a": [1]}))
    assert outputs["md"].read_text().endswith(f"\nProvenance: {provenance.line(found)}.\n\nA note.\n")
    assert outputs["csv"].read_text() == "a\n1\n"
