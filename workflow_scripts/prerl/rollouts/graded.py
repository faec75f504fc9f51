"""Rollouts of one update or validation: sampled, decoded, graded, summarised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from prerl.config.functions import RewardSettings, ThoughtSettings
from prerl.config.rollouts import SamplingSettings
from prerl.rollouts.functions import FunctionCounter, Reward, thought_counter, threads
from prerl.rollouts.interface import Rollout, Sampler
from prerl.rollouts.thoughts import ThoughtCounter


class Clock(Protocol):
    """Where a stage of the update ends."""

    def lap(self, name: str) -> None:
        """Note the time since the last stage."""


@dataclass(frozen=True)
class GradedRollouts:
    """All samples of a batch of prompts, prompt after prompt.

    contexts, rollouts: one a row; rewards_R: float32 in [0, 1], the official one 0 or 1 (Hendrycks equality of the last
    \\boxed{}; a truncated answer without one is wrong); groups_R: int64 index of the row's prompt; reflections,
    transitions: counts by row; parts: name -> values by row, of a reward that has them.
    """

    contexts: list[list[int]]
    rollouts: list[Rollout]
    rewards_R: torch.Tensor
    groups_R: torch.Tensor
    reflections: list[int]
    transitions: list[int]
    parts: dict[str, list[float]] = field(default_factory=dict)

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
            parts={name: values[rows] for name, values in self.parts.items()},
        )


@dataclass(frozen=True)
class Rules:
    """How answers are judged: the reward and the rule for thoughts."""

    reward: Reward
    thoughts: ThoughtCounter | FunctionCounter

    @classmethod
    def of(cls, reward: RewardSettings | None, thoughts: ThoughtSettings | None, tokenizer: Any) -> Rules:
        """The configured rules; None: the official reward, SEAL's rule."""
        return cls(Reward(reward, threads()), thought_counter(thoughts, tokenizer, threads()))


def sample_and_grade(
    sampler: Sampler,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    problems: list[dict],
    seeds: list[list[int]],
    settings: SamplingSettings,
    rules: Rules,
    accelerator: Accelerator,
    clock: Clock,
) -> GradedRollouts:
    """Sample len(seeds[i]) responses of prompt i and grade them; ranks share the prompts.

    problems: of each prompt, its row of the problem file. Raises FunctionError.
    """
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
    own = [row for row, prompt in enumerate(groups) if prompt in share]
    token_ids = [rollouts[row].token_ids for row in own]
    texts = tokenizer.batch_decode(token_ids, skip_special_tokens=True)
    scores = rules.reward.score(texts, [problems[groups[row]] for row in own])
    counts = rules.thoughts.count_all(token_ids, texts)
    judged = list(zip(own, scores, counts, strict=True))
    if ranks > 1:
        judged = sorted(gather_object(judged), key=lambda row: row[0])
    clock.lap("seconds_grading")
    return GradedRollouts(
        contexts=[prompts[i] for i in groups],
        rollouts=rollouts,
        rewards_R=torch.tensor([score.value for _, score, _ in judged]),
        groups_R=torch.tensor(groups),
        reflections=[count.reflections for *_, count in judged],
        transitions=[count.transitions for *_, count in judged],
        parts={name: [score.parts[name] for _, score, _ in judged] for name in judged[0][1].parts},
    )


def update_metrics(graded: GradedRollouts) -> dict[str, float | int]:
    """Metrics of the rollouts alone: rewards, solved prompts, lengths, entropy, thoughts, tokens sampled and prompted.

    A row is right if its reward is above 0.5. entropy_nats is minus the mean sampled log-prob, at temperature 1 an
    unbiased estimate of the mean token entropy.
    """
    rows = len(graded.rollouts)
    groups = int(graded.groups_R.max()) + 1
    sizes_G = torch.bincount(graded.groups_R, minlength=groups)
    right_G = torch.zeros(groups).index_add_(0, graded.groups_R, (graded.rewards_R > 0.5).float())
    tokens = sum(len(rollout.token_ids) for rollout in graded.rollouts)
    prompts = dict(zip(graded.groups_R.tolist(), graded.contexts, strict=True))
    return {
        "reward_mean": graded.rewards_R.mean().item(),
        **{f"reward_{name}": sum(values) / rows for name, values in graded.parts.items()},
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
