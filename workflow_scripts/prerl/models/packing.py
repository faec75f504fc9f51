"""Rows of different lengths in one sequence: nothing is padded, and a prompt stands there once for all its samples.

Each token attends to earlier tokens of its row only. Attention is torch's variable-length flash attention on a GPU in
half precision, and elsewhere its ordinary attention, for which queries, keys and values alone are padded. The official
code leaves padding out as well (DSRL.sh use_remove_padding=True), but repeats the prompt for each sample.

Shapes: T tokens of the sequence, H heads, d head width, S stretches that begin a row, C rows that continue one.
"""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from prerl.core.constants import LONGEST_SHARING

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


@dataclass(frozen=True)
class Bucket:
    """Neighbouring stretches, each padded to the longest for torch's ordinary attention.

    queries: tokens [stretches, q], padded with any; keys: tokens [stretches, k]; valid: places among the queries, flat,
    that are tokens; mask: what a query sees, 0 or -inf, [stretches, 1, q, k], None: causal.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    valid: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class PackedLayout:
    """Where the rows of a micro-batch lie: first all stretches that begin one, then all that continue one.

    begin: length of each shared prompt and each row without one. continue_: (index into `begin`, length) of each
    response behind a shared prompt. Both the longest first.
    """

    begin: list[int]
    continue_: list[tuple[int, int]]
    device: torch.device

    @cached_property
    def position_ids(self) -> torch.Tensor:
        """Position of each token in its row, int64 [1, T]."""
        stretches = [(0, length) for length in self.begin]
        stretches += [(self.begin[prompt], length) for prompt, length in self.continue_]
        return torch.cat([torch.arange(first, first + length) for first, length in stretches])[None].to(self.device)

    @cached_property
    def starts(self) -> list[int]:
        """Where each stretch starts, and T."""
        lengths = [*self.begin, *(length for _, length in self.continue_)]
        return [0, *itertools.accumulate(lengths)]

    def _keys(self, stretch: int) -> torch.Tensor:
        """Tokens that the last token of a stretch sees, in order."""
        own = torch.arange(self.starts[stretch], self.starts[stretch + 1])
        if stretch < len(self.begin):
            return own
        prompt = self.continue_[stretch - len(self.begin)][0]
        return torch.cat([torch.arange(self.starts[prompt], self.starts[prompt + 1]), own])

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max([*self.begin, *(self.begin[prompt] + length for prompt, length in self.continue_)])

    def near(self, bucket: Bucket, window: int) -> torch.Tensor:
        """Mask of a bucket, [stretches, 1, q, k], in a layer where a token sees the last `window` of its row only."""
        positions = self.position_ids[0]
        far = positions[bucket.queries][:, None, :, None] - positions[bucket.keys][:, None, None, :] >= window
        if bucket.mask is not None:
            return bucket.mask.masked_fill(far, -torch.inf)
        later = torch.ones(far.shape[2:], dtype=torch.bool, device=self.device).triu(1)
        return torch.zeros(far.shape, device=self.device).masked_fill_(far | later, -torch.inf)

    @cached_property
    def variable(self) -> tuple[torch.Tensor, torch.Tensor, int, int, torch.Tensor | None]:
        """Of variable-length attention: starts of queries and of keys, int32, the longest of each, tokens of the keys.

        The last is None where the keys are the sequence itself.
        """
        queries = [end - start for start, end in itertools.pairwise(self.starts)]
        keys = [self._keys(stretch) for stretch in range(len(queries))]
        starts, key_starts = (
            torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32).to(self.device)
            for lengths in (queries, [len(tokens) for tokens in keys])
        )
        tokens = torch.cat(keys).to(self.device) if self.continue_ else None
        return starts, key_starts, max(queries), max(map(len, keys)), tokens

    @cached_property
    def buckets(self) -> list[Bucket]:
        """Of ordinary attention: all stretches in their order, those of like length together."""
        first_of_rest = len(self.begin)
        lengths = [*self.begin, *(length for _, length in self.continue_)]
        cuts = [0]
        for stretch, length in enumerate(lengths):
            if stretch == first_of_rest or 2 * length < lengths[cuts[-1]]:
                cuts.append(stretch)
        spans = itertools.pairwise([*cuts, len(lengths)])
        return [self._bucket(first, last) for first, last in spans if first < last]

    def _bucket(self, first: int, last: int) -> Bucket:
        own = [torch.arange(self.starts[i], self.starts[i + 1]) for i in range(first, last)]
        queries = pad_sequence(own, batch_first=True)
        valid = pad_sequence([torch.ones_like(stretch) for stretch in own], batch_first=True).flatten().nonzero()[:, 0]
        if first < len(self.begin):
            return Bucket(queries.to(self.device), queries.to(self.device), valid.to(self.device), None)
        prompts = [prompt for prompt, _ in self.continue_[first - len(self.begin) : last - len(self.begin)]]
        before = pad_sequence(
            [torch.arange(self.starts[prompt], self.starts[prompt + 1]) for prompt in prompts], batch_first=True
        )
        lengths, longest = torch.tensor([self.begin[prompt] for prompt in prompts]), queries.shape[1]
        seen = (torch.arange(before.shape[1]) < lengths[:, None])[:, None].expand(-1, longest, -1)
        causal = torch.ones(longest, longest, dtype=torch.bool).tril().expand(len(prompts), -1, -1)
        hidden = ~torch.cat([seen, causal], dim=2)[:, None]
        mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        keys = torch.cat([before, queries], dim=1)
        return Bucket(*(tensor.to(self.device) for tensor in (queries, keys, valid, mask)))


def packed_layout(
    contexts: list[list[int]], responses: list[list[int]], device: torch.device
) -> tuple[list[int], list[torch.Tensor], PackedLayout]:
    """Input ids of the sequence, for each row the tokens that predict its response, in order, and the layout.

    Neighbouring rows of one context of two tokens or more share it. The last token of a response predicts nothing, so
    it is no input.
    """
    begin: list[list[int]] = []
    rest: list[tuple[int, list[int]]] = []  # (index into `begin`, response without its last token)
    stretches: list[tuple[int, int | None]] = []  # of each row, as indices into both
    for row, (context, response) in enumerate(zip(contexts, responses, strict=True)):
        if not shares_prompt(contexts, responses, row):
            begin.append((context + response)[:-1])
            stretches.append((len(begin) - 1, None))
            continue
        if row == 0 or contexts[row - 1] != context or not shares_prompt(contexts, responses, row - 1):
            begin.append(context)
        if len(response) > 1:
            rest.append((len(begin) - 1, response[:-1]))
        stretches.append((len(begin) - 1, len(rest) - 1))
    first = sorted(range(len(begin)), key=lambda i: -len(begin[i]))
    then = sorted(range(len(rest)), key=lambda i: -len(rest[i][1]))
    place = {index: stretch for stretch, index in enumerate(first)}
    rest_place = {index: len(begin) + stretch for stretch, index in enumerate(then)}
    layout = PackedLayout([len(begin[i]) for i in first], [(place[rest[i][0]], len(rest[i][1])) for i in then], device)
    predicting = []
    for (beginning, rest_of_row), context, response in zip(stretches, contexts, responses, strict=True):
        start = layout.starts[place[beginning]] + len(context) - 1  # the prompt's last token predicts the first
        own = start + 1 if rest_of_row is None or len(response) == 1 else layout.starts[rest_place[rest_of_row]]
        predicting.append(torch.cat([torch.tensor([start]), torch.arange(own, own + len(response) - 1)]))
    ids = [token for i in first for token in begin[i]] + [token for i in then for token in rest[i][1]]
    return ids, predicting, layout


def shares_prompt(contexts: list[list[int]], responses: list[list[int]], row: int) -> bool:
    """Whether a neighbour has the row's context, and the row is one that may share it."""

    def may(i: int) -> bool:
        return 0 <= i < len(contexts) and contexts[i] == contexts[row] and len(responses[i]) <= LONGEST_SHARING

    return len(contexts[row]) > 1 and may(row) and (may(row - 1) or may(row + 1))


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
    packed_rows: PackedLayout | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [1, T, H, d] of query [1, H, T, d] and key, value [1, key heads, T, d].

    sliding_window: tokens of its row that a token sees in this layer, itself included. Without a layout this is
    transformers' "sdpa", on any shapes.
    """
    if packed_rows is None and query.shape[2] == 1 < module.num_key_value_groups:
        return _one_token(query, key, value, attention_mask, scaling), None
    if packed_rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    window = sliding_window if sliding_window is not None and sliding_window < packed_rows.longest else None
    attention = _variable_attention if fits_flash_attention(query) else _ordinary_attention
    query_THd, key_THd, value_THd = (states[0].transpose(0, 1) for states in (query, key, value))
    return attention(query_THd, key_THd, value_THd, packed_rows, scaling, window)[None], None


def _one_token(
    query_BH1d: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attention [B, 1, H, d] of decoding: a key head's query heads as so many positions that see all that it sees.

    transformers copies keys and values for each query head, for each new token.
    """
    rows, heads, _, width = query_BH1d.shape
    positions = query_BH1d.reshape(rows, key.shape[1], -1, width)
    output = scaled_dot_product_attention(positions, key, value, attn_mask=mask, scale=scaling)
    return output.reshape(rows, 1, heads, width)


