"""Gradient alignment of log P(y) with log P(y|x) on rollouts of the base (rule measure_gradient_alignment)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa

from prerl.config.prompt import PromptSettings
from prerl.core.errors import run_main
from prerl.core.files import read_problems, read_table, write_parquet
from prerl.evaluation.gradient_alignment import AlignmentRollout, measure_alignment, token_agreement
from prerl.models.checkpoints import load_model, verify
from prerl.models.packing import pack_rows
from prerl.models.prompts import encode_prompts, load_tokenizer, prefix_token_id
from prerl.rollouts.rewards import hendrycks_reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help='JSON {"seed", "benchmark", "prompt", "temperature"}')
    parser.add_argument("--policy", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--rollouts", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--alignment", type=Path, required=True, help="parquet to write, one row per rollout")
    parser.add_argument("--tokens", type=Path, required=True, help="parquet to write, one row per response token")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    folder = verify(arguments.policy)
    tokenizer = load_tokenizer(folder)
    prompt = PromptSettings(**settings["prompt"])
    prefix_id = prefix_token_id(tokenizer, prompt.prefix_token)
    model = load_model(folder)
    if model.device.type == "cuda":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        pack_rows(model)  # for its attention: the default in float32 makes a matrix of all pairs of tokens
    problems = read_problems(arguments.questions).to_pydict()
    answers = dict(zip(problems["id"], problems["answer"], strict=True))
    contexts = dict(zip(problems["id"], encode_prompts(tokenizer, problems["problem"], prompt), strict=True))
    rollouts = [
        AlignmentRollout(
            question=row["question"],
            sample=row["sample"],
            context=contexts[row["question"]],
            response=row["token_ids"],
            right=hendrycks_reward(row["text"], answers[row["question"]]) > 0.5,
        )
        for row in read_table(arguments.rollouts).to_pylist()
    ]
    for measure, path in ((measure_alignment, arguments.alignment), (token_agreement, arguments.tokens)):
        rows = [
            {"benchmark": settings["benchmark"]} | row
            for row in measure(model, rollouts, prefix_id, settings["temperature"])
        ]
        write_parquet(path, pa.Table.from_pylist(rows))


if __name__ == "__main__":
    run_main(main)
