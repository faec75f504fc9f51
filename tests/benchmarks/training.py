"""The training stage of one NSR-PreRL update against the same update in the official code's order (official.py)."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator

import harness
from official import official_update
from prerl.config.base_models import CorpusSettings
from prerl.config.prompt import PromptSettings
from prerl.data.corpus import Problem, careful_answer, direct_answer, problem_set, random_problem
from prerl.data.miniature import build_model, build_tokenizer
from prerl.models.prompts import encode_prompts, prefix_token_id
from prerl.objectives.advantages import group_advantages
from prerl.objectives.objective import Objective
from prerl.objectives.token_mean import loss_rows, row_weights
from prerl.rollouts.graded import GradedRollouts
from prerl.rollouts.interface import Rollout
from prerl.rollouts.rewards import hendrycks_reward
from prerl.training.updates import measure_spaces, policy_update


@dataclass(frozen=True)
class Batch:
    """One batch of graded responses and the miniature's model before the update."""

    model: torch.nn.Module
    graded: GradedRollouts
    prefix_id: int
    measured_samples: int  # of each prompt
    settings: dict  # of policy_update

    @property
    def responses(self) -> list[list[int]]:
        """Token ids of every row."""
        return [rollout.token_ids for rollout in self.graded.rollouts]


def make_batch(careful: float, prompts: int, architecture: dict) -> Batch:
    """Answers as the corpus writes them (`careful` of them with steps and checks): the lengths and rewards of a policy.

    The base policy's own answers under the no-thinking prompt have careful = 0.08.
    """
    block = harness.miniature()
    corpus = dict(block["models"]["miniature"]["generated"]["corpus"])
    settings = CorpusSettings(chain_weights=corpus.pop("chain_weights"), **corpus)
    rng = random.Random(0)
    tokenizer = build_tokenizer()
    problems: list[Problem] = problem_set(rng, random_problem, [2, 3, 4], prompts, held_out=False)
    samples = block["rollouts"]["samples_per_prompt"]
    texts, answers = [], []
    for problem in problems:
        for _ in range(samples):
            write = careful_answer if rng.random() < careful else direct_answer
            texts.append(write(rng, problem, settings) + "<|im_end|>")
            answers.append(str(problem.answer))
    model = build_model(architecture, tokenizer, seed=0)
    rollouts = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        rollouts.append(Rollout(ids, [0.0] * len(ids), "stop"))
    contexts = encode_prompts(tokenizer, [problem.text for problem in problems], PromptSettings(**block["prompt"]))
    graded = GradedRollouts(
        contexts=[context for context in contexts for _ in range(samples)],
        rollouts=rollouts,
        rewards_R=torch.tensor([hendrycks_reward(t, a) for t, a in zip(texts, answers, strict=True)]),
        groups_R=torch.arange(prompts).repeat_interleave(samples),
        reflections=[0] * len(texts),
        transitions=[0] * len(texts),
    )
    update = {
        "temperature": block["rollouts"]["temperature"],
        "micro_batch_tokens": block["training"]["micro_batch_tokens"],
        "grad_clip": block["training"]["grad_clip"],
    }
    prefix_id = prefix_token_id(tokenizer, PromptSettings(**block["prompt"]))
    return Batch(model, graded, prefix_id, block["training"]["measured_samples_per_prompt"], update)


def adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    """The trainer's optimizer."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)


def own_update(
    batch: Batch, model: torch.nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> dict:
    """Trainer._train of an NSR-PreRL phase: advantages, weights, policy_update."""
    objective = Objective("pretrain", "negative", 1.0, False, True, "global", 0, 1, 0.2, 0.2)
    advantages_R = group_advantages(batch.graded.rewards_R, batch.graded.groups_R, objective.advantage_std)
    lengths = [len(c) + len(r) for c, r in zip(batch.graded.contexts, batch.responses, strict=True)]
    weights_R = row_weights(
        torch.tensor([len(response) for response in batch.responses]),
        loss_rows(advantages_R, objective.samples),
        objective,
        lengths,
    )
    contexts = [[batch.prefix_id]] * len(batch.responses)
    return policy_update(
        model,
        optimizer,
        accelerator,
        contexts,
        batch.responses,
        advantages_R,
        weights_R,
        clip=(0.2, 0.2),
        **batch.settings,
    )


def measure(batch: Batch, model: torch.nn.Module) -> dict:
    """The trainer's measurement of log P(y|x) and log P(y)."""
    temperature, micro_batch_tokens = (batch.settings[key] for key in ("temperature", "micro_batch_tokens"))
    return measure_spaces(
        model,
        Accelerator(cpu=True),
        batch.graded,
        batch.prefix_id,
        batch.measured_samples,
        temperature,
        micro_batch_tokens,
    )


