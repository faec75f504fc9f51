"""Training on several GPUs, and in bfloat16: weights, gradients and moments in shards by torch's fully_shard (FSDP2).

A single process in float32 keeps the plain model. Everything else is sharded, a single GPU in bfloat16 too, so that
precision is one code path: each rank holds its part of the float32 master weights, gradients and AdamW moments; a
layer's weights are gathered, in the compute dtype, only while it runs. The official actor does the same: float32
weights, MixedPrecision(bfloat16 compute, float32 reduction), verl/workers/fsdp_workers.py, _build_model_optimizer.

Gradients are summed over ranks, not averaged: the weights of the loss already hold all means. All ranks must run the
same number of forward and backward passes, since each pass gathers and reduces across ranks.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator
from types import MethodType
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""training.precision: the dtype of gathered weights and activations, None for that of the master weights."""

TIMEOUT = datetime.timedelta(hours=2)
"""How long a rank waits for the others: rank 0 verifies checkpoints first, and one rank may sample much longer."""

T = TypeVar("T")


def start_processes() -> Accelerator:
    """The process group that the launcher asks for, on GPUs if there are any; a single process without a launcher."""
    return Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)])


def end_processes() -> None:
    """Leave the process group, when no collective is left."""
    if dist.is_initialized():
        dist.destroy_process_group()


def needs_shards(accelerator: Accelerator, precision: str) -> bool:
    """Whether a module is sharded: several ranks, or a compute dtype other than float32."""
    return accelerator.num_processes > 1 or PRECISIONS[precision] is not None


def prepare(
    module: torch.nn.Module,
    accelerator: Accelerator,
    precision: str = "float32",
    activation_checkpointing: bool = False,
) -> None:
    """Put a float32 module with transformers' decoder layers on the device, in place, sharded if needed.

    Build the optimizer afterwards, from the module's parameters. A sharded module is called as usual; functions that
    use its parameters outside its forward go through `gathered`. activation_checkpointing: only each layer's input is
    kept; the backward pass recomputes the layer.
    """
    if activation_checkpointing:
        model = next(part for part in module.modules() if isinstance(part, PreTrainedModel))
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if not needs_shards(accelerator, precision):
        module.to(accelerator.device)
        return
    if not dist.is_initialized():
        dist.init_process_group(
            "nccl" if accelerator.device.type == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1
        )
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    policy = MixedPrecisionPolicy(param_dtype=PRECISIONS[precision], reduce_dtype=torch.float32)
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    for part in (*layers, module):
        # the root frees its weights after its forward as well: a pass without gradient would leave them stale
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    module.compute_dtype = PRECISIONS[precision] or torch.float32
    module.run_gathered = MethodType(lambda _, function: function(), module)
    register_fsdp_forward_method(module, "run_gathered")


def gathered(module: torch.nn.Module, function: Callable[[], T]) -> T:
    """function() run as the module's forward: a sharded module's parameters are gathered, in the backward pass too.

    The result's tensors carry the gradient. A collective: all ranks must call it.
    """
    return module.run_gathered(function) if is_sharded(module) else function()


def is_sharded(module: torch.nn.Module) -> bool:
    """Whether `prepare` has sharded the module."""
    return isinstance(module, FSDPModule)


def full_parameters(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, whole float32 parameter), one at a time, tied ones once. A collective: all ranks must iterate."""
    for name, parameter in module.named_parameters():
        value = parameter.detach()
        yield name, value.full_tensor() if isinstance(value, DTensor) else value


def unsharded_copy(model: PreTrainedModel) -> PreTrainedModel:
    """An unsharded model with the same weights, in the compute dtype of the sharded one. A collective."""
    with torch.device(model.device):
        copy = AutoModelForCausalLM.from_config(model.config, dtype=model.compute_dtype).requires_grad_(False)
    copy_parameters(model, copy)
    return copy


@torch.no_grad()
def copy_parameters(model: torch.nn.Module, copy: torch.nn.Module) -> None:
    """Copy the weights of a sharded model into an unsharded one with the same parameters. A collective."""
    targets = dict(copy.named_parameters())
    for name, value in full_parameters(model):
        targets[name].copy_(value)


def clip_gradients(parameters: Iterable[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
    """Clip to the norm over all parameters and shards; the norm before, a float32 scalar, equal on all processes."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
