"""One GRPO update against trl's GRPOTrainer: same weights, prompts, group size, new tokens, threads and loss.

Runs in .venv-trl, which holds the project's pins and trl. Both sides load one model folder whose EOS is a token that
the model cannot produce, so every response has all its tokens. After each of trl's steps comes one of ours, in one
process. Rewards are a pattern: all groups are mixed, or every second one has zero advantage.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import harness
from prerl.rollouts.rewards import hendrycks_reward
from training_job import GROUP, NEW_TOKENS, PROMPTS, own_trainer, prepare, reward

# trl's settings to compare with: rows of a micro-batch (all, or about what fits a core's cache), and the cache of its
# generation (None: transformers' dynamic one)
VARIANTS = tuple(itertools.product((PROMPTS * GROUP, 16), (None, "static")))


class Turns(TrainerCallback):
    """Times each of trl's steps and calls `after_step(seconds)` once it has ended."""

    def __init__(self, after_step: Callable[[float], None]) -> None:
        self.after_step = after_step
        self.start = 0.0

    def on_step_begin(self, *_, **__) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__) -> None:
        self.after_step(time.perf_counter() - self.start)


def trl_trainer(
    folder: Path,
    model: Path,
    texts: list[str],
    answers: list[str],
    steps: int,
    mixed_groups: int,
    micro_batch_rows: int,
    cache: str | None,
) -> GRPOTrainer:
    """trl's trainer: float32, no KL, one on-policy update a batch, no checkpointing of activations, no logging."""

    def pattern(completions: list[str], answer: list[str], **_) -> list[float]:
        for text, own in zip(completions, answer, strict=True):
            hendrycks_reward(text, own)  # the time of grading, as on our side
        return [reward(row, mixed_groups) for row in range(len(completions))]

    block = harness.miniature()["training"]
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=micro_batch_rows,
        gradient_accumulation_steps=PROMPTS * GROUP // micro_batch_rows,
        num_generations=GROUP,
        max_completion_length=NEW_TOKENS,
        max_steps=steps,
        learning_rate=block["learning_rate"],
        lr_scheduler_type="constant",
        weight_decay=block["weight_decay"],
        max_grad_norm=block["grad_clip"],
        beta=0.0,
        num_iterations=1,
        loss_type="dapo",  # the mean over all tokens of the batch, as ours
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        cache_implementation=cache,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    dataset = Dataset.from_dict({"prompt": texts, "answer": answers})
    return GRPOTrainer(model=str(model), reward_funcs=pattern, args=config, train_dataset=dataset)


def compare(
    mixed_groups: int, micro_batch_rows: int, cache: str | None, repeats: int, warm_ups: int = 2
) -> dict[str, list[float]]:
    """Seconds a repeat: whole steps and stages of both sides."""
    times: dict[str, list[float]] = {name: [] for name in ("trl", "trl_generation", "own", "own_generation")}
    generation = [0.0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start, train, texts = prepare(folder)
        own = own_trainer(folder, start, train, mixed_groups)
        answers = own.problems.column("answer").to_pylist()
        steps = repeats + warm_ups
        theirs = trl_trainer(folder, start.parent, texts, answers, steps, mixed_groups, micro_batch_rows, cache)
        generate = theirs._generate

        def timed_generation(*arguments, **named):
            begin = time.perf_counter()
            result = generate(*arguments, **named)
            generation[0] = time.perf_counter() - begin
            assert sum(map(len, result[1])) == PROMPTS * GROUP * NEW_TOKENS
            return result

        def own_step(trl_seconds: float) -> None:
            begin = time.perf_counter()
            metrics = own.step(theirs.state.global_step + 1)
            times["own"].append(time.perf_counter() - begin)
            times["own_generation"].append(metrics["seconds_sampling"])
            times["trl"].append(trl_seconds)
            times["trl_generation"].append(generation[0])
            assert metrics["tokens_sampled"] == PROMPTS * GROUP * NEW_TOKENS
            assert metrics["tokens_trained"] == mixed_groups * GROUP * NEW_TOKENS

        theirs._generate = timed_generation
        theirs.add_callback(Turns(own_step))
        theirs.train()
    return {name: values[warm_ups:] for name, values in times.items()}


def main() -> None:
    repeats = 3 if harness.quick(__doc__.splitlines()[0]) else 8
    harness.one_thread()
    rows = []
    cases = (("every row counts", PROMPTS), ("half of the groups have zero advantage", PROMPTS // 2))
    for (name, mixed_groups), (micro_batch_rows, cache) in itertools.product(cases, VARIANTS):
        times = compare(mixed_groups, micro_batch_rows, cache, repeats)
        rest = {
            side: [a - b for a, b in zip(times[side], times[f"{side}_generation"], strict=True)]
            for side in ("trl", "own")
        }
        stages = [f"{statistics.median(values):.2f}" for values in (times["trl_generation"], rest["trl"])]
        own_stages = [f"{statistics.median(values):.2f}" for values in (times["own_generation"], rest["own"])]
        rows.append(
            [
                name,
                str(micro_batch_rows),
                cache or "dynamic",
                harness.spread(times["trl"]),
                " + ".join(stages),
                harness.spread(times["own"]),
                " + ".join(own_stages),
                f"**{harness.spread(harness.ratios(times['trl'], times['own']))}**",
                harness.spread(harness.ratios(times["trl_generation"], times["own_generation"])),
                harness.spread(harness.ratios(rest["trl"], rest["own"])),
            ]
        )
    harness.report(
        __file__,
        "One GRPO update: trl's GRPOTrainer ÷ ours",
        f"One thread, {PROMPTS} prompts × {GROUP} samples × {NEW_TOKENS} new tokens, {repeats} repeats in turn, "
        "median (min to max). Stages: generation + the rest (grading, our measurement of both spaces, training).",
        harness.table(
            [
                "case",
                "trl's rows",
                "trl's cache",
                "trl, s",
                "stages",
                "ours, s",
                "stages",
                "trl ÷ ours",
                "generation",
                "the rest",
            ],
            rows,
        ),
    )


if __name__ == "__main__":
    main()
