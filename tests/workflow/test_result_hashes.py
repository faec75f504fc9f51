"""The hashes that a change without effect must leave equal: blind to seconds, and to nothing else."""

import pyarrow as pa
import pyarrow.parquet as pq

from result_hashes import hashes

METRICS = {"update": [1, 2], "loss": [0.5, 0.25], "seconds_total": [1.0, 2.0]}
CURVES = {"kind": ["train", "train"], "name": ["loss", "seconds_total"], "value": [0.5, 1.0]}


def hashes_of(folder, metrics=METRICS, curves=CURVES, weights=b"weights"):
    (folder / "state/run/0123456789abcdef").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(metrics), folder / "metrics.parquet")
    pq.write_table(pa.table(curves), folder / "curves.parquet")
    (folder / "state/run/0123456789abcdef/model.safetensors").write_bytes(weights)
    return hashes(folder)


def test_seconds_do_not_count(tmp_path):
    before = hashes_of(tmp_path)
    slower = METRICS | {"seconds_total": [9.0, 9.0]}
    assert set(before) == {"metrics.parquet", "curves.parquet", "state/run/run/model.safetensors"}
    assert hashes_of(tmp_path, slower, CURVES | {"value": [0.5, 9.0]}) == before


def test_provenance_does_not_count_and_the_rest_of_a_table_does(tmp_path):
    def of_table(number, origin):
        (tmp_path / "table.md").write_text(f"| a |\n| {number} |\n\nA note.\n\nProvenance: {origin}.\n\nThe reading.\n")
        table = pa.table(METRICS).replace_schema_metadata({"provenance": origin})
        pq.write_table(table, tmp_path / "metrics.parquet")
        return hashes(tmp_path)

    before = of_table(1, "commit a; 2 jobs on a machine")
    assert of_table(1, "commit b with uncommitted changes; 3 jobs") == before
    after = of_table(2, "commit a; 2 jobs on a machine")
    assert {name for name in after if after[name] != before[name]} == {"table.md"}


def test_the_last_bit_of_a_value_and_a_byte_of_a_file_count(tmp_path):
    before = hashes_of(tmp_path)
    for name, changes in {
        "metrics.parquet": {"metrics": METRICS | {"loss": [0.5, 0.25 + 2**-54]}},
        "curves.parquet": {"curves": CURVES | {"value": [0.5 + 2**-53, 1.0]}},
        "state/run/run/model.safetensors": {"weights": b"Weights"},
    }.items():
        after = hashes_of(tmp_path, **changes)
        assert {key for key in after if after[key] != before[key]} == {name}
