"""What a training checkpoint holds: a transformers folder, AdamW moments by parameter name, progress; plain or sharded.

For a sharded model each rank writes some of the parameters, whole, to its own files, and reads its rows of all of them.
So transformers and vLLM can load the folder, any number of ranks can resume from it, and nothing is gathered in one
place.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from prerl.core.files import write_json, writing
from prerl.core.partition import balanced_partition
from prerl.models.checkpoints import (
    CRITIC,
    CRITIC_OPTIMIZER,
    OPTIMIZER,
    PROGRESS,
    RERUN,
    CheckpointError,
    new_folder,
    parts_of,
    safetensors_errors,
    sealed,
)
from prerl.models.sharding import is_sharded

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
FREQUENCIES = ".rotary_emb.inv_freq"
"""In files of older Llama and Mistral models, a layer at a time; made from config.json instead."""


def save_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer,
    progress: dict,
    accelerator: Accelerator,
    critic: Any = None,
) -> None:
    """Float32 weights, tokenizer, moments and progress as one sealed folder; a collective.

    critic: a training.critic.Critic, whose weights and moments then lie beside the policy's. Raises FileError on a full
    disk; `folder` is then unchanged.
    """
    tensors = {OPTIMIZER: named_moments(model, optimizer)}
    if critic is not None:
        tensors[CRITIC] = list(critic.model.named_parameters())
        tensors[CRITIC_OPTIMIZER] = named_moments(critic.model, critic.optimizer)
    if not is_sharded(model):
        size = sum(value.nbytes for named in tensors.values() for _, value in named)
        with new_folder(folder, sum(value.nbytes for value in model.parameters()) + size) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            for file, named in tensors.items():
                if named:
                    save_file({name: value.detach().contiguous().cpu() for name, value in named}, temporary / file)
            write_json(temporary / PROGRESS, progress)
        return
    tensors[WEIGHTS] = list(model.named_parameters())
    size = sum(value.nbytes for named in tensors.values() for _, value in named)
    known: dict[str, dict] = {}
    with new_folder(folder, size, known) if accelerator.is_main_process else nullcontext() as temporary:
        (temporary,) = broadcast_object_list([temporary])
        parts = [part for file, named in tensors.items() for part in write_part(temporary / file, named, accelerator)]
        if accelerator.num_processes > 1:
            parts = gather_object(parts)
        if accelerator.is_main_process:
            known |= {file: entry for file, entry, _ in parts}
            if accelerator.num_processes > 1:
                write_json(temporary / INDEX, weight_index(parts))
            model.config.save_pretrained(temporary)
            if model.can_generate():
                model.generation_config.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            write_json(temporary / PROGRESS, progress)


def named_moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Tensor]]:
    """("parameter|key", AdamW's state of it) in the parameters' order."""
    return [
        (f"{name}|{key}", value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    ]


def write_part(
    path: Path, named: list[tuple[str, torch.Tensor]], accelerator: Accelerator
) -> list[tuple[str, dict, dict[str, int]]]:
    """Write this process's share of named tensors, each whole: (file, manifest entry, bytes by name), if it has any.

    Tensors are gathered one after the other; a process keeps in CPU memory only what it writes.
    """
    rank, ranks = accelerator.process_index, accelerator.num_processes
    chosen = set(
        balanced_partition([value.numel() for _, value in named], ranks, equal_size=False)[rank] if named else []
    )
    written = {}
    for i, (name, value) in enumerate(named):
        whole = value.detach().full_tensor() if isinstance(value, DTensor) else value.detach()
        if i in chosen:
            written[name] = whole.contiguous().cpu()
    if not written:
        return []
    if ranks > 1:
        path = path.with_name(f"{path.stem}-{rank + 1:05d}-of-{ranks:05d}{path.suffix}")
    sizes = {name: value.nbytes for name, value in written.items()}
    with writing(path, sum(sizes.values())) as temporary:
        with safetensors_errors():
            save_file(written, temporary, metadata={"format": "pt"})
        entry = sealed(temporary)
        temporary.replace(path)
    return [(path.name, entry, sizes)]


def weight_index(parts: list[tuple[str, dict, dict[str, int]]]) -> dict:
    """transformers' index of weights that lie in several files."""
    files = {file: sizes for file, _, sizes in parts}
    weights = {name: (file, size) for file in parts_of(WEIGHTS, files) for name, size in files[file].items()}
    return {
        "metadata": {"total_size": sum(size for _, size in weights.values())},
        "weight_map": {name: file for name, (file, _) in weights.items()},
    }


def load_shards(
    folder: Path, module: torch.nn.Module, device: torch.device, file: str = WEIGHTS, prefix: str = ""
) -> None:
    """Weights of a sharded module on the meta device, float32: each rank reads its rows and never holds a whole model.

    Replaces the parameters, so an optimizer is built afterwards. prefix: of the module's names in the files; other
    names there are left alone. Raises CheckpointError where files are missing or broken, or names or shapes are not
    the module's.
    """
    whole = "fetch or make the model folder again, whole"
    parts = parts_of(file, [path.name for path in folder.iterdir()])
    path = folder / file
    filled: dict[int, torch.nn.Parameter] = {}  # a tied parameter has several names
    state = {}
    try:
        with ExitStack() as stack:
            opened = [stack.enter_context(safe_open(folder / part, "pt")) for part in parts]
            held = {
                name: part
                for part in opened
                for name in part.keys()  # noqa: SIM118 (not a dictionary)
                if name.startswith(prefix) and not name.endswith(FREQUENCIES)
            }
            for name, parameter in module.named_parameters(remove_duplicate=False):
                key = prefix + name
                if id(parameter) not in filled:
                    if key not in held:
                        raise CheckpointError(f"{path} lacks {key}, a foreign file: {whole}")
                    weights = held[key].get_slice(key)
                    if tuple(weights.get_shape()) != parameter.shape:
                        raise CheckpointError(f"{path}: {key} is of another shape than the model: {whole}")
                    rows, _ = local_rows(parameter.detach())
                    filled[id(parameter)] = sharded_parameter(weights[rows].to(device, torch.float32), parameter)
                state[name] = filled[id(parameter)]
                held.pop(key, None)
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be loaded ({str(error).splitlines()[0]}): {whole}") from None
    if held:
        raise CheckpointError(f"{path} holds {sorted(held)[:3]}, unknown to this model, a foreign file: {whole}")
    module.load_state_dict(state, strict=False, assign=True)


def sharded_parameter(rows: torch.Tensor, like: torch.nn.Parameter) -> torch.nn.Parameter:
    """A parameter sharded as `like`, of which this rank holds `rows`."""
    shape, stride = like.shape, like.stride()
    return torch.nn.Parameter(
        DTensor.from_local(rows, like.device_mesh, like.placements, run_check=False, shape=shape, stride=stride)
    )


def load_critic(folder: Path, model: torch.nn.Module) -> None:
    """Weights of a value model, not yet sharded. Raises CheckpointError if they are missing or not the model's."""
    files = parts_of(CRITIC, [path.name for path in folder.iterdir()])
    if not files:
        raise CheckpointError(f"{folder / CRITIC} is missing, a foreign checkpoint: {RERUN}")
    try:
        model.load_state_dict({name: value for file in files for name, value in load_file(folder / file).items()})
    except RuntimeError as error:  # names or shapes differ
        raise CheckpointError(f"{folder / CRITIC} does not fit the model, a foreign checkpoint: {RERUN}") from error


def load_optimizer(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, file: str = OPTIMIZER
) -> None:
    """AdamW moments by parameter name; nothing to do where the checkpoint holds none (a fresh start).

    Of a sharded model each rank reads its rows. Raises CheckpointError if the names do not fit the model.
    """
    parts = parts_of(file, [path.name for path in folder.iterdir()])
    if not parts:
        return
    path = folder / file
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(folder / part, "pt")) for part in parts]
        held = {name: part for part in opened for name in part.keys()}  # noqa: SIM118 (not a dictionary)
        for name, parameter in model.named_parameters():
            if not all(f"{name}|{key}" in held for key in MOMENTS):
                raise CheckpointError(f"{path} lacks moments of {name}, a foreign checkpoint: {RERUN}")
            state = {}
            for key in MOMENTS:
                part = held.pop(f"{name}|{key}")
                if key == "step":
                    state[key] = part.get_tensor(f"{name}|{key}")
                    continue
                moments = part.get_slice(f"{name}|{key}")
                if tuple(moments.get_shape()) != parameter.shape:
                    raise CheckpointError(
                        f"{path}: moments of {name} are of another shape than the model, a foreign checkpoint: {RERUN}"
                    )
                state[key] = torch.zeros_like(parameter, requires_grad=False)
                rows, part = local_rows(state[key])
                part.copy_(moments[rows])
            if optimizer.param_groups[0]["fused"]:
                state["step"] = state["step"].to(parameter.device)
            optimizer.state[parameter] = state
    if held:
        raise CheckpointError(
            f"{path} holds moments of {sorted(held)[:3]}, unknown to this model, a foreign checkpoint: {RERUN}"
        )


def local_rows(tensor: torch.Tensor) -> tuple[slice, torch.Tensor]:
    """The rows of a tensor that this rank holds: all of a plain tensor, fully_shard's chunk of a DTensor."""
    if not isinstance(tensor, DTensor):
        return slice(None), tensor
    rows = -(-tensor.shape[0] // tensor.device_mesh.size())
    first = min(rows * tensor.device_mesh.get_local_rank(), tensor.shape[0])
    local = tensor.to_local()
    return slice(first, first + len(local)), local
