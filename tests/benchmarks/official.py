"""One NSR-PreRL update as the official code orders its work, in plain torch and transformers: the naive side.

verl computes the old log-probs of prompt + response and of the prompt-free input (ray_trainer.py 1180-1227), then runs
both forward passes, both losses and one backward pass over all rows and multiplies the RL loss by 0 in the warm-up
(dp_actor.py 1335-1421, 1492-1503; commit be255d6 of Trae1ounG/Pretrain_Space_RLVR). All logits of a micro-batch are
made at once. What it is spared: the entropy that verl takes from the old logits, and most of the padding (verl's
attention is unpadded; here rows of like length share a micro-batch, padded on the right, which needs no mask).
"""

from __future__ import annotations

import torch

from prerl.models.batching import pack_micro_batches

CLIP = (0.2, 0.2)


def full_logprobs(
    model: torch.nn.Module, contexts: list[list[int]], responses: list[list[int]], temperature: float
) -> torch.Tensor:
    """Log-probs of the response tokens, flat [N] float32, from the logits of every position of every row."""
    rows = [context + response for context, response in zip(contexts, responses, strict=True)]
    width = max(map(len, rows))
    ids_BT = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits.float() / temperature
    logprobs_BTV = torch.log_softmax(logits_BTV[:, :-1], dim=-1)
    logprobs_BT = logprobs_BTV.gather(2, ids_BT[:, 1:, None])[:, :, 0]
    starts = [len(context) - 1 for context in contexts]
    return torch.cat([logprobs_BT[row, starts[row] : starts[row] + len(r)] for row, r in enumerate(responses)])


def surrogate(logprobs_N: torch.Tensor, old_N: torch.Tensor, advantages_N: torch.Tensor) -> torch.Tensor:
    """PPO's clipped loss of each token."""
    ratio_N = torch.exp(logprobs_N - old_N)
    return torch.maximum(-advantages_N * ratio_N, -advantages_N * ratio_N.clamp(1 - CLIP[0], 1 + CLIP[1]))


def official_update(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    prompts: list[list[int]],
    responses: list[list[int]],
    prefix_id: int,
    rl_advantages_R: torch.Tensor,
    pretrain_advantages_R: torch.Tensor,
    *,
    temperature: float,
    micro_batch_tokens: int,
    grad_clip: float,
) -> dict[str, float]:
    """The warm-up's update on negative samples: pre-train loss x 1 + RL loss x 0, token mean over the whole batch."""
    prefixes = [[prefix_id]] * len(prompts)
    batches = pack_micro_batches([len(p) + len(r) for p, r in zip(prompts, responses, strict=True)], micro_batch_tokens)

    def of(rows: list, batch: list[int]) -> list:
        return [rows[row] for row in batch]

    model.train()
    with torch.no_grad():
        old_yx = [full_logprobs(model, of(prompts, b), of(responses, b), temperature) for b in batches]
        old_y = [full_logprobs(model, of(prefixes, b), of(responses, b), temperature) for b in batches]
    tokens_R = torch.tensor([len(response) for response in responses])
    negative_tokens = int(tokens_R[pretrain_advantages_R < 0].sum())
    optimizer.zero_grad()
    total = 0.0
    for batch, batch_old_yx, batch_old_y in zip(batches, old_yx, old_y, strict=True):
        counts = tokens_R[batch]
        rl_N = rl_advantages_R[batch].repeat_interleave(counts)
        pretrain_N = pretrain_advantages_R[batch].repeat_interleave(counts)
        yx_N = full_logprobs(model, of(prompts, batch), of(responses, batch), temperature)
        y_N = full_logprobs(model, of(prefixes, batch), of(responses, batch), temperature)
        rl_loss = (surrogate(yx_N, batch_old_yx, rl_N) * (rl_N < 0)).sum() / negative_tokens
        pretrain_loss = (surrogate(y_N, batch_old_y, pretrain_N) * (pretrain_N < 0)).sum() / negative_tokens
        loss = 1.0 * pretrain_loss + 0.0 * rl_loss
        loss.backward()
        total += loss.item()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return {"loss": total, "grad_norm": grad_norm.item()}
