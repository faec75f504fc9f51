"""A control for a warm-up: the base model after a random step of the same length, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from prerl.models.checkpoints import CheckpointError

WEIGHTS = "model.safetensors"


def random_step(base: Path, trained: Path, seed: int, target: Path) -> None:
    """Write `target`: each tensor of the folder `base` plus a Gaussian step as long as `trained` has moved it.

    Safetensors, float32; a function of `seed` alone. Raises CheckpointError if the two hold different tensors.
    """
    generator = torch.Generator().manual_seed(seed)
    before, after = dict(_tensors(base)), dict(_tensors(trained))
    if {name: tensor.shape for name, tensor in before.items()} != {name: t.shape for name, t in after.items()}:
        raise CheckpointError(f"{trained} and {base} hold different tensors: rerun the run that made the first")
    stepped = {}
    for name in sorted(before):
        direction = torch.randn(before[name].shape, generator=generator)
        length = (after[name] - before[name]).norm()
        stepped[name] = before[name] + direction * (length / direction.norm())
    save_file(stepped, target, metadata={"format": "pt"})


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118, not a dict
                yield name, tensors.get_tensor(name).float()
