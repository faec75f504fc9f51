"""Rows of different lengths in one sequence, without padding: each token attends to earlier tokens of its row only.

A packed micro-batch is one sequence of all tokens, with positions that restart at 0 in each row. Its attention is
torch's variable-length flash attention on a GPU in half precision, and ordinary attention row by row elsewhere. The
official code does the same with FlashAttention (DSRL.sh use_remove_padding=True).
"""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from prerl.core.errors import UserError

PACKED = "packed_rows"
"""Name of the attention among transformers' implementations."""

GROUPED = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
"""Asks torch for grouped heads in its variable-length attention; before torch 2.12 it takes them unasked."""


def pack_rows(model: PreTrainedModel) -> None:
    """Compute the log-probs of `model` on packed rows from now on (models.logprobs asks `packs_rows`)."""
    model.set_attn_implementation(PACKED)


def packs_rows(model: PreTrainedModel) -> bool:
    """Whether `pack_rows` was called."""
    return model.config._attn_implementation == PACKED


def packed_starts(lengths: list[int]) -> list[int]:
    """Where each row begins in the sequence."""
    return [0, *itertools.accumulate(lengths[:-1])]


def packed_options(lengths: list[int], device: torch.device) -> dict:
    """Arguments of the decoder for rows of these lengths: positions [1, T], row bounds, the longest row."""
    return {
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None].to(device),
        "cu_seq_lens_q": torch.tensor([*packed_starts(lengths), sum(lengths)], dtype=torch.int32).to(device),
        "max_length_q": max(lengths),
    }


def fits_flash_attention(query: torch.Tensor) -> bool:
    """Whether torch's flash attention has a kernel for it: half precision, head widths 8, 16, … 256, from Ampere on.

    Source: torch's aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_varlen_fwd.
    """
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def knows_grouped_heads(query: torch.Tensor) -> bool:
    """Whether torch's ordinary attention takes grouped heads without a matrix of all pairs of tokens.

    On a GPU only flash attention does; the other kernel needs a key head for each query head (torch 2.13).
    """
    return not query.is_cuda or fits_flash_attention(query)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [1, T, heads, width] of query [1, heads, T, width] and key, value [1, key heads, T, width].

    cu_seq_lens_q: int32 [rows + 1], where each row starts, and T; max_length_q: the longest row. Without them this is
    transformers' "sdpa", on any shapes.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    if sliding_window is not None:
        raise UserError("training.pack_rows: true knows full attention only, this model has sliding windows: set false")
    if fits_flash_attention(query):
        output_THD = varlen_attn(
            *(states[0].transpose(0, 1) for states in (query, key, value)),
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=(-1, 0),  # causal
            **(GROUPED if query.shape[1] != key.shape[1] else {}),
        )
        return output_THD[None], None
    if not knows_grouped_heads(query):
        groups = query.shape[1] // key.shape[1]
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    bounds = cu_seq_lens_q.tolist()
    rows = [
        sdpa_attention_forward(
            module, *(states[:, :, start:end] for states in (query, key, value)), None, scaling=scaling, **options
        )[0]
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]
    return torch.cat(rows, dim=1), None


AttentionInterface.register(PACKED, packed_attention)
