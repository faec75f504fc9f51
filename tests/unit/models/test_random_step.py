"""The random step in a warm-up's place: as long as the real one in every tensor, and in no direction of its own."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from prerl.models.checkpoints import CheckpointError
from prerl.models.random_step import random_step


@pytest.fixture
def folders(tmp_path):
    generator = torch.Generator().manual_seed(0)
    base = {"a": torch.randn(64, 48, generator=generator), "b": torch.randn(32, generator=generator)}
    step = {"a": 0.01 * torch.randn(64, 48, generator=generator), "b": torch.zeros(32)}
    for name, weights in (("base", base), ("trained", {key: base[key] + step[key] for key in base})):
        (tmp_path / name).mkdir()
        save_file(weights, tmp_path / name / "model.safetensors")
    return tmp_path, base, step


def test_each_tensor_moves_as_far_as_the_warm_up_moved_it(folders):
    folder, base, step = folders
    random_step(folder / "base", folder / "trained", 5, folder / "out.safetensors")
    moved = {name: tensor - base[name] for name, tensor in load_file(folder / "out.safetensors").items()}
    assert moved["a"].norm().item() == pytest.approx(step["a"].norm().item(), rel=1e-4)
    assert torch.equal(moved["b"], torch.zeros(32))
    cosine = torch.nn.functional.cosine_similarity(moved["a"].flatten(), step["a"].flatten(), dim=0)
    assert abs(cosine.item()) < 0.1  # 3,072 directions: a standard deviation of 0.018


def test_a_seed_is_a_direction(folders):
    folder, _, _ = folders
    for name, seed in (("first", 5), ("again", 5), ("other", 6)):
        random_step(folder / "base", folder / "trained", seed, folder / f"{name}.safetensors")
    first, again, other = (load_file(folder / f"{name}.safetensors")["a"] for name in ("first", "again", "other"))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_other_tensors_are_refused(folders):
    folder, base, _ = folders
    save_file({"a": base["a"]}, folder / "base/model.safetensors")
    with pytest.raises(CheckpointError, match="hold different tensors: rerun"):
        random_step(folder / "base", folder / "trained", 5, folder / "out.safetensors")