def _variable_attention(
    query_THd: torch.Tensor,
    key_THd: torch.Tensor,
    value_THd: torch.Tensor,
    layout: PackedLayout,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    starts, key_starts, longest, longest_keys, keys = layout.variable
    if keys is not None:
        key_THd, value_THd = key_THd[keys], value_THd[keys]
    return varlen_attn(
        query_THd,
        key_THd,
        value_THd,
        starts,
        key_starts,
        longest,
        longest_keys,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),  # causal, the last query beside the last key
        **(GROUPED if query_THd.shape[1] != key_THd.shape[1] else {}),
    )


def _ordinary_attention(
    query_THd: torch.Tensor,
    key_THd: torch.Tensor,
    value_THd: torch.Tensor,
    layout: PackedLayout,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    groups = query_THd.shape[1] // key_THd.shape[1]
    repeats = 1 if knows_grouped_heads(query_THd) else groups

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **mask: Any) -> torch.Tensor:
        key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
        options = mask | {"scale": scaling, "enable_gqa": groups != repeats}
        return scaled_dot_product_attention(query, key, value, **options).transpose(1, 2).flatten(0, 1)

    outputs = []
    for bucket in layout.buckets:
        query = query_THd[bucket.queries].transpose(1, 2)
        key, value = key_THd[bucket.keys].transpose(1, 2), value_THd[bucket.keys].transpose(1, 2)
        bias = bucket.mask if window is None else layout.near(bucket, window)
        mask = {"is_causal": True} if bias is None else {"attn_mask": bias.to(query.dtype)}
        outputs.append(attention(query, key, value, **mask)[bucket.valid])
    return torch.cat(outputs)


AttentionInterface.register(PACKED, packed_attention)
