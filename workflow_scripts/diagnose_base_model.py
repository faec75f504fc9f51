"""What training would start from: groups that GRPO can learn from, and style under the prompt against style in P(y).

Writes a row per answer of the base model: space ("posttrain": after its prompt, "pretrain": after the prefix token
alone), question ("" in the pre-train space), sample, right, reflections, transitions, tokens, truncated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa

from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.core.errors import run_main
from prerl.core.files import read_problems, write_parquet
from prerl.evaluation.generation import Policy
from prerl.models.checkpoints import verify
from prerl.models.prompts import encode_prompts, prefix_token_id
from prerl.rollouts.interface import Rollout, sample_seed
from prerl.rollouts.rewards import hendrycks_reward
from prerl.rollouts.thoughts import ThoughtCounter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings", type=json.loads, required=True, help="JSON: seed, questions, samples, engine, prompt, sampling"
    )
    parser.add_argument("--engine-memory", type=json.loads, default={}, help="JSON, the rest of the block `engine`")
    parser.add_argument("--policy", type=Path, required=True, help="manifest of the base model")
    parser.add_argument("--questions", type=Path, required=True, help="training problems; the first are asked")
    parser.add_argument("--diagnosis", type=Path, required=True, help="parquet to write")
    arguments = parser.parse_args()
    settings = arguments.settings
    prompt, sampling = from_dict(PromptSettings, settings["prompt"]), SamplingSettings(**settings["sampling"])
    engine = EngineSettings(**settings["engine"] | arguments.engine_memory)
    policy = Policy(verify(arguments.policy), engine, prompt, sampling)
    problems = read_problems(arguments.questions)
    problems = problems.slice(0, min(settings["questions"], len(problems))).to_pydict()
    samples, seed = range(settings["samples"]), settings["seed"]
    prefix = prefix_token_id(policy.tokenizer, prompt)
    asked = [("posttrain", *asking) for asking in zip(problems["id"], problems["answer"], strict=True)]
    asked += [("pretrain", "", "")] * (len(asked) // 4)
    contexts = encode_prompts(policy.tokenizer, problems["problem"], prompt)
    contexts += [[prefix]] * (len(asked) - len(contexts))
    seeds = [[sample_seed(seed, "diagnose", place, i) for i in samples] for place in range(len(asked))]
    rollouts = policy.sampler.generate(contexts, seeds, sampling)
    texts = policy.tokenizer.batch_decode([rollout.token_ids for rollout in rollouts], skip_special_tokens=True)
    keys = [(*asking, i) for asking in asked for i in samples]
    counter = ThoughtCounter.of(policy.tokenizer)
    rows = [row(key, rollout, text, counter) for key, rollout, text in zip(keys, rollouts, texts, strict=True)]
    write_parquet(arguments.diagnosis, pa.Table.from_pylist(rows))


def row(key: tuple[str, str, str, int], rollout: Rollout, text: str, counter: ThoughtCounter) -> dict:
    """The row of one answer; without a problem nothing is right."""
    space, question, answer, sample = key
    counts = counter.count(rollout.token_ids)
    return {
        "space": space,
        "question": question,
        "sample": sample,
        "right": bool(question) and hendrycks_reward(text, answer) > 0.5,
        "reflections": counts.reflections,
        "transitions": counts.transitions,
        "tokens": len(rollout.token_ids),
        "truncated": rollout.finish_reason == "length",
    }


if __name__ == "__main__":
    run_main(main)
