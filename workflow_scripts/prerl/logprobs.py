"""Log-probabilities of responses, log P(y|x) and log P(y), without a logits tensor of batch x length x vocabulary.

Shapes: B rows of a micro-batch, T padded tokens, N response tokens of the micro-batch (flat, row after row), D hidden
width, V vocabulary. A row is a context (the prompt, or the prefix token alone) and a response, both lists of token ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 1 << 24
"""Largest number of logits that exist at a time in the chunked log-softmax (64 MiB in float32)."""


@dataclass(frozen=True)
class TokenStatistics:
    """Per response token, flat [N]: log-prob (nats), entropy of the predicted distribution (nats), most likely id."""

    logprobs: torch.Tensor
    entropies: torch.Tensor
    top_ids: torch.Tensor


def pack_micro_batches(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Row indices of micro-batches of at most `max_tokens` padded tokens, rows of like length together.

    A single row longer than `max_tokens` gets a micro-batch of its own. Order: longest first.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    for row in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def response_hidden(
    model: torch.nn.Module, contexts: list[list[int]], responses: list[list[int]], pad_id: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states that predict each response token: ([N, D], target ids [N] int64).

    Rows are padded on the right; attention is causal, so padding is never seen and no mask is needed: position 0 is
    the first context token, the last context token predicts the first response token.
    """
    if any(not context or not response for context, response in zip(contexts, responses, strict=True)):
        raise ValueError("every row needs a context and a response of at least one token: leave empty responses out")
    lengths = [len(context) + len(response) - 1 for context, response in zip(contexts, responses, strict=True)]
    device = next(model.parameters()).device
    input_ids_BT = torch.full((len(lengths), max(lengths)), pad_id, dtype=torch.long)
    predicting = torch.zeros(input_ids_BT.shape, dtype=torch.bool)
    for row, (context, response) in enumerate(zip(contexts, responses, strict=True)):
        input_ids_BT[row, : lengths[row]] = torch.tensor((context + response)[:-1])
        predicting[row, len(context) - 1 : lengths[row]] = True
    hidden_BTD = model.get_decoder()(input_ids=input_ids_BT.to(device), use_cache=False).last_hidden_state
    targets_N = torch.tensor([token for response in responses for token in response], device=device)
    return hidden_BTD[predicting.to(device)], targets_N


def _chunk_logprobs(
    head: torch.nn.Module, hidden_ND: torch.Tensor, targets_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    logits_NV = head(hidden_ND).float() / temperature
    return logits_NV.gather(1, targets_N[:, None])[:, 0] - logits_NV.logsumexp(dim=1)


def response_logprobs(
    model: torch.nn.Module,
    contexts: list[list[int]],
    responses: list[list[int]],
    temperature: float = 1.0,
    chunk_logits: int = CHUNK_LOGITS,
) -> torch.Tensor:
    """Log-probs of the response tokens, flat [N] float32, row after row; differentiable.

    Temperature divides the logits (as the sampler does); the log-softmax is in float32. Where the micro-batch has more
    than `chunk_logits` logits they are made chunk by chunk, and again in the backward pass.
    """
    hidden_ND, targets_N = response_hidden(model, contexts, responses)
    head = model.get_output_embeddings()
    chunk = max(1, chunk_logits // model.config.vocab_size)
    if len(targets_N) <= chunk:
        return _chunk_logprobs(head, hidden_ND, targets_N, temperature)
    return torch.cat(
        [
            checkpoint(_chunk_logprobs, head, hidden, targets, temperature, use_reentrant=False)
            for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True)
        ]
    )


@torch.no_grad()
def token_statistics(
    model: torch.nn.Module,
    contexts: list[list[int]],
    responses: list[list[int]],
    temperature: float = 1.0,
    chunk_logits: int = CHUNK_LOGITS,
) -> TokenStatistics:
    """Log-prob, entropy and most likely id at every response token (no gradient)."""
    hidden_ND, targets_N = response_hidden(model, contexts, responses)
    head = model.get_output_embeddings()
    chunk = max(1, chunk_logits // model.config.vocab_size)
    logprobs, entropies, top_ids = [], [], []
    for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True):
        logprobs_NV = (head(hidden).float() / temperature).log_softmax(dim=1)
        logprobs.append(logprobs_NV.gather(1, targets[:, None])[:, 0])
        entropies.append(-(logprobs_NV.exp() * logprobs_NV).sum(dim=1))
        top_ids.append(logprobs_NV.argmax(dim=1))
    return TokenStatistics(torch.cat(logprobs), torch.cat(entropies), torch.cat(top_ids))