def naive_update(batch: Batch, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """The same update in the official order."""
    graded = batch.graded
    return official_update(
        model,
        optimizer,
        graded.contexts,
        batch.responses,
        batch.prefix_id,
        group_advantages(graded.rewards_R, graded.groups_R, True),
        group_advantages(graded.rewards_R, graded.groups_R, False),
        **batch.settings,
    )


def gradient(model: torch.nn.Module) -> torch.Tensor:
    """All gradients in one vector."""
    return torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])


def compare_gradients(batch: Batch) -> float:
    """Norm of the difference of the two updates' unclipped gradients over the norm of the official one."""
    batch = replace(batch, settings=batch.settings | {"grad_clip": math.inf})
    own, naive = copy.deepcopy(batch.model), copy.deepcopy(batch.model)
    own_update(batch, own, torch.optim.SGD(own.parameters(), lr=0.0), Accelerator(cpu=True))
    naive_update(batch, naive, torch.optim.SGD(naive.parameters(), lr=0.0))
    return ((gradient(own) - gradient(naive)).norm() / gradient(naive).norm()).item()


def main() -> None:
    repeats = 5 if harness.quick(__doc__) else 15
    harness.one_thread()
    accelerator = Accelerator(cpu=True)
    rows = []
    for name, careful in (
        ("first update of the base (8 % careful answers)", 0.08),
        ("half of the answers careful", 0.5),
    ):
        batch = make_batch(careful, 32, harness.architecture())
        difference = compare_gradients(batch)
        if not difference <= 1e-5:
            raise RuntimeError(
                f"{name}: the gradients differ by {difference:.1e}: the two sides are not the same update"
            )
        own, naive = copy.deepcopy(batch.model), copy.deepcopy(batch.model)
        own_optimizer, naive_optimizer = adamw(own), adamw(naive)
        sides = {
            "own": lambda b=batch, m=own, o=own_optimizer: own_update(b, m, o, accelerator),
            "official": lambda b=batch, m=naive, o=naive_optimizer: naive_update(b, m, o),
            "measure": lambda b=batch, m=own: measure(b, m),
        }
        times = harness.in_turn(sides, repeats)
        trained = own_update(batch, own, own_optimizer, accelerator)
        with_measures = [a + b for a, b in zip(times["own"], times["measure"], strict=True)]
        rows.append(
            [
                name,
                f"{trained['rows_trained']} of {len(batch.responses)}",
                f"{trained['tokens_trained']:,} of {sum(map(len, batch.responses)):,}",
                f"{difference:.0e}",
                harness.spread([1000 * t for t in times["official"]], 0),
                harness.spread([1000 * t for t in times["own"]], 0),
                f"**{harness.spread(harness.ratios(times['official'], times['own']))}**",
                harness.spread(harness.ratios(times["official"], with_measures)),
            ]
        )
    harness.report(
        __file__,
        "One NSR-PreRL update: training stage, official order ÷ ours",
        f"One thread, 32 prompts × 8 samples, {repeats} repeats in turn, median (min to max). The last column adds the "
        "measurement of log P(y|x) and log P(y) on two samples a prompt, which the official passes give as well.",
        harness.table(
            ["batch", "rows trained", "tokens trained", "difference of gradients", "official, ms", "ours, ms"]
            + ["official ÷ ours", "with our measurements"],
            rows,
        ),
    )


if __name__ == "__main__":
    main()
