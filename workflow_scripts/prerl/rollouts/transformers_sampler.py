"""The embedded sampler: decoding with transformers on the trainer's weights.

Every token of a sample is drawn with uniforms from that sample's seed, so a sample does not depend on what it is
batched with (up to the last bits of the matrix products). `vllm_sampler` is the engine of the paper's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from prerl.config.rollouts import SamplingSettings
from prerl.models.checkpoints import load_model
from prerl.models.logprobs import logit_divisor
from prerl.models.packing import pack_rows, packs_rows
from prerl.models.sharding import copy_parameters, is_sharded, unsharded_copy
from prerl.rollouts.interface import Rollout, check_requests


def draw_tokens(
    logits_BV: torch.Tensor, uniforms_B: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens by inversion of the distribution function at the given uniforms: (ids [B] int64, log-probs [B] float32).

    A token is kept by top_p when the mass of the strictly likelier tokens is below top_p.
    """
    logprobs_BV = (logits_BV.float() / temperature).log_softmax(dim=-1)
    probs_BV = logprobs_BV.exp()
    if top_p < 1.0:
        sorted_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
        sorted_BV[sorted_BV.cumsum(dim=-1) - sorted_BV >= top_p] = 0.0
        probs_BV = torch.zeros_like(probs_BV).scatter(1, order_BV, sorted_BV)
    cumulative_BV = probs_BV.double().cumsum(dim=-1)
    ids_B = torch.searchsorted(cumulative_BV, uniforms_B[:, None] * cumulative_BV[:, -1:], right=True)[:, 0]
    ids_B = ids_B.clamp_(max=logits_BV.shape[1] - 1)
    return ids_B, logprobs_BV.gather(1, ids_B[:, None])[:, 0]


def layer_masks(
    model: PreTrainedModel, visible: torch.Tensor | None, queries: int, keys: int
) -> torch.Tensor | dict[str, torch.Tensor] | None:
    """What the last `queries` of `keys` padded tokens see, as a decoder takes it: in sliding layers the window alone.

    visible: bool [rows, 1, queries, keys] without windows, None: all; returned as it is where none is that short.
    """
    window = vars(model.config).get("sliding_window")
    if window is None or keys <= window:
        return visible
    places_K = torch.arange(keys, device=model.device)
    near_QK = places_K[keys - queries :, None] - places_K < window
    if visible is None:
        visible = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=model.device)
    if "layer_types" in vars(model.config):
        return {"full_attention": visible, "sliding_attention": visible & near_QK}
    return visible & near_QK


class GrowingLayer(DynamicLayer):
    """Keys and values [rows, heads, tokens, head width] of one layer, as views of buffers with room for more tokens.

    transformers' layer copies everything for every new token; this one only every ROOM_TOKENS.
    """

    ROOM_TOKENS = 4

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Empty buffers of the shape of the first states."""
        super().lazy_initialization(key_states, value_states)
        self.buffers = [states[:, :, :0] for states in (key_states, value_states)]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens; returns all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        length = held + key_states.shape[2]
        if length > self.buffers[0].shape[2]:
            self.buffers = [
                torch.cat(
                    [buffer[:, :, :held], buffer.new_empty(*size[:2], length - held + self.ROOM_TOKENS, size[3])], 2
                )
                for buffer in self.buffers
                for size in [buffer.shape]
            ]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, held:length] = states
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows `indices`, in this order; a row may be named several times."""
        super().batch_select_indices(indices)
        self.buffers = [self.keys, self.values]


