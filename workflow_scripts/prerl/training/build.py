"""What a training job computes with: tokenizer, policy, critic, optimizer and sampler, built in the one right order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from prerl.models.base_model import check_base_model
from prerl.models.checkpoints import empty_model, load_model
from prerl.models.packing import pack_rows
from prerl.models.prompts import end_token_ids, prefix_token_id
from prerl.models.sharding import needs_shards, prepare
from prerl.models.training_checkpoints import load_optimizer, load_shards
from prerl.rollouts.engines import build_sampler
from prerl.rollouts.interface import Sampler, sample_seed
from prerl.training.critic import Critic
from prerl.training.settings import TrainSettings
from prerl.training.updates import adamw


@dataclass
class Learner:
    """A policy and all that trains it. prefix_id: the token that P(y) is conditioned on; critic: PPO's, or None."""

    tokenizer: PreTrainedTokenizerBase
    prefix_id: int
    model: PreTrainedModel
    critic: Critic | None
    optimizer: torch.optim.Optimizer
    sampler: Sampler


def build_learner(
    settings: TrainSettings, accelerator: Accelerator, folder: Path, base: Path, resumed: bool
) -> Learner:
    """The policy of `folder`, a start or a checkpoint of this run (`resumed`), with the moments that lie there.

    base: the folder that the job started from, whose generation_config.json names the end tokens. The order matters:

    1. A policy to be sharded has no weights yet: whole float32 ones need not fit in host memory once a rank.
    2. Rows are packed before the critic is made, whose transformer is a copy of the policy's, attention included.
    3. The critic copies the policy, so it is made before the policy is sharded.
    4. Each rank loads its rows of the weights. Sharding and loading replace the parameters, so the optimizer is built
       from what is there afterwards.
    5. Each rank loads its rows of the moments into that optimizer.
    6. The sampler comes last: it takes the weights as they are then, and vLLM what memory is left.

    Raises BaseModelError, PromptError, CheckpointError.
    """
    s = settings
    tokenizer = check_base_model(folder, s.prompt, s.longest_answer_tokens)
    sharded = needs_shards(accelerator, s.update.precision)
    model = empty_model(folder) if sharded else load_model(folder, "cpu")
    if s.update.pack_rows:
        pack_rows(model)
    critic = build_critic(s, model, accelerator, folder, resumed)
    prepare(model, accelerator, s.update.precision, s.update.activation_checkpointing)
    if sharded:
        load_shards(folder, model, accelerator.device)
    optimizer = adamw(model, accelerator, s.update.learning_rate, s.update.weight_decay, s.update.betas, s.update.eps)
    load_optimizer(folder, model, optimizer)
    sampler = build_sampler(
        s.engine,
        model,
        base,
        end_token_ids(base, tokenizer),
        s.sampling,
        s.prompt.max_prompt_tokens + s.longest_answer_tokens,
    )
    return Learner(tokenizer, prefix_token_id(tokenizer, s.prompt), model, critic, optimizer, sampler)


def build_critic(
    settings: TrainSettings, policy: PreTrainedModel, accelerator: Accelerator, folder: Path, resumed: bool
) -> Critic | None:
    """PPO's critic: it starts from the phase's starting policy, or resumes from a checkpoint; either is in `folder`."""
    s = settings
    if s.critic is None:
        return None
    return Critic(
        s.critic,
        policy,
        accelerator,
        seed=sample_seed(s.seed, "critic"),
        betas=s.update.betas,
        eps=s.update.eps,
        micro_batch_tokens=s.update.micro_batch_tokens,
        precision=s.update.precision,
        activation_checkpointing=s.update.activation_checkpointing,
        folder=folder,
        resumed=resumed,
    )
