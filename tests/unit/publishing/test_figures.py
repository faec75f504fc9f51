"""Every figure and table script runs on the synthetic study, writes its files, and writes the same bytes again."""

import csv
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

import synthetic
from prerl.publishing import plotting
from publish_scripts import FIGURES, SCRIPTS, TARGETS, arguments, run

CAPTIONS = Path(__file__).parents[3] / "rules" / "captions"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> synthetic.Study:
    return synthetic.write_study(tmp_path_factory.mktemp("study"), synthetic.settings())


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> synthetic.Study:
    """One seed, two models, few methods: what the smallest scale may look like."""
    methods = ("grpo", "nsr_prerl", "dsrl")
    config = synthetic.settings(seeds=[11], models=("first", "second"), methods=methods)
    config |= {"ood_benchmarks": [], "ood_sets": {}}
    return synthetic.write_study(tmp_path_factory.mktemp("smoke"), config)


@pytest.fixture(scope="module")
def drawn(study, tmp_path_factory):
    """drawn(target): the target's files, made once."""
    folder = tmp_path_factory.mktemp("drawn")
    return cache(lambda target: run(target, study, folder))


@pytest.mark.parametrize("target", TARGETS)
def test_script_writes_its_files(target, drawn):
    for file in drawn(target):
        assert file.stat().st_size > 200
        assert str(file.parent).encode() not in file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_script_writes_the_same_bytes_again(target, study, drawn, tmp_path):
    for first, second in zip(drawn(target), run(target, study, tmp_path), strict=True):
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_script_runs_with_one_seed_and_few_methods(target, smoke, tmp_path):
    for output in run(target, smoke, tmp_path):
        assert output.stat().st_size


def test_figure_spaces_without_any_right_sample(smoke, tmp_path):
    table = pd.read_parquet(smoke.files["curves"][0])
    bare = tmp_path / "curves.parquet"
    table[table["name"] != "logp_yx_right"].to_parquet(bare)
    changed = synthetic.Study(smoke.config, smoke.files | {"curves": [bare, smoke.files["curves"][1]]})
    assert run("figure_spaces", changed, tmp_path)[1].stat().st_size > 200
    table[table["name"] != "entropy_nats"].to_parquet(bare)
    with pytest.raises(ValueError, match="entropy_nats.*rerun aggregate_scores"):
        run("figure_dynamics", changed, tmp_path)


def test_figure_alignment_without_right_rollouts(smoke, tmp_path):
    files = []
    for index, path in enumerate(smoke.files["alignment"]):
        files.append(tmp_path / f"{index}.parquet")
        pd.read_parquet(path).assign(right=False).to_parquet(files[-1])
    changed = synthetic.Study(smoke.config, smoke.files | {"alignment": files})
    assert run("figure_alignment", changed, tmp_path)[1].stat().st_size > 200


def test_figure_alignment_names_its_numbers_with_intervals(study, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plotting, "save", lambda figure, *files: figures.append(figure))
    run("figure_alignment", study, tmp_path)
    panels = [axes for block in figures[0].subfigs or [figures[0]] for axes in block.axes]
    # the table's mean is over 5 seeds: 0.42 with the own x; the excess of all weights is 0.32, of half of them 0.16
    assert [text.get_text() for text in panels[1].texts][0] == "own x: 0.420"
    assert [text.get_text()[-5:] for text in panels[1].texts] == ["0.420", "0.100", "0.300", "0.300", "0.300", "0.030"]
    assert [text.get_text() for text in panels[2].texts] == ["all: 0.320", "attention: 0.160"]
    label = panels[3].get_xlabel()
    assert re.match(r"own x: 0\.42 \[0\.3\d*, 0\.[45]\d*\], 0 % negative\npaper \(B\): \+9\.23, 0 % negative", label)
    right, wrong = (line.get_text() for line in panels[4].get_legend().get_texts())
    assert re.match(r"right, n = 40: 0\.40 \[0\.3\d, 0\.5\d\]", right)
    assert re.match(r"wrong, n = 80: 0\.43 \[0\.3\d, 0\.5\d\]", wrong)


