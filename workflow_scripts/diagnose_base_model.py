"""What training would start from: groups that GRPO can learn from, and style under the prompt against style in P(y).

Writes a row per answer of the base model: space ("posttrain": after its prompt, "pretrain": after the prefix token
alone), question ("" in the pre-train space), sample, right, reflections, transitions, tokens, truncated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main


def main() -> None:
    # imported here, not above: every worker of a reward function imports this file again and needs none of it
    import pyarrow as pa

    from prerl.config.functions import RewardSettings, ThoughtSettings
    from prerl.config.key import from_dict
    from prerl.config.prompt import PromptSettings
    from prerl.config.rollouts import EngineSettings, SamplingSettings
    from prerl.core.files import read_problems, write_parquet
    from prerl.evaluation.generation import Policy
    from prerl.models.checkpoints import verify
    from prerl.models.prompts import encode_prompts, prefix_token_id
    from prerl.rollouts.functions import Reward, thought_counter, threads
    from prerl.rollouts.interface import sample_seed

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON, see rules/alignment.smk")
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
    asked = problems.slice(0, settings["questions"]).to_pylist()
    samples, seed = range(settings["samples"]), settings["seed"]
    contexts = encode_prompts(policy.tokenizer, [problem["problem"] for problem in asked], prompt)
    contexts += [[prefix_token_id(policy.tokenizer, prompt)]] * (len(asked) // 4)
    seeds = [[sample_seed(seed, "diagnose", place, i) for i in samples] for place in range(len(contexts))]
    rollouts = policy.sampler.generate(contexts, seeds, sampling)
    token_ids = [rollout.token_ids for rollout in rollouts]
    texts = policy.tokenizer.batch_decode(token_ids, skip_special_tokens=True)

    rules = {"reward": RewardSettings, "thoughts": ThoughtSettings}
    reward, thoughts = (from_dict(kind, settings[name]) if name in settings else None for name, kind in rules.items())
    problems_R = [problem for problem in asked for _ in samples]  # of the answers that follow a prompt
    scores = Reward(reward, threads()).score(texts[: len(problems_R)], problems_R)
    counts = thought_counter(thoughts, policy.tokenizer, threads()).count_all(token_ids, texts)
    questions = [problem["id"] for problem in problems_R] + [""] * (len(texts) - len(problems_R))
    right = [score.value > 0.5 for score in scores] + [False] * (len(texts) - len(scores))
    rows = [
        {
            "space": "posttrain" if question else "pretrain",
            "question": question,
            "sample": answer % len(samples),
            "right": right[answer],
            "reflections": counts[answer].reflections,
            "transitions": counts[answer].transitions,
            "tokens": len(token_ids[answer]),
            "truncated": rollouts[answer].finish_reason == "length",
        }
        for answer, question in enumerate(questions)
    ]
    write_parquet(arguments.diagnosis, pa.Table.from_pylist(rows))


if __name__ == "__main__":
    run_main(main)
