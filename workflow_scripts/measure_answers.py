"""log P(y) of the answers that the page shows, each under the policy that gave it (rule measure_answers)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import torch

from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.core.errors import run_main
from prerl.core.files import write_parquet
from prerl.evaluation.answers import SAMPLE_KEY, SAMPLE_KEY_FIELDS
from prerl.models.batching import pack_micro_batches
from prerl.models.checkpoints import load_model, verify
from prerl.models.logprobs import response_logprobs
from prerl.models.packing import pack_rows
from prerl.models.prompts import load_tokenizer, prefix_token_id

MEASURED = pa.schema([*SAMPLE_KEY_FIELDS, pa.field("logp_y", pa.list_(pa.float32()))])


@torch.no_grad()
def logprobs_alone(manifest: Path, responses: list[list[int]], settings: dict) -> list[list[float]]:
    """log P(y) of each token of each response, nats, under one policy. settings: {prompt, temperature, tokens}."""
    folder = verify(manifest)
    prefix_id = prefix_token_id(load_tokenizer(folder), from_dict(PromptSettings, settings["prompt"]))
    model = load_model(folder)
    if model.device.type == "cuda":
        model.to(torch.bfloat16)  # as the engine's log P(y|x), beside which these stand
        pack_rows(model)
    found: list[list[float]] = [[] for _ in responses]
    for rows in pack_micro_batches([len(response) for response in responses], settings["tokens"]):
        chosen = [responses[row] for row in rows]
        logprobs_N = response_logprobs(model, [[prefix_id]] * len(rows), chosen, settings["temperature"])
        for row, of_row in zip(rows, logprobs_N.split([len(response) for response in chosen]), strict=True):
            found[row] = of_row.tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings",
        required=True,
        type=json.loads,
        help='JSON {"updates", "prompt", "temperature", "tokens" (of a micro-batch)}',
    )
    parser.add_argument("--policies", nargs="+", type=Path, required=True, help="manifests, one per update")
    parser.add_argument("--answers", type=int, required=True, help="to each question, the first ones")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--logprobs", type=Path, required=True, help="parquet to write, one row per answer")
    arguments = parser.parse_args()
    settings = arguments.settings
    samples = ds.dataset(arguments.samples)
    rows: list[dict] = []
    for update, manifest in zip(settings["updates"], arguments.policies, strict=True):
        shown = (ds.field("update") == update) & (ds.field("sample") < arguments.answers)
        answers = samples.to_table([*SAMPLE_KEY, "token_ids"], filter=shown).to_pylist()
        measured = logprobs_alone(manifest, [answer.pop("token_ids") for answer in answers], settings)
        rows += [answer | {"logp_y": logprobs} for answer, logprobs in zip(answers, measured, strict=True)]
    write_parquet(arguments.logprobs, pa.Table.from_pylist(rows, MEASURED))


if __name__ == "__main__":
    run_main(main)
