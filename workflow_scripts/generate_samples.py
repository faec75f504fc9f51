"""Sample every evaluated policy of a run on every benchmark (rule generate_samples)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa

from prerl.checkpoints import hold
from prerl.files import write_parquet
from prerl.generation import generate_sharded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON: seed, updates, samples, engine, prompt, sampling")
    parser.add_argument("--policies", nargs="+", type=Path, required=True, help="manifests, one an update")
    parser.add_argument("--questions", nargs="+", type=Path, required=True, help="problem files, one a benchmark")
    parser.add_argument("--state", type=Path, required=True, help="folder of finished shards, no output")
    parser.add_argument("--samples", type=Path, required=True, help="parquet to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    with hold(arguments.state):
        tables = [
            generate_sharded(policy, update, arguments.questions, arguments.state, settings)
            for policy, update in zip(arguments.policies, settings["updates"], strict=True)
        ]
        write_parquet(arguments.samples, pa.concat_tables(tables))


if __name__ == "__main__":
    main()
