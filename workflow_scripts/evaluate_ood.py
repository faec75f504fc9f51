"""Evaluate one policy on the benchmarks of lm-evaluation-harness (rule evaluate_ood); finished ones are kept."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa

from prerl.core.errors import run_main
from prerl.core.files import lock_folder, read_table, write_parquet
from prerl.evaluation.harness import digest_of, evaluate_task, harness_environment, load_policy
from prerl.models.checkpoints import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON, rule evaluate_ood in rules/evaluate.smk")
    parser.add_argument("--engine-memory", type=json.loads, required=True, help="JSON: kv_cache_gib")
    parser.add_argument("--policy", required=True, type=Path, help="manifest of the checkpoint")
    parser.add_argument("--data", required=True, nargs="+", type=Path, help="manifest or folder, one per task")
    parser.add_argument("--state", required=True, type=Path, help="folder of finished tasks, no output")
    parser.add_argument("--answers", required=True, type=Path, help="parquet to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    state, answers, manifest = (path.resolve() for path in (arguments.state, arguments.answers, arguments.policy))
    data = [path.resolve() for path in arguments.data]
    policy, tables = None, []
    with lock_folder(state), harness_environment(settings["run_generated_code"]):
        for (benchmark, task), source in zip(settings["tasks"].items(), data, strict=True):
            finished = state / f"{benchmark}-{digest_of(settings, task, manifest, source)}.parquet"
            if not finished.is_file():
                if policy is None:
                    chosen = (settings["seed"], settings["enable_thinking"], arguments.engine_memory["kv_cache_gib"])
                    policy = load_policy(verify(manifest), *chosen)
                write_parquet(finished, evaluate_task(policy, benchmark, task, source, settings))
            tables.append(read_table(finished))
            right = sum(tables[-1]["correct"].to_pylist())
            print(f"{benchmark}: {right} of {len(tables[-1])} right -> {finished.name}", flush=True)
    write_parquet(answers, pa.concat_tables(tables))


if __name__ == "__main__":
    run_main(main)
