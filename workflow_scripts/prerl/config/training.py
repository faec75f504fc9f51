"""Blocks `training`, `objective`, `critic`: the update, its loss, and PPO's critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prerl.config.key import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, SHARE, Limits, key

BETA = Limits(ge=0, lt=1)


@dataclass(frozen=True)
class TokenMean:
    """The mean over tokens in the loss."""

    mode: Literal["global", "official"] = key(
        "global: over all tokens in the loss, however the batch is split; official: over each micro-batch of verl's "
        "packing, weighted by the micro-batch's share of the rows",
        source="dp_actor.py 1222-1290 (A)",
    )
    max_tokens_per_micro_batch: int | None = key(
        "official: most tokens of a micro-batch on one rank",
        COUNT,
        optional=True,
        unit="tokens",
        source="actor_ppo_max_token_len (A)",
    )
    ranks: int | None = key(
        "official: ranks of the official run, independent of ours", COUNT, optional=True, source="n_gpus_per_node (A)"
    )


@dataclass(frozen=True)
class UpdateSettings:
    """An update of the policy, as a training job receives it."""

    prompts_per_update: int = key("prompts of an update, one on-policy step each", COUNT, source="train_batch_size (A)")
    learning_rate: float = key("AdamW's, constant", POSITIVE, source="1e-6 (A)")
    betas: tuple[float, float] = key("AdamW's decay of the two moments", BETA, source="0.9, 0.999 (A)")
    eps: float = key("AdamW's, added to the root of the second moment", POSITIVE, source="1e-8 (A)")
    weight_decay: float = key("AdamW's, decoupled", NOT_NEGATIVE, source="0.01 (A)")
    grad_clip: float = key("largest norm of the gradient", POSITIVE, source="1.0 (A)")
    clip_low: float = key("PPO's lower clip; inert, since the ratio is 1", BETA, source="0.2 (A)")
    clip_high: float = key("PPO's upper clip; inert, since the ratio is 1", NOT_NEGATIVE, source="0.2, GRPO's 0.28 (A)")
    token_mean: TokenMean = key("the mean over tokens in the loss")
    checkpoint_every: int = key("updates between resumable checkpoints", COUNT, unit="updates", source="save_freq (A)")
    keep_checkpoints: bool = key(
        "false: a run's checkpoints and state are removed once nothing reads them any more, and moments that no later "
        "phase needs during the run; true: a longer run or a new evaluation later needs no new training"
    )
    max_gap_nats: float = key(
        "mean |sampler - trainer| log-prob of a token; above it the run stops", POSITIVE, unit="nats"
    )
    micro_batch_tokens: int = key("padded or packed tokens of a pass; time and memory only", COUNT, unit="tokens")
    measured_samples_per_prompt: int = key(
        "log P(y|x) and log P(y) of right and wrong answers are measured on this many samples per prompt", COUNT
    )
    precision: Literal["float32", "bfloat16"] = key(
        "compute dtype; weights, gradients and AdamW moments are always float32",
        source="fsdp_workers.py _build_model_optimizer (A)",
    )
    activation_checkpointing: bool = key(
        "recompute each layer in the backward pass: less memory, same numbers",
        source="enable_gradient_checkpointing (A)",
    )
    pack_rows: bool = key(
        "rows in one sequence: no padding, and a prompt once for all its samples",
        source="use_remove_padding (A)",
    )


@dataclass(frozen=True)
class TrainingSettings(UpdateSettings):
    """Training: the update, and what determines the length of phases."""

    total_updates: int = key("updates of a whole run, all phases together", COUNT, source="348 = 6 epochs of 58 (A)")
    eos_in_mask: bool = key("whether the closing EOS of a finished answer is in the loss", source="true (A)")
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = key(
        "where the metrics also go, with each checkpoint; changing it reruns nothing; docs/extending.md"
    )
    early_runs: bool = key(
        "true: the updates that DSRL's warm-up or a claim about 20 or 60 updates needs are a run of their own, which "
        "the rest of the method continues: what needs no more is not paid for more"
    )
    phase_switch: Literal["before_step", "after_step"] = key(
        "before_step: a warm-up of 20 does 19 updates, as the official `step < 20` with steps counted from 1; "
        "after_step: it does 20",
        source="ray_trainer.py 1251-1259 (A)",
    )


@dataclass(frozen=True)
class SpaceObjective:
    """The loss in one space; a phase may override both."""

    coefficient: float = key("multiplies the loss", source="pre-train space 0.01, dp_actor.py 1492-1503 (A)")
    advantage_std: bool = key(
        "whether the group's standard deviation divides the advantage", source="pre-train space no, RL yes (A)"
    )


@dataclass(frozen=True)
class ObjectiveSettings:
    """The loss of each space, and the discount of estimators that use one."""

    pretrain: SpaceObjective = key("pre-train space, log P(y)")
    posttrain: SpaceObjective = key("post-train space, log P(y|x)")
    gamma: float = key("discount of a token: reinforce_plus_plus, gae", SHARE, source="verl's default (D)")
    lam: float = key("of estimator gae", FRACTION, source="verl's default (D)")


@dataclass(frozen=True)
class CriticSettings:
    """PPO's critic (estimator gae); betas and eps of its AdamW are the policy's."""

    learning_rate: float = key("AdamW's", POSITIVE, source="verl's PPO examples (D)")
    weight_decay: float = key("AdamW's", NOT_NEGATIVE, source="verl's default (D)")
    grad_clip: float = key("largest norm of the gradient", POSITIVE, source="verl's default (D)")
    clip_value: float = key(
        "a value that moved further than this towards the return gets no gradient; inert at one update per batch",
        POSITIVE,
        source="verl's default (D)",
    )
    warmup_updates: int = key("first updates that train only the critic", NOT_NEGATIVE, source="verl's default (D)")
