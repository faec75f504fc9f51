"""Muon in float32, for the miniature's base model.

torch.optim.Muon orthogonalises in bfloat16, which takes most of an update on CPUs without instructions for it, and
rounds differently on those that have them. Source: github.com/KellerJordan/Muon; momentum, coefficients and the scale
of the learning rate are torch's defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPSILON = 1e-7


def orthogonalised(matrices_KMN: torch.Tensor) -> torch.Tensor:
    """Each matrix with its singular values moved near 1 by five Newton-Schulz steps, [K, M, N] of the same dtype."""
    a, b, c = COEFFICIENTS
    wide = matrices_KMN.shape[1] <= matrices_KMN.shape[2]
    result = matrices_KMN if wide else matrices_KMN.mT
    result = result / result.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    for _ in range(STEPS):
        gram = result @ result.mT
        result = a * result + (b * gram + c * gram @ gram) @ result
    return result if wide else result.mT


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for matrices; those of one shape are stepped together. No weight decay."""

    def __init__(self, matrices: Iterable[torch.Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """One step; every matrix needs a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for matrix in group["params"]:
                by_shape.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in by_shape.items():
                updates = []
                for matrix in matrices:
                    buffer = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                    buffer.lerp_(matrix.grad, 1 - group["momentum"])
                    updates.append(matrix.grad.lerp(buffer, group["momentum"]))
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for matrix, update in zip(matrices, orthogonalised(torch.stack(updates)), strict=True):
                    matrix.sub_(update, alpha=rate)
