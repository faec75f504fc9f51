"""Muon in float32 against torch's in bfloat16 and against the singular value decomposition."""

import pytest
import torch

from prerl.data.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_singular_vectors_stay_and_singular_values_come_near_1(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape, dtype=torch.double)
    found = orthogonalised(matrices)
    for before, after in zip(matrices, found, strict=True):
        u, values, vh = torch.linalg.svd(before, full_matrices=False)
        inside = u.T @ after @ vh.T
        assert (inside - inside.diag().diag()).abs().max() < 1e-9
        assert ((inside.diag() > 0.6) & (inside.diag() < 1.3))[values > 0.1 * values.max()].all()


def test_steps_are_torchs_but_for_its_rounding():
    torch.manual_seed(0)
    shapes = [(8, 8), (8, 8), (6, 20), (20, 6)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(matrix.detach().clone()) for matrix in ours]
    start = [matrix.detach().clone() for matrix in ours]
    optimizers = [Muon(ours, lr=0.01), torch.optim.Muon(theirs, lr=0.01, weight_decay=0.0)]
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).norm()
        assert moved > 0.05 and (mine - other).norm() < 0.02 * moved