def test_table_alignment(study, tmp_path):
    csv, markdown = run("table_alignment", study, tmp_path)
    table = pd.read_csv(csv).set_index(["weights", "compared with"])
    assert table.loc[("all", "own x"), "cosine"] == pytest.approx(0.42)
    assert table.loc[("attention", "own x − another problem's x"), "cosine"] == pytest.approx(0.16)
    assert table.loc[("all", "another x and its y"), "negative_percent"] == pytest.approx(100 * 9 / 24)
    text = markdown.read_text()
    assert "alignment_excess, miniature, chain3: agrees." in text
    assert "120 rollouts of 6 questions, 33.3 % right, 0 % truncated, 30 tokens" in text


def test_a_further_benchmark_has_values_and_no_verdict(study, tmp_path):
    files = dict(study.files)
    for flag in ("alignment", "gradients"):
        further = tmp_path / f"further.{flag}.parquet"
        pd.read_parquet(files[flag][0]).assign(benchmark="chain9").to_parquet(further)
        files[flag] = [*files[flag], further]
    measured = [*study.config["alignment"], study.config["alignment"][0] | {"benchmark": "chain9"}]
    both = synthetic.Study(study.config | {"alignment": measured}, files)
    csv, markdown = run("table_alignment", both, tmp_path)
    assert list(pd.read_csv(csv)["benchmark"].unique()) == ["chain3", "chain9"]
    assert [line for line in markdown.read_text().splitlines() if line.startswith("alignment_excess")] == [
        "alignment_excess, miniature, chain3: agrees."
    ]