class TransformersSampler:
    """Decoding with a key-value cache on the trainer's model; finished rows leave the batch.

    Of a sharded model each rank has an unsharded copy, in the compute dtype: ranks decode different numbers of tokens,
    so they cannot gather weights together.
    """

    def __init__(self, model: PreTrainedModel, end_ids: list[int]) -> None:
        self.model = unsharded_copy(model) if is_sharded(model) else model
        self.end_ids = torch.tensor(end_ids, device=model.device)

    def sync_weights(self, model: PreTrainedModel) -> None:
        """Take the weights of a sharded model (a collective); those of any other model are shared."""
        if is_sharded(model):
            copy_parameters(model, self.model)
        else:
            self.model = model

    def load(self, folder: Path) -> None:
        """Take the weights of a checkpoint of the same model."""
        model = load_model(folder)
        if packs_rows(self.model):
            pack_rows(model)
        self.sync_weights(model)

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], seeds: list[list[int]], settings: SamplingSettings) -> list[Rollout]:
        """See `Sampler.generate`. Raises ValueError on an empty prompt or where prompts and seeds differ in number."""
        check_requests(prompts, seeds)
        was_training = self.model.training
        self.model.eval()
        rollouts: list[Rollout] = []
        for batch in _prompt_batches(seeds, settings.batch_rows):
            rollouts += self._generate_batch([prompts[i] for i in batch], [seeds[i] for i in batch], settings)
        self.model.train(was_training)
        return rollouts

    def _prefill(self, prompts: list[list[int]]) -> tuple[torch.Tensor, Cache, torch.Tensor]:
        """Next-token logits [P, V], cache and key mask [P, T] of left-padded prompts."""
        device = self.model.device
        width = max(map(len, prompts))
        ids_PT = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
        starts_P = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
        positions_T = torch.arange(width, device=device)
        valid_PT = positions_T >= starts_P[:, None]
        # a padding query sees itself, so that no row of the attention is empty (NaN)
        visible_PTT = valid_PT[:, None, :] | torch.eye(width, dtype=torch.bool, device=device)
        mask = (positions_T[:, None] >= positions_T) & visible_PTT
        cache = Cache(layer_class_to_replicate=GrowingLayer)
        hidden_PTD = self.model.get_decoder()(
            input_ids=ids_PT,
            attention_mask=layer_masks(self.model, mask[:, None], width, width),
            position_ids=(positions_T - starts_P[:, None]).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return self.model.get_output_embeddings()(hidden_PTD[:, -1]), cache, valid_PT

    def _generate_batch(
        self, prompts: list[list[int]], seeds: list[list[int]], settings: SamplingSettings
    ) -> list[Rollout]:
        counts = torch.tensor([len(row) for row in seeds])
        logits_PV, cache, valid_PT = self._prefill(prompts)
        repeat = torch.repeat_interleave(torch.arange(len(prompts)), counts).to(valid_PT.device)
        cache.batch_select_indices(repeat)
        logits_BV, valid_BT = logits_PV[repeat], valid_PT[repeat]
        positions_B = torch.tensor([len(prompt) for prompt in prompts], device=valid_PT.device)[repeat]
        uniforms_BT = torch.from_numpy(
            np.stack(
                [
                    np.random.Generator(np.random.Philox(seed)).random(settings.max_new_tokens)
                    for row in seeds
                    for seed in row
                ]
            )
        ).to(valid_PT.device)
        padded, divisor = not bool(valid_PT.all()), logit_divisor(self.model, settings.temperature)
        total = len(repeat)
        ids_BN = torch.zeros(total, settings.max_new_tokens, dtype=torch.long)
        logprobs_BN = torch.zeros(total, settings.max_new_tokens)
        lengths_B = torch.full((total,), settings.max_new_tokens)
        alive = torch.arange(total)  # rows of the decoding batch, as rows of the result
        done_B = torch.zeros(total, dtype=torch.bool)
        for step in range(settings.max_new_tokens):
            tokens_B, token_logprobs_B = draw_tokens(logits_BV, uniforms_BT[:, step], divisor, settings.top_p)
            ids_BN[alive, step], logprobs_BN[alive, step] = tokens_B.cpu(), token_logprobs_B.cpu()
            ended = torch.isin(tokens_B, self.end_ids).cpu() & ~done_B[alive]
            lengths_B[alive[ended]] = step + 1
            done_B[alive[ended]] = True
            if step + 1 == settings.max_new_tokens or bool(done_B.all()):
                break
            keep = ~done_B[alive]
            if int(keep.sum()) <= 0.8 * len(alive):
                index = keep.nonzero()[:, 0].to(tokens_B.device)
                alive = alive[keep]
                cache.batch_select_indices(index)
                tokens_B, positions_B, valid_BT, uniforms_BT = (
                    x[index] for x in (tokens_B, positions_B, valid_BT, uniforms_BT)
                )
            valid_BT = torch.cat([valid_BT, valid_BT.new_ones(len(alive), 1)], dim=1)
            hidden_BTD = self.model.get_decoder()(
                input_ids=tokens_B[:, None],
                attention_mask=layer_masks(
                    self.model, valid_BT[:, None, None, :] if padded else None, 1, valid_BT.shape[1]
                ),
                position_ids=positions_B[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            logits_BV = self.model.get_output_embeddings()(hidden_BTD[:, -1])
            positions_B = positions_B + 1
        return [
            Rollout(ids[:length].tolist(), logprobs[:length].tolist(), "stop" if done else "length")
            for ids, logprobs, length, done in zip(
                ids_BN, logprobs_BN, lengths_B.tolist(), done_B.tolist(), strict=True
            )
        ]


def _prompt_batches(seeds: Sequence[Sequence[int]], batch_rows: int) -> list[list[int]]:
    """Consecutive prompts whose samples fill at most `batch_rows` rows; a prompt's samples stay together."""
    batches: list[list[int]] = []
    rows = batch_rows
    for prompt, prompt_seeds in enumerate(seeds):
        if rows + len(prompt_seeds) > batch_rows:
            batches.append([])
            rows = 0
        batches[-1].append(prompt)
        rows += len(prompt_seeds)
    return batches
