"""The critic of PPO: a transformer of its own with a scalar head, its AdamW, its update and its place in a checkpoint.

V is the value of a state, prompt and the response so far: it is read from the hidden state that predicts the next
response token (verl/workers/critic/dp_critic.py _forward_micro_batch). Shapes: R rows, N tokens of a micro-batch.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from prerl import checkpoints
from prerl.logprobs import pack_micro_batches, response_hidden

HEAD_STD = 0.02
"""Standard deviation of the new head's weights: transformers' default for a token classifier, as verl's critic is."""


@dataclass(frozen=True)
class CriticSettings:
    """Block `critic` of config.yaml. betas and eps of its AdamW are the policy's.

    clip_value: a value that moved further than this towards the return has no gradient (inert at one update a batch).
    warmup_updates: the first updates of the phase train the critic alone.
    """

    learning_rate: float
    weight_decay: float
    grad_clip: float
    clip_value: float
    warmup_updates: int


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
        self.to(next(policy.parameters()).device)

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
    """1 - Var(return - value) / Var(return) over all tokens; None where the returns do not vary."""
    values_N, returns_N = torch.cat(values).double(), torch.cat(returns).double()
    if len(returns_N) < 2 or bool((returns_N == returns_N[0]).all()):
        return None
    return 1.0 - ((returns_N - values_N).var() / returns_N.var()).item()


class Critic:
    """Value model and AdamW of one training job."""

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
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator
        self.micro_batch_tokens = micro_batch_tokens
        self.model = ValueModel(policy, seed)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.learning_rate,
            betas=betas,
            eps=eps,
            weight_decay=settings.weight_decay,
        )

    def load(self, folder: Path) -> None:
        """Weights and moments of a checkpoint of this run. Raises CheckpointError where they do not fit."""
        checkpoints.load_critic(folder, self.model)
        checkpoints.load_optimizer(folder, self.model, self.optimizer, checkpoints.CRITIC_OPTIMIZER)

    def updates(self) -> int:
        """Updates done, those of the run before a resume included."""
        state = self.optimizer.state.get(self.model.score.bias)
        return int(state["step"]) if state else 0

    def _batches(self, contexts: list[list[int]], responses: list[list[int]]) -> list[list[int]]:
        rows = [row for row, response in enumerate(responses) if response]
        lengths = [len(contexts[row]) + len(responses[row]) - 1 for row in rows]
        return [[rows[i] for i in batch] for batch in pack_micro_batches(lengths, self.micro_batch_tokens)]

    @torch.no_grad()
    def values(self, contexts: list[list[int]], responses: list[list[int]]) -> list[torch.Tensor]:
        """Value before each response token, one CPU tensor [tokens] a row, in row order."""
        result = [torch.zeros(0) for _ in responses]
        for rows in self._batches(contexts, responses):
            values_N = self.model([contexts[row] for row in rows], [responses[row] for row in rows]).cpu()
            parts = values_N.split([len(responses[row]) for row in rows])
            for row, part in zip(rows, parts, strict=True):
                result[row] = part
        return result

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
        batches = self._batches(contexts, responses)
        for rows in batches[accelerator.process_index :: accelerator.num_processes]:
            values_N = model([contexts[row] for row in rows], [responses[row] for row in rows])
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
                parameter.grad = accelerator.reduce(parameter.grad, "sum")
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total.to(accelerator.device), "sum").cpu()
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self.settings.grad_clip)
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
