"""Run by tests/test_sharding.py in two processes: updates of a sharded tiny model, what they give, into a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file

import prerl.models.logprobs
from prerl.config.rollouts import SamplingSettings
from prerl.data.miniature import build_model
from prerl.models.batching import row_logprobs
from prerl.models.checkpoints import empty_model, load_model
from prerl.models.packing import pack_rows
from prerl.models.sharding import full_parameters, prepare, start_processes
from prerl.models.training_checkpoints import load_optimizer, load_shards, save_checkpoint
from prerl.rollouts.transformers_sampler import TransformersSampler
from prerl.training.updates import policy_update
from tiny import ARCHITECTURE, EOS, FAMILIES, TOKENIZER, VOCABULARY, family_model, random_ids

ROWS = 11
SETTINGS = {"clip": (0.2, 0.2), "temperature": 0.8, "micro_batch_tokens": 24, "grad_clip": 1e9}
SAMPLING = SamplingSettings(temperature=1.0, top_p=1.0, max_new_tokens=12, batch_rows=8)
CASES = {  # precision, activation checkpointing, packed rows, embeddings or family, rows with an advantage
    "padded": ("float32", False, False, "tied", ROWS),
    "packed": ("float32", False, True, "tied", ROWS),
    "checkpointing, untied": ("float32", True, True, "untied", ROWS),
    "padded, one row": ("float32", False, False, "tied", 1),
    "packed, one row": ("float32", False, True, "tied", 1),
    "no row": ("float32", False, True, "tied", 0),
    "Gemma 3": ("float32", True, True, "gemma3_text", ROWS),
    "Phi": ("float32", False, False, "phi", ROWS),
    "bfloat16": ("bfloat16", True, True, "tied", ROWS),
}


def batch(counting: int) -> tuple[list[list[int]], list[list[int]], torch.Tensor, torch.Tensor]:
    """Contexts, responses, advantages and weights of ROWS rows of different lengths, of which `counting` count."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 13, (ROWS, 2), generator=generator).tolist()
    contexts, responses = zip(*[[random_ids(generator, n) for n in row] for row in lengths], strict=True)
    advantages_R = torch.randn(ROWS, generator=generator) * (torch.arange(ROWS) < counting)
    weights_R = torch.full((ROWS,), 1.0 / sum(n for _, n in lengths), dtype=torch.double)
    return list(contexts), list(responses), advantages_R, weights_R


def make_policy(accelerator, precision="float32", checkpointing=False, packed=False, kind="tied"):
    """(model, its AdamW)."""
    if kind in FAMILIES:
        model = family_model(kind, 3)
    else:
        model = build_model(ARCHITECTURE | {"tie_word_embeddings": kind == "tied"}, TOKENIZER, 3)
    if packed:
        pack_rows(model)
    prepare(model, accelerator, precision, checkpointing)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, gathered where it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, dist.tensor.DTensor) else tensor


def run_case(accelerator, *case):
    """(model, optimizer, metrics, {"gradient"} of one update, {"logprobs"} before and {"after"} it)."""
    *how, counting = case
    model, optimizer = make_policy(accelerator, *how)
    contexts, responses, advantages_R, weights_R = batch(counting)
    with torch.no_grad():
        logprobs = row_logprobs(model, accelerator, contexts, responses, 0.8, 24)
    metrics = policy_update(model, optimizer, accelerator, contexts, responses, advantages_R, weights_R, **SETTINGS)
    tensors = {
        "gradient": torch.cat([whole(parameter.grad).reshape(-1) for parameter in model.parameters()]),
        "logprobs": torch.cat(logprobs),
        "after": torch.cat(row_logprobs(model, accelerator, contexts, responses, 0.8, 24)).detach(),
    }
    return model, optimizer, metrics, tensors


def samples(sampler: TransformersSampler, rank: int = 0, ranks: int = 1) -> list[list[int]]:
    """Token ids of this process's share of four prompts; the second process decodes longer prompts."""
    prompts = [[20 + i] * (3 + 5 * i) for i in range(4)][rank::ranks]
    return [rollout.token_ids for rollout in sampler.generate(prompts, [[7, 8]] * len(prompts), SAMPLING)]


class CountingFile:
    """A safetensors file that adds up the bytes which are read from it."""

    read_bytes = 0

    def __init__(self, *arguments) -> None:
        self.file = safe_open(*arguments)

    def __enter__(self):
        self.opened = self.file.__enter__()
        return self

    def __exit__(self, *arguments):
        return self.file.__exit__(*arguments)

    def keys(self):
        return self.opened.keys()

    def get_tensor(self, name):
        return self.count(self.opened.get_tensor(name))

    def get_slice(self, name):
        whole = self.opened.get_slice(name)

        class Slice:
            get_shape = staticmethod(whole.get_shape)

            def __getitem__(_, rows):
                return self.count(whole[rows])

        return Slice()

    @classmethod
    def count(cls, tensor):
        cls.read_bytes += tensor.nbytes
        return tensor


