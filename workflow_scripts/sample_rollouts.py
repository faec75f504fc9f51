"""Rollouts of the base policy for the gradient alignment (rule sample_rollouts)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.core.errors import UserError, run_main
from prerl.core.files import read_problems, write_parquet
from prerl.evaluation.generation import Policy
from prerl.models.checkpoints import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings", required=True, help="JSON: seed, benchmark, questions, rollouts_per_question, engine, prompt, …"
    )
    parser.add_argument("--engine-memory", type=json.loads, default={}, help="JSON, the rest of the block `engine`")
    parser.add_argument("--policy", type=Path, required=True, help="manifest of the base model")
    parser.add_argument(
        "--questions", type=Path, required=True, help="problem file; its first `questions` rows are used"
    )
    parser.add_argument("--rollouts", type=Path, required=True, help="parquet to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    questions = read_problems(arguments.questions)
    if len(questions) < settings["questions"]:
        raise UserError(
            f"alignment.questions is {settings['questions']} but {arguments.questions} has {len(questions)}: lower it"
        )
    policy = Policy(
        verify(arguments.policy),
        EngineSettings(**settings["engine"] | arguments.engine_memory),
        from_dict(PromptSettings, settings["prompt"]),
        SamplingSettings(**settings["sampling"]),
    )
    rollouts = policy.samples(
        questions.slice(0, settings["questions"]).to_pydict(),
        benchmark=settings["benchmark"],
        update=0,
        purpose="alignment",
        seed=settings["seed"],
        samples=settings["rollouts_per_question"],
    )
    write_parquet(arguments.rollouts, rollouts)


if __name__ == "__main__":
    run_main(main)
