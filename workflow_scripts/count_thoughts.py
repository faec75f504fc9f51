"""Count reflection, transition and execution thoughts of sampled answers by SEAL's rule, or the user's function.

Writes one row per answer: update, benchmark, question, sample, tokens, truncated, reflections, transitions, executions.
"""

import argparse
import json
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer

from prerl.config.functions import ThoughtSettings
from prerl.config.key import from_dict
from prerl.core.errors import run_main
from prerl.core.files import read_table, write_parquet
from prerl.evaluation.answers import SAMPLE_KEY, SAMPLE_KEY_FIELDS, check_unique_samples
from prerl.rollouts.functions import thought_counter, threads


def load_tokenizer(policy: Path) -> Tokenizer:
    """Tokenizer of the model folder that holds the manifest `policy`."""
    path = policy.parent / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: --policy must be the manifest of a model folder that holds it")
    return Tokenizer.from_file(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON: {}, or a function as `thoughts`")
    parser.add_argument("--samples", required=True, type=Path, help="samples of one method and seed")
    parser.add_argument("--policy", required=True, type=Path, help="manifest of a model with the samples' tokenizer")
    parser.add_argument("--thoughts", required=True, type=Path, help="output")
    arguments = parser.parse_args()
    rule = from_dict(ThoughtSettings, arguments.settings["thoughts"]) if arguments.settings else None
    samples = read_table(
        arguments.samples, columns=[*SAMPLE_KEY, "token_ids", "finish_reason", *(["text"] if rule else [])]
    )
    check_unique_samples(samples, arguments.samples)
    counter = thought_counter(rule, load_tokenizer(arguments.policy), threads())
    responses = samples["token_ids"].to_pylist()
    reasons = samples["finish_reason"].to_pylist()
    unknown = sorted(set(reasons) - {"stop", "length"})
    if unknown:
        raise ValueError(f"{arguments.samples}: finish_reason {unknown} is neither 'stop' nor 'length'; sample again")
    counts = counter.count_all(responses, samples["text"].to_pylist() if rule else [])
    names = ["reflections", "transitions", "executions"]
    fields = [
        *SAMPLE_KEY_FIELDS,
        pa.field("tokens", pa.int32()),
        pa.field("truncated", pa.bool_()),
        *(pa.field(name, pa.int32()) for name in names),
    ]
    values = [
        *(samples[name].to_pylist() for name in SAMPLE_KEY),
        [len(token_ids) for token_ids in responses],
        [reason == "length" for reason in reasons],
        *([count[i] for count in counts] for i in range(len(names))),
    ]
    write_parquet(arguments.thoughts, pa.table(values, schema=pa.schema(fields)))
    totals = ", ".join(f"{sum(count[i] for count in counts)} {name}" for i, name in enumerate(names))
    print(f"counted {len(counts)} answers: {totals} -> {arguments.thoughts}")


if __name__ == "__main__":
    run_main(main)
