"""Sample every evaluated policy of a run on every benchmark (rule generate_samples)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.core.files import lock_folder, write_parquet
from prerl.evaluation.generation import generate_sharded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON, see rules/evaluate.smk")
    parser.add_argument("--engine-memory", type=json.loads, default={}, help="JSON, the rest of the block `engine`")
    parser.add_argument("--policies", nargs="+", type=Path, required=True, help="manifests, one per update")
    parser.add_argument("--questions", nargs="+", type=Path, required=True, help="problem files, one per benchmark")
    parser.add_argument("--state", type=Path, required=True, help="folder of finished shards, no output")
    parser.add_argument("--samples", type=Path, required=True, help="parquet to write")
    parser.add_argument("--processes", type=int, help="workers that share the questions; default: one per visible GPU")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    with lock_folder(arguments.state):
        settings["engine"] |= arguments.engine_memory
        policies = dict(zip(settings["updates"], arguments.policies, strict=True))
        samples = generate_sharded(policies, arguments.questions, arguments.state, settings, arguments.processes)
        write_parquet(arguments.samples, samples)


if __name__ == "__main__":
    run_main(main)
