"""Rollouts of one update or validation: sampled, decoded, graded, summarised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from prerl.config.rollouts import SamplingSettings
from prerl.rollouts.interface import Rollout, Sampler
from prerl.rollouts.rewards import hendrycks_reward
from prerl.rollouts.thoughts import ThoughtCounter


class Clock(Protocol):
    """Where a stage of the update ends."""

    def lap(self, name: str) -> None:
        """Note the time since the last stage."""


@dataclass(frozen=True)
class GradedRollouts:
    """All samples of a batch of prompts, prompt after prompt.

    contexts, rollouts: one a row; rewards_R: float32, 0 or 1 (Hendrycks equality of the last \\boxed{}; a truncated
    answer without one is wrong); groups_R: int64 index of the row's prompt; reflections, transitions: counts by row.
    """

    contexts: list[list[int]]
    rollouts: list[Rollout]
    rewards_R: torch.Tensor
    groups_R: torch.Tensor
    reflections: list[int]
    transitions: list[int]

    def of_prompts(self, first: int, count: int) -> GradedRollouts:
        """The samples of `count` prompts from prompt `first` on, numbered from 0."""
        rows = slice(*torch.searchsorted(self.groups_R, torch.tensor([first, first + count])).tolist())
        return GradedRollouts(
            contexts=self.contexts[rows],
            rollouts=self.rollouts[rows],
            rewards_R=self.rewards_R[rows],
            groups_R=self.groups_R[rows] - first,
            reflections=self.reflections[rows],
            transitions=self.transitions[rows],
        )


def sample_and_grade(
    sampler: Sampler,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    answers: list[str],
    seeds: list[list[int]],
    settings: SamplingSettings,
    accelerator: Accelerator,
    clock: Clock,
) -> GradedRollouts:
    """Sample len(seeds[i]) responses of prompt i and grade them; ranks share the prompts."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    share = range(rank, len(prompts), ranks)
    sampled = sampler.generate([prompts[i] for i in share], [seeds[i] for i in share], settings)
    by_prompt: dict[int, list[Rollout]] = {i: [] for i in share}
    for prompt, rollout in zip((i for i in share for _ in seeds[i]), sampled, strict=True):
        by_prompt[prompt].append(rollout)
    if ranks > 1:
        by_prompt = dict(gather_object(list(by_prompt.items())))
    clock.lap("seconds_sampling")
    rollouts = [rollout for i in range(len(prompts)) for rollout in by_prompt[i]]
    groups = [i for i, prompt_seeds in enumerate(seeds) for _ in prompt_seeds]
    texts = tokenizer.batch_decode([rollout.token_ids for rollout in rollouts], skip_special_tokens=True)
    rewards = [hendrycks_reward(text, answers[i]) for text, i in zip(texts, groups, strict=True)]
    counter = ThoughtCounter.of(tokenizer)
    counts = [counter.count(rollout.token_ids) for rollout in rollouts]
    clock.lap("seconds_grading")
    return GradedRollouts(
        contexts=[prompts[i] for i in groups],
        rollouts=rollouts,
        rewards_R=torch.tensor(rewards),
        groups_R=torch.tensor(groups),
        reflections=[count.reflections for count in counts],
        transitions=[count.transitions for count in counts],
    )


def update_metrics(graded: GradedRollouts) -> dict[str, float | int]:
    """Metrics of the rollouts alone: rewards, solved prompts, lengths, entropy, thoughts, tokens sampled and prompted.

    entropy_nats is minus the mean sampled log-prob, at temperature 1 an unbiased estimate of the mean token entropy.
    """
    rows = len(graded.rollouts)
    groups = int(graded.groups_R.max()) + 1
    sizes_G = torch.bincount(graded.groups_R, minlength=groups)
    right_G = torch.zeros(groups).index_add_(0, graded.groups_R, graded.rewards_R)
    tokens = sum(len(rollout.token_ids) for rollout in graded.rollouts)
    prompts = dict(zip(graded.groups_R.tolist(), graded.contexts, strict=True))
    return {
        "reward_mean": graded.rewards_R.mean().item(),
        "prompts_solved": (right_G == sizes_G).float().mean().item(),
        "prompts_unsolved": (right_G == 0).float().mean().item(),
        "prompts_any_solved": (right_G > 0).float().mean().item(),
        "truncation_rate": sum(rollout.finish_reason == "length" for rollout in graded.rollouts) / rows,
        "response_tokens_mean": tokens / rows,
        "entropy_nats": -sum(sum(rollout.logprobs) for rollout in graded.rollouts) / tokens,
        "transitions_per_answer": sum(graded.transitions) / rows,
        "reflections_per_answer": sum(graded.reflections) / rows,
        "tokens_sampled": tokens,
        "prompt_tokens": sum(map(len, prompts.values())),
    }