def load_both_ways(accelerator, checkpoint: Path) -> dict:
    """A checkpoint loaded whole and then sharded, and loaded in shards: do they train alike? And bytes."""
    whole_first = load_model(checkpoint, "cpu")
    shards = empty_model(checkpoint)
    said = {"bytes": sum(value.nbytes for value in whole_first.parameters())}
    said["before"] = sum(value.nbytes for value in shards.parameters() if not value.is_meta)
    said["generation"] = shards.generation_config.to_dict() == whole_first.generation_config.to_dict()
    said["config"] = shards.config.to_dict() == whole_first.config.to_dict()
    for model in (whole_first, shards):
        prepare(model, accelerator, "bfloat16", activation_checkpointing=True)
    with mock.patch("prerl.models.training_checkpoints.safe_open", CountingFile):
        load_shards(checkpoint, shards, accelerator.device)
    said["read"] = CountingFile.read_bytes
    said["held"] = sum(value.to_local().nbytes for value in shards.parameters())
    equal = {}
    for moment in ("loaded", "trained"):
        pairs = zip(full_parameters(whole_first), full_parameters(shards), strict=True)
        equal[moment] = all(name == other and torch.equal(value, same) for (name, value), (other, same) in pairs)
        for model in (whole_first, shards):
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
            policy_update(model, optimizer, accelerator, *batch(ROWS), **SETTINGS)
    return said | equal


class Traffic:
    """Dtypes of what is gathered and reduced meanwhile."""

    def __init__(self) -> None:
        self.dtypes = {"gathered": set(), "reduced": set()}
        for kind, name in (("gathered", "all_gather_single"), ("reduced", "reduce_scatter_single")):
            self.watch(kind, name, dist.__dict__[name])

    def watch(self, kind, name, function) -> None:
        """Note the output's dtype of every call."""

        def noting(*arguments, **keywords):
            output = arguments[0] if arguments else keywords.get("output_tensor", keywords.get("output"))
            self.dtypes[kind].add(str(output.dtype))
            return function(*arguments, **keywords)

        setattr(dist, name, noting)

    def seen(self) -> dict[str, list[str]]:
        """The dtypes since the last call."""
        result = {kind: sorted(dtypes) for kind, dtypes in self.dtypes.items()}
        for dtypes in self.dtypes.values():
            dtypes.clear()
        return result


def main(folder: Path) -> None:
    accelerator = start_processes()
    main_process = accelerator.is_main_process
    traffic = Traffic()
    prerl.core.constants.CHUNK_LOGITS["cpu"] = 5 * VOCABULARY  # every micro-batch in several chunks
    said = {}
    for case in CASES:
        traffic.seen()
        model, optimizer, metrics, tensors = run_case(accelerator, *CASES[case])
        first = next(model.parameters())
        state = optimizer.state[first]
        said[case] = metrics | {
            "traffic": traffic.seen(),
            "kept": sorted({str(value.dtype) for value in (first, first.grad, state["exp_avg"], state["exp_avg_sq"])}),
            "shard": list(first.to_local().shape),
        }
        if main_process:
            save_file(tensors, folder / f"{case}.safetensors")
    # the model of the last case goes on: its checkpoint, its copy for sampling, its moments read back
    save_checkpoint(folder / "checkpoint", model, TOKENIZER, optimizer, {"update": 1}, accelerator)
    weights = {name: value.cpu() for name, value in full_parameters(model)}
    moments = {
        f"{name}|{key}": whole(optimizer.state[p][key])
        for name, p in model.named_parameters()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
    accelerator.wait_for_everyone()
    said["loaded"] = load_both_ways(accelerator, folder / "checkpoint")
    again, other = make_policy(accelerator, "bfloat16")
    load_optimizer(folder / "checkpoint", again, other)
    said["read back"] = all(
        torch.equal(whole(value), moments[f"{name}|{key}"])
        for name, p in again.named_parameters()
        for key, value in other.state[p].items()
    )
    model, optimizer = make_policy(accelerator)
    sampler = TransformersSampler(model, EOS)
    said["samples"] = [samples(sampler, accelerator.process_index, 2)]
    policy_update(model, optimizer, accelerator, *batch(ROWS), **SETTINGS)
    sampler.sync_weights(model)
    said["samples"].append(samples(sampler, accelerator.process_index, 2))
    if main_process:
        save_file(weights | moments, folder / "gathered.safetensors")
    (folder / f"rank{accelerator.process_index}.json").write_text(json.dumps(said))
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
