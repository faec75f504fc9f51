"""PPO's critic: a second transformer with a scalar head, its AdamW, its update and its place in a checkpoint.

V is the value of a state, prompt and the response so far: it is read from the hidden state that predicts the next
response token (verl/workers/critic/dp_critic.py _forward_micro_batch). Shapes: R rows, N tokens of a micro-batch.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from prerl.config.training import CriticSettings
from prerl.models import checkpoints
from prerl.models.batching import NO_ROWS, rank_micro_batches, score_rows
from prerl.models.logprobs import response_hidden
from prerl.models.sharding import clip_gradients, gathered, needs_shards, prepare
from prerl.models.training_checkpoints import load_critic, load_optimizer, load_shards
from prerl.training.updates import adamw

HEAD_STD = 0.02
"""Standard deviation of the new head's weights: transformers' default for a token classifier, as verl's critic is."""


class ValueModel(nn.Module):
    """A copy of the policy's transformer and a linear head with bias from hidden state to value, float32."""

    def __init__(self, policy: PreTrainedModel, seed: int) -> None:
        super().__init__()
        self.decoder = copy.deepcopy(policy.get_decoder())
        self.config = self.decoder.config
        self.score = nn.Linear(policy.config.hidden_size, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.score.weight.copy_(torch.empty(self.score.weight.shape).normal_(0.0, HEAD_STD, generator=generator))
            self.score.bias.zero_()

    def get_decoder(self) -> nn.Module:
        """The transformer without head, as of a transformers model."""
        return self.decoder

    def forward(self, contexts: list[list[int]], responses: list[list[int]]) -> torch.Tensor:
        """Value of the state before each response token, flat [N] float32, row after row; differentiable."""
        hidden_ND, _ = response_hidden(self, contexts, responses)
        return self.score(hidden_ND)[:, 0].float()


def value_loss(
    values_N: torch.Tensor, old_values_N: torch.Tensor, returns_N: torch.Tensor, clip_value: float
) -> torch.Tensor:
    """Half the squared error of each token, the larger of plain and clipped, [N].

    Value 1, before the update 0, return 2, clip 0.5: plain 1, clipped at 0.5 2.25, loss 1.125. Source: core_algos.py
    compute_value_loss.
    """
    clipped_N = torch.clamp(values_N, old_values_N - clip_value, old_values_N + clip_value)
    return 0.5 * torch.maximum((values_N - returns_N).square(), (clipped_N - returns_N).square())


def explained_variance(values: list[torch.Tensor], returns: list[torch.Tensor]) -> float | None:
    """1 - Var(return - value) / Var(return) over all tokens; None if the returns do not vary."""
    values_N, returns_N = torch.cat(values).double(), torch.cat(returns).double()
    if len(returns_N) < 2 or bool((returns_N == returns_N[0]).all()):
        return None
    return 1.0 - ((returns_N - values_N).var() / returns_N.var()).item()


class Critic:
    """Value model and AdamW of one training job.

    policy: where the transformer is copied from, on the CPU or without weights, not yet sharded. folder: that of the
    policy, and where `resumed` a checkpoint of this run; CheckpointError if it does not fit.
    """

    def __init__(
        self,
        settings: CriticSettings,
        policy: PreTrainedModel,
        accelerator: Accelerator,
        *,
        seed: int,
        betas: tuple[float, float],
        eps: float,
        micro_batch_tokens: int,
        folder: Path,
        resumed: bool = False,
        precision: str = "float32",
        activation_checkpointing: bool = False,
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator
        self.micro_batch_tokens = micro_batch_tokens
        self.model = ValueModel(policy, seed)
        sharded = needs_shards(accelerator, precision)
        if resumed and not sharded:
            load_critic(folder, self.model)
        prepare(self.model, accelerator, precision, activation_checkpointing)
        if sharded and resumed:
            load_shards(folder, self.model, accelerator.device, checkpoints.CRITIC)
        elif sharded:
            load_shards(folder, self.model.decoder, accelerator.device, prefix=f"{policy.base_model_prefix}.")
        self.optimizer = adamw(self.model, accelerator, settings.learning_rate, settings.weight_decay, betas, eps)
        if resumed:
            load_optimizer(folder, self.model, self.optimizer, checkpoints.CRITIC_OPTIMIZER)

    def updates(self) -> int:
        """Updates done, those of the run before a resume included."""
        state = self.optimizer.state.get(self.model.score.bias)
        return int(state["step"]) if state else 0

    def _values(self, contexts: list[list[int]], responses: list[list[int]]) -> torch.Tensor:
        return gathered(self.model, lambda: self.model.forward(contexts, responses))

    @torch.no_grad()
    def values(self, contexts: list[list[int]], responses: list[list[int]]) -> list[torch.Tensor]:
        """Value before each response token, one CPU tensor [tokens] a row, in row order; processes share the rows."""
        return score_rows(self.model, self.accelerator, self._values, contexts, responses, self.micro_batch_tokens)

    def update(
        self,
        contexts: list[list[int]],
        responses: list[list[int]],
        values: list[torch.Tensor],
        returns: list[torch.Tensor],
        weights_R: torch.Tensor,
    ) -> dict[str, float | None]:
        """One AdamW step on sum_rows weight * sum_tokens value_loss; weights: of the token mean, without coefficient.

        Raises FloatingPointError on a gradient that is not finite, before the weights change.
        """
        accelerator, model = self.accelerator, self.model
        model.train()
        self.optimizer.zero_grad(set_to_none=False)
        total = torch.zeros((), dtype=torch.double)
        for rows in rank_micro_batches(model, accelerator, contexts, responses, self.micro_batch_tokens):
            if not rows:
                self._values(*NO_ROWS).sum().mul(0.0).backward()
                continue
            values_N = self._values([contexts[row] for row in rows], [responses[row] for row in rows])
            device = values_N.device
            old_N = torch.cat([values[row] for row in rows]).to(device)
            returns_N = torch.cat([returns[row] for row in rows]).to(device)
            counts = torch.tensor([len(responses[row]) for row in rows])
            weights_N = weights_R[rows].float().repeat_interleave(counts).to(device)
            loss = (value_loss(values_N, old_N, returns_N, self.settings.clip_value) * weights_N).sum()
            loss.backward()
            total += loss.item()
        for parameter in model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total.to(accelerator.device), "sum").cpu()
        grad_norm = clip_gradients(model.parameters(), self.settings.grad_clip)
        if not torch.isfinite(grad_norm):
            raise FloatingPointError(
                f"the critic's loss is {total.item()} and its gradient norm {grad_norm.item()}: no step was taken and "
                "the state before it is kept; lower critic.learning_rate or look at the rollouts of this update"
            )
        self.optimizer.step()
        return {
            "value_loss": total.item(),
            "value_grad_norm": grad_norm.item(),
            "value_explained_variance": explained_variance(values, returns),
        }
