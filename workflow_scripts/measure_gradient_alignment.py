"""Gradient alignment of log P(y) with log P(y|x) on rollouts of the base (rule measure_gradient_alignment).

A job measures its part of a benchmark's rollouts: `job` of `jobs`, counted from 0.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa

from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.core.errors import run_main
from prerl.core.files import read_problems, read_table, write_parquet
from prerl.evaluation.gradient_alignment import (
    AlignmentRollout,
    Contexts,
    in_rounds,
    measure_alignment,
    shuffled_words,
    token_agreement,
)
from prerl.models.checkpoints import load_model, verify
from prerl.models.packing import pack_rows
from prerl.models.prompts import encode_prompts, load_tokenizer, prefix_token_id
from prerl.rollouts.rewards import hendrycks_reward
from prerl.rollouts.thoughts import ThoughtCounter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings",
        required=True,
        help='JSON {"benchmark", "prompt", "temperature", "other_problems", "job", "jobs"}',
    )
    parser.add_argument("--policy", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--rollouts", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--alignment", type=Path, required=True, help="parquet to write, one row per rollout")
    parser.add_argument("--gradients", type=Path, required=True, help="… per rollout, comparison and parameter group")
    parser.add_argument("--tokens", type=Path, required=True, help="… per response token")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    folder = verify(arguments.policy)
    tokenizer = load_tokenizer(folder)
    prompt, temperature = from_dict(PromptSettings, settings["prompt"]), settings["temperature"]
    prefix_id = prefix_token_id(tokenizer, prompt)
    model = load_model(folder)
    if model.device.type == "cuda":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        pack_rows(model)  # for its attention: the default in float32 makes a matrix of all pairs of tokens
    sampled = {(row["question"], row["sample"]): row for row in read_table(arguments.rollouts).to_pylist()}
    asked = {question for question, _ in sampled}
    problems = {row["id"]: row for row in read_problems(arguments.questions).to_pylist() if row["id"] in asked}
    texts = {question: row["problem"] for question, row in problems.items()}
    mixed = [shuffled_words(text, question) for question, text in texts.items()]
    contexts = Contexts(
        own=dict(zip(texts, encode_prompts(tokenizer, list(texts.values()), prompt), strict=True)),
        shuffled=dict(zip(texts, encode_prompts(tokenizer, mixed, prompt), strict=True)),
        empty=encode_prompts(tokenizer, [""], prompt)[0],
    )
    rollouts = in_rounds([AlignmentRollout(*key, row["token_ids"]) for key, row in sampled.items()])
    job, jobs = settings["job"], settings["jobs"]
    chosen = range(job * len(rollouts) // jobs, (job + 1) * len(rollouts) // jobs)
    counter = ThoughtCounter.of(tokenizer)
    tables: dict[Path, list[dict]] = {arguments.alignment: [], arguments.gradients: [], arguments.tokens: []}
    measured = measure_alignment(model, rollouts, chosen, contexts, prefix_id, settings["other_problems"], temperature)
    for rollout, gradients in measured:
        row = sampled[rollout.question, rollout.sample]
        key = {"benchmark": settings["benchmark"], "question": rollout.question, "sample": rollout.sample}
        tokens = token_agreement(model, rollout, contexts.own[rollout.question], prefix_id, temperature)
        about = {
            "right": hendrycks_reward(row["text"], problems[rollout.question]["answer"]) > 0.5,
            "tokens": len(rollout.response),
            "truncated": row["finish_reason"] == "length",
            **counter.count(rollout.response)._asdict(),
        }
        for name in ("logp_yx", "logp_y"):
            about[name] = sum(token[name] for token in tokens) / len(tokens)
        tables[arguments.alignment].append(key | about)
        tables[arguments.gradients] += [key | gradient for gradient in gradients]
        tables[arguments.tokens] += [key | token for token in tokens]
        print(f"{rollout.question}, sample {rollout.sample}: {len(rollout.response)} tokens", flush=True)
    for path, rows in tables.items():
        write_parquet(path, pa.Table.from_pylist(rows))


if __name__ == "__main__":
    run_main(main)
