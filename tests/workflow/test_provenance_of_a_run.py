"""In a whole smoke run: every job leaves a record, every figure and table shows it, and `verify` compares two runs."""

import json
import re
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from checkouts import planned_jobs, snakemake

SMOKE = ("--config", "scale=smoke")


def test_each_log_of_a_job_has_a_record_beside_it(smoke_run):
    results = smoke_run / "results/smoke"
    logs = {path.relative_to(results / "logs").with_suffix(".json") for path in (results / "logs").rglob("*.log")}
    records = {path.relative_to(results / "provenance") for path in (results / "provenance").rglob("*.json")}
    assert {path for path in logs if path.parts[0] != "report"} == records  # the report's job is Snakemake itself
    for path in records:
        record = json.loads((results / "provenance" / path).read_text())
        assert (record["rule"], record["job"]) == (path.parts[0], path.stem)
        assert record["run"]["cpu_seconds"] > 0 and record["run"]["peak_memory_gib"] > 0
    for path in results.glob("miniature/*/seed*/*.parquet"):
        reference = pq.read_schema(path).metadata[b"provenance"].decode()
        assert (results / reference).is_file()


def test_figures_and_tables_say_where_they_come_from(smoke_run):
    results = smoke_run / "results/smoke"
    summary = json.loads((results / "provenance.json").read_text())
    assert (summary["unrecorded"], summary["seeds"]) == (0, [1, 2])
    assert summary["rules"]["train_policy"]["jobs"] == 18 and summary["rules"]["generate_samples"]["jobs"] == 20
    assert summary["rules"]["measure_answers"]["jobs"] == 4  # which the page alone reads
    shown = f"model and data {summary['model_and_data'][:8]}"
    lines = {}
    for path in results.glob("figures/*.png"):
        with Image.open(path) as image:
            lines[path.stem] = image.text["Provenance"]
    for path in set(results.glob("tables/*.md")) - {results / "tables/table_more_seeds.md"}:  # of more seeds
        (lines[path.stem],) = re.findall(r"^Provenance: (.*)$", path.read_text(), re.M)
    assert shown in lines["table_claims"]  # which reads what all jobs made
    said = {re.search(r"settings \w{8}, model and data \w{8}", line)[0] for line in lines.values()}
    # of training and answers; of the alignment; of all: whatever was done first
    assert len(said) == 3 and "without a record" not in "".join(lines.values())
    for target, line in lines.items():
        assert f"provenance/{target}/all.json" in line


@pytest.fixture
def reference(smoke_run):
    """A copy of the run's tables and summary, as results/reference has them."""
    folder = smoke_run / "reference"
    shutil.copytree(smoke_run / "results/smoke/tables", folder / "tables")
    shutil.copy2(smoke_run / "results/smoke/provenance.json", folder / "provenance.json")
    yield folder
    shutil.rmtree(folder)


def test_verify_is_bitwise_on_one_machine_and_within_intervals_on_another(smoke_run, reference):
    def verify(*config):
        return snakemake(smoke_run, "verify", "--cores", "1", "--config", "scale=smoke", *config)

    same = verify("against=reference")
    assert same.returncode == 0 and "Compared bitwise" in same.stdout, same.stdout
    table = pd.read_csv(reference / "tables/table_claims.csv", dtype=str, keep_default_na=False)
    table.loc[table["claim"] == "alignment", "ours"] = "0.123"
    table.to_csv(reference / "tables/table_claims.csv", index=False)
    other = verify("against=reference")
    assert other.returncode == 1 and "disagrees: alignment: ours" in other.stdout
    summary = json.loads((reference / "provenance.json").read_text()) | {"chips": ["another"]}
    (reference / "provenance.json").write_text(json.dumps(summary))
    assert "within intervals, since these differ or are not known: chips" in verify("against=reference").stdout
    missing = verify()
    assert missing.returncode == 1 and "verify --config against=results/reference/miniature" in missing.stdout


def test_more_seeds_runs_the_second_stage_and_leaves_the_first(smoke_run):
    results = smoke_run / "results/smoke"
    before = (results / "tables/table_claims.csv").read_bytes()
    done = snakemake(smoke_run, "more_seeds", "--cores", "2", *SMOKE)
    assert done.returncode == 0, done.stdout[-5000:]
    chosen = json.loads((results / "more_seeds/seeds.json").read_text())
    assert chosen["seeds"] == [1, 2, 31] and chosen["methods"] == ["grpo", "nsr_prerl"] and chosen["needed"] > 3
    (row,) = pd.read_csv(results / "tables/table_more_seeds.csv").to_dict("records")
    assert (row["claim"], row["first_seeds"], row["seeds"]) == ("nsr_long", 2, 3)
    assert row["half_width"] > row["stated_half_width"] == 1.001  # three seeds are too few, which the table says
    assert "allows 3: a valid, wider interval" in (results / "tables/table_more_seeds.md").read_text()
    trained = {path.parent.parent.name for path in results.glob("miniature/*/seed31/metrics.parquet")}
    assert trained == {"grpo", "nsr_prerl"}
    assert (results / "tables/table_claims.csv").read_bytes() == before
    assert planned_jobs(smoke_run, *SMOKE) == {"page": 1, "all": 1}  # the page shows the new table
    (results / "tables/table_more_seeds.md").unlink()
    assert planned_jobs(smoke_run, *SMOKE) == {}