@pytest.mark.parametrize("target", ["figure_warmup", "table_claims"])
def test_script_runs_by_its_path_with_nothing_installed_and_writes_the_same_bytes(target, study, tmp_path):
    given, outputs = arguments(target, study, tmp_path)
    done = subprocess.run([sys.executable, str(SCRIPTS / f"{target}.py"), *given], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    other = [output.read_bytes() for output in outputs]
    assert [output.read_bytes() for output in run(target, study, tmp_path)] == other


@pytest.mark.parametrize("target", TARGETS)
def test_caption_says_what_is_shown_and_how_to_redo_it(target):
    text = (CAPTIONS / f"{target}.rst").read_text(encoding="utf-8")
    if scale := {"controls": "controls", "map": "map"}.get(target.split("_")[1]):  # the scale that has them
        assert f"snakemake --cores 2 --config scale={scale} -- {target}" in text
    else:
        assert f"--cores 2 --config scale={{{{ snakemake.config.scale }}}} -- {target}" in text
        # with --profile slurm and no other config: a redraw must not drop the profile's settings or retrain
        assert f"snakemake --profile slurm --allowed-rules {target} -- {target}" in text
    assert "seed" in text


@pytest.mark.parametrize("target", TARGETS)
def test_caption_gives_n_and_renders_without_a_fault(target):
    text = (CAPTIONS / f"{target}.rst").read_text(encoding="utf-8")
    study = "5 seeds (11, 12). Evaluation: 8 answers to each question of ``chain3`` (60 questions)."
    job = SimpleNamespace(params=SimpleNamespace(study=study), config={"scale": "smoke"})
    filled = Environment(undefined=StrictUndefined).from_string(text).render(snakemake=job)  # as snakemake --report
    html = publish_parts(filled, writer="html", settings_overrides={"halt_level": 2})["body"]
    assert "5 seeds (11, 12). Evaluation: 8 answers" in html
    assert "{{" not in html and re.search("scale=(smoke|controls|map)", html)


def rows_of(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_claims_table_has_exactly_the_contracts_columns(study, tmp_path):
    table, reading = run("table_claims", study, tmp_path)
    header = "claim,paper_value,grade,ours,ci_low,ci_high,n,seeds,verdict,covers_paper"
    beside = "smallest_effect,seeds_to_settle,hierarchical_low,hierarchical_high,crossed_low,crossed_high"
    beside += ",median,median_low,median_high"
    assert table.read_text(encoding="utf-8").splitlines()[0] == f"{header},{beside}"
    assert len(rows_of(table)) == 17
    text = reading.read_text(encoding="utf-8")
    assert "Not tested: main_8b (this scale has one model" in text
    assert "| ci_high | question bootstrap | n |" in text and "it never decides" in text
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert cells["psr_degrades"][6] == "[-12.50, -12.50]"
    assert cells["passk"][6] == cells["main_8b"][6] == ""


def test_main_table_by_hand(study, smoke, tmp_path):
    rows = rows_of(run("table_main", study, tmp_path)[0])
    cells = {(row["method"], row["benchmark"]): row for row in rows}
    dsrl = cells["DSRL", "mean"]
    # every question 7 (chain3) or 6 (chain4) of 8 right; seed 11 lacks one answer of 80 per benchmark
    assert float(dsrl["accuracy"]) == pytest.approx(81.25 - 0.25)
    assert float(dsrl["vs_grpo"]) == pytest.approx(-0.25)
    assert float(dsrl["vs_grpo_t_low"]) == pytest.approx(-0.25 - 2.7764451 * 0.5590170 / 5**0.5)
    # five seeds see 1.681997 sd with 80 % power
    assert float(dsrl["vs_grpo_smallest_effect"]) == pytest.approx(1.681997 * 0.5590170, rel=1e-5)
    # math-verify calls one more answer of 80 right; one answer of 80 is unscorable
    assert float(dsrl["math_verify"]) == pytest.approx(81.0 + 1.25)
    # seed 11 lacks one of 80 answers: sd of −1.25 and four zeros is 0.559017
    assert float(dsrl["math_verify_t_low"]) == pytest.approx(82.25 - 2.7764451 * 0.5590170 / 5**0.5)
    # one answer to question 1 and two to question 3, which cancel in the counts of right answers: 3 of 80
    assert float(dsrl["graders_differ"]) == pytest.approx(3.75)
    assert float(dsrl["unscorable"]) == pytest.approx(1.25)
    assert (dsrl["questions"], dsrl["answers"], dsrl["seeds"]) == ("20", "800", "5")
    assert dsrl["paper"] == dsrl["paper_grade"] == ""
    assert cells["GRPO", "mean"]["vs_grpo"] == ""
    assert float(cells["DSRL, S = 40", "mean"]["accuracy"]) == pytest.approx(56.25)
    assert {row["benchmark"] for row in rows} == {"mean", *synthetic.MAIN, *synthetic.OOD}
    early = cells["NSR-PreRL @20", "mean"]  # evaluated before its end: without a difference
    assert (float(early["accuracy"]), float(early["tokens"]), early["vs_grpo"]) == (31.25, 30.0, "")
    one_seed = rows_of(run("table_main", smoke, tmp_path)[0])
    assert one_seed[0]["t_low"] == "nan"


def test_paper_means_are_printed_only_for_the_papers_models(tmp_path):
    config = synthetic.settings(seeds=[11, 12], models=("qwen3-4b",))
    study = synthetic.write_study(tmp_path, config)
    cells = {(row["method"], row["benchmark"]): row for row in rows_of(run("table_main", study, tmp_path)[0])}
    assert (cells["GRPO", "mean"]["paper"], cells["GRPO", "mean"]["paper_grade"]) == ("55.79", "B")
    assert cells["GRPO", "chain3"]["paper"] == ""
    assert cells["PreRL", "mean"]["paper"] == ""


def test_the_values_of_a_figure_are_what_it_shows(study, tmp_path):
    """figure_warmup, S = 20: DSRL's 7 of 8 (chain3) and 6 of 8 (chain4), seed 11 one of 80 answers lower on each."""
    _, _, values, panels = run("figure_warmup", study, tmp_path)
    rows = [row for row in rows_of(values) if row["panel"] == "Main benchmarks" and row["x"] == "20.0"]
    by_seed = {row["seed"]: float(row["y"]) for row in rows}
    assert by_seed == {"": 81.0, "11": 80.0} | dict.fromkeys(["12", "13", "14", "15"], 81.25)
    (mean,) = (row for row in rows if not row["seed"])
    assert float(mean["low"]) == pytest.approx(81.0 - 2.7764451 * 0.5590170 / 5**0.5, rel=1e-5)
    main, out = json.loads(panels.read_text())["panels"]
    assert [main["title"], out["title"]] == ["Main benchmarks", "Out of distribution"]
    best, grpo, dsrl = main["series"]
    assert (best["kind"], best["x"], main["range_y"]) == ("rule", [10, 25], None)
    assert main["range_x"] == [-1.6, 41.6]  # 4 % of 40 on both sides
    assert (grpo["kind"], grpo["y"]) == ("rule", [81.25])
    assert dsrl["x"] == [0, 5, 10, 20, 40] and dsrl["seeds"]["11"][3] == 80.0


@pytest.mark.parametrize("target", FIGURES)
def test_every_panel_has_title_axes_and_values(target, drawn):
    panels = json.loads(drawn(target)[3].read_text())["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels) > 1
    assert all(panel["series"] and panel["title"] for panel in panels)


def test_single_updates_stand_behind_smoothed_ones(drawn):
    panels = json.loads(drawn("figure_dynamics")[3].read_text())["panels"]
    grpo = next(series for series in panels[0]["series"] if series["name"] == "GRPO")
    raw = pd.DataFrame({0: grpo["raw"]})
    assert grpo["y"] == pytest.approx(plotting.smoothed(raw)[0].tolist(), rel=1e-4) and grpo["raw"] != grpo["y"]


def test_log_probs_are_smoothed_over_five_updates():
    table = pd.DataFrame({11: [1.0, 2.0, float("nan"), 4.0, 5.0, 6.0]}, index=range(1, 7))
    # around update 3: 1, 2, 4, 5; around the first: 1, 2
    assert plotting.smoothed(table)[11].tolist() == [1.5, 7 / 3, 3.0, 4.25, 5.0, 5.0]


def test_what_lies_beyond_a_histogram_counts_in_its_end_bins():
    from matplotlib.figure import Figure

    from prerl.publishing.labels import line
    from prerl.publishing.noted import panel_of

    axes = Figure().subplots()
    data = pd.Series([-50.0, 0.1, 0.2, 1.5, 99.0])
    plotting.outline(axes, data, [0.0, 1.0, 2.0], [1.0] * 5, line("#000000", "-", "o"), "all")
    (series,) = panel_of(axes, "m")["series"]
    assert (series["x"], series["y"]) == ([0, 1, 2], [3, 2])


def test_a_panel_has_the_ticks_and_the_axis_name_of_its_column():
    from matplotlib.figure import Figure

    from prerl.publishing.labels import line
    from prerl.publishing.noted import note, panel_of

    top, bottom = Figure().subplots(2, sharex=True)  # the top one's tick labels are hidden
    bottom.set_xticks([0, 1], ["Base", "GRPO\n@60"])
    bottom.set_xlabel("Policy")
    for axes in (top, bottom):
        note(axes, "points", "Base", line("#000000", "-", "o"), [0], [0.5], low=[0.4], high=[0.6])
        panel = panel_of(axes, "m")
        assert (panel["x"], panel["ticks"]) == ("Policy", {"at": [0, 1], "labels": ["Base", "GRPO @60"]})


def test_named_dots_give_the_ticks_of_y():
    from matplotlib.figure import Figure

    from prerl.publishing.labels import line
    from prerl.publishing.noted import note, panel_of

    axes = Figure().subplots()
    for place, name in enumerate(("own x", "empty x")):
        note(axes, "dots", name, line("#000000", "-", "o"), [0.5], [-place], low=[0.4], high=[0.6])
    assert panel_of(axes, "m")["ticks_y"] == {"at": [0, -1], "labels": ["own x", "empty x"]}
