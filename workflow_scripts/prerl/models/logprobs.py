"""Log-probabilities of responses, log P(y|x) and log P(y), without a logits tensor of batch x length x vocabulary.

Shapes: B rows of a micro-batch, T padded tokens, N response tokens of the micro-batch (flat, row after row), D hidden
width, V vocabulary. A row is a context (the prompt, or the prefix token alone) and a response, both lists of token ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence

from prerl.core.constants import CHUNK_LOGITS
from prerl.models.packing import packed_layout, packs_rows
from prerl.models.sharding import gathered


@dataclass(frozen=True)
class TokenStatistics:
    """Per response token, flat [N]: log-prob (nats), entropy of the predicted distribution (nats), most likely id."""

    logprobs: torch.Tensor
    entropies: torch.Tensor
    top_ids: torch.Tensor


def response_hidden(
    model: torch.nn.Module, contexts: list[list[int]], responses: list[list[int]], pad_id: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states that predict each response token: ([N, D], target ids [N] int64).

    Position 0 is the first context token, the last context token predicts the first response token. Rows are packed
    where the model is set to that (models.packing). Otherwise they are padded on the right; attention is causal, so
    padding is never seen and no mask is needed.
    """
    if any(not context or not response for context, response in zip(contexts, responses, strict=True)):
        raise ValueError("every row needs a context and a response of at least one token: leave empty responses out")
    device = next(model.parameters()).device
    options: dict = {}
    if packs_rows(model):
        ids, predicting, layout = packed_layout(contexts, responses, device)
        input_ids_BT = torch.tensor([ids])
        options = {"position_ids": layout.position_ids, "packed_rows": layout}
    else:
        rows = [torch.tensor((c + r)[:-1]) for c, r in zip(contexts, responses, strict=True)]
        input_ids_BT = pad_sequence(rows, batch_first=True, padding_value=pad_id)
        width = input_ids_BT.shape[1]
        predicting = [
            torch.arange(row * width + len(context) - 1, row * width + len(context) + len(response) - 1)
            for row, (context, response) in enumerate(zip(contexts, responses, strict=True))
        ]
    hidden_BTD = model.get_decoder()(input_ids=input_ids_BT.to(device), use_cache=False, **options).last_hidden_state
    targets_N = torch.tensor([token for response in responses for token in response]).to(device)
    return hidden_BTD.flatten(0, 1)[torch.cat(predicting).to(device)], targets_N


class ChunkedLogprobs(torch.autograd.Function):
    """Log-probs [N] of targets from hidden states [N, D], head weights [V, D] and bias [V] (or None), in chunks.

    `chunk` tokens at a time; their logits, divided by `divisor`, are made again in the backward pass. The gradients of
    weights and bias are summed over chunks in float32 and then rounded to their dtype once, as in one product over all.
    """

    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, bias_V, targets_N, divisor, chunk):
        """See the class."""
        logprobs, normalisers = [], []
        for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True):
            logits_NV = linear(hidden, weight_VD, bias_V).float().div_(divisor)
            normalisers.append(logits_NV.logsumexp(dim=1))
            logprobs.append(logits_NV.gather(1, targets[:, None])[:, 0] - normalisers[-1])
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, targets_N, torch.cat(normalisers))
        ctx.divisor, ctx.chunk = divisor, chunk
        return torch.cat(logprobs)

    @staticmethod
    def backward(ctx, gradient_N):
        """d logprob / d logit = (target? - probability) / divisor."""
        hidden_ND, weight_VD, bias_V, targets_N, normalisers_N = ctx.saved_tensors
        gradient_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        gradient_V = None if bias_V is None else torch.zeros_like(bias_V, dtype=torch.float32)
        gradients_ND = []
        for hidden, targets, normalisers, gradient in zip(
            *(tensor.split(ctx.chunk) for tensor in (hidden_ND, targets_N, normalisers_N, gradient_N)), strict=True
        ):
            scale = (gradient / ctx.divisor)[:, None]
            logits_NV = linear(hidden, weight_VD, bias_V).float().div_(ctx.divisor)
            logits_NV.sub_(normalisers[:, None]).exp_().mul_(-scale).scatter_add_(1, targets[:, None], scale)
            if gradient_V is not None:
                gradient_V += logits_NV.sum(dim=0)
            gradient_NV = logits_NV.to(weight_VD.dtype)
            gradients_ND.append(gradient_NV @ weight_VD)
            gradient_VD += gradient_NV.T @ hidden
        if gradient_V is not None:
            gradient_V = gradient_V.to(bias_V.dtype)
        return torch.cat(gradients_ND), gradient_VD.to(weight_VD.dtype), gradient_V, None, None, None


def logit_divisor(model: torch.nn.Module, temperature: float) -> float:
    """What the output layer's results are divided by: the temperature and, for Granite, its logits_scaling."""
    return temperature * vars(model.config).get("logits_scaling", 1.0)


def response_logprobs(
    model: torch.nn.Module,
    contexts: list[list[int]],
    responses: list[list[int]],
    temperature: float = 1.0,
    chunk_logits: int | None = None,
) -> torch.Tensor:
    """Log-probs of the response tokens, flat [N] float32, row after row; differentiable.

    Temperature divides the logits (as the sampler does); the log-softmax is in float32. Where the micro-batch has more
    than `chunk_logits` logits (default: CHUNK_LOGITS of the device) they are made chunk by chunk, and again in the
    backward pass. All processes of a sharded model must call it together.
    """
    return gathered(model, lambda: _response_logprobs(model, contexts, responses, temperature, chunk_logits))


def _response_logprobs(
    model: torch.nn.Module,
    contexts: list[list[int]],
    responses: list[list[int]],
    temperature: float,
    chunk_logits: int | None,
) -> torch.Tensor:
    hidden_ND, targets_N = response_hidden(model, contexts, responses)
    head, divisor = model.get_output_embeddings(), logit_divisor(model, temperature)
    chunk = chunk_tokens(model, hidden_ND.device, chunk_logits)
    if len(targets_N) <= chunk:
        logits_NV = head(hidden_ND).float() / divisor
        return logits_NV.gather(1, targets_N[:, None])[:, 0] - logits_NV.logsumexp(dim=1)
    return ChunkedLogprobs.apply(hidden_ND, head.weight, head.bias, targets_N, divisor, chunk)


def chunk_tokens(model: torch.nn.Module, device: torch.device, chunk_logits: int | None = None) -> int:
    """Tokens whose logits exist at a time."""
    return max(1, (chunk_logits or CHUNK_LOGITS[device.type]) // model.config.vocab_size)


@torch.no_grad()
def token_statistics(
    model: torch.nn.Module,
    contexts: list[list[int]],
    responses: list[list[int]],
    temperature: float = 1.0,
    chunk_logits: int | None = None,
) -> TokenStatistics:
    """Log-prob, entropy and most likely id at every response token (no gradient)."""
    hidden_ND, targets_N = response_hidden(model, contexts, responses)
    head, divisor = model.get_output_embeddings(), logit_divisor(model, temperature)
    chunk = chunk_tokens(model, hidden_ND.device, chunk_logits)
    logprobs, entropies, top_ids = [], [], []
    for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True):
        logprobs_NV = (head(hidden).float() / divisor).log_softmax(dim=1)
        logprobs.append(logprobs_NV.gather(1, targets[:, None])[:, 0])
        entropies.append(-(logprobs_NV.exp() * logprobs_NV).sum(dim=1))
        top_ids.append(logprobs_NV.argmax(dim=1))
    return TokenStatistics(torch.cat(logprobs), torch.cat(entropies), torch.cat(top_ids))
