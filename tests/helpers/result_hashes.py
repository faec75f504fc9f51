"""Hashes of all that a run means: weights, moments, samples, grades, tables, figures; neither times nor provenance.

    python tests/helpers/result_hashes.py results/smoke > before.json       (then change the code and run again)
    python tests/helpers/result_hashes.py results/smoke before.json         names what differs; exit status 1 if any

For a change that must not change a result: on one machine, with the same packages, all of it is bitwise equal.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KINDS = {".parquet", ".safetensors", ".csv", ".md"}  # a figure by the values that it shows, beside it
FOOTER = re.compile(rb"\nProvenance: .*\n")
TIMED = {"figure_efficiency", "table_efficiency"}  # show seconds; their other data are in curves.parquet
FINGERPRINT = re.compile(r"(?<=/)[0-9a-f]{16}(?=/)")  # folder of a state, named by the code's hash among others


def without_seconds(table: pa.Table) -> pa.Table:
    """Without columns, and in a long table without rows, that hold seconds."""
    table = table.select([name for name in table.column_names if not name.startswith("seconds_")])
    if {"name", "kind", "value"} <= set(table.column_names):
        table = table.filter(pc.invert(pc.starts_with(table["name"], "seconds_")))
    return table


def digest(path: Path) -> str:
    """sha256 of a file; of a parquet file's names, types and values, of a table without the line of its provenance."""
    if path.suffix != ".parquet":
        return hashlib.sha256(FOOTER.sub(b"", path.read_bytes())).hexdigest()
    table = without_seconds(pq.read_table(path)).combine_chunks().replace_schema_metadata()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def hashes(results: Path) -> dict[str, str]:
    """Relative path -> digest. Shards of samples are in samples.parquet, so they are left out."""
    files = sorted(path for path in results.rglob("*") if path.suffix in KINDS and path.stem not in TIMED)
    named = {FINGERPRINT.sub("run", str(path.relative_to(results))): path for path in files}
    return {name: digest(path) for name, path in named.items() if not name.startswith("state/samples/")}


def main() -> int:
    found = hashes(Path(sys.argv[1]))
    if len(sys.argv) == 2:
        print(json.dumps(found, indent=1))
        return 0
    before = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    differ = [name for name in sorted({*before, *found}) if before.get(name) != found.get(name)]
    for name in differ:
        print("differs" if name in before and name in found else "missing" if name in before else "new    ", name)
    print(f"{len(found) - sum(name in found for name in differ)} of {len(before)} equal")
    return 1 if differ or not found else 0


if __name__ == "__main__":
    sys.exit(main())
