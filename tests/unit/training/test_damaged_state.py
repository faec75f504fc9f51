"""A damaged or foreign checkpoint in a training state: the run goes on before it, says so and ends the same."""

import errno
import os
import re
import shutil

import pytest

from prerl.core.files import remove_folder
from prerl.models import checkpoints
from prerl.models.checkpoints import verify
from tiny_training import PRETRAIN_NEGATIVE, Workshop, job, metrics, tensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("damaged"))


@pytest.fixture(scope="module")
def straight(shop):
    """An undamaged run's output."""
    return shop.run("straight", job())


def rewrite(path, content):
    path.unlink()  # the published file is a link to it
    path.write_bytes(content)


def flip(path):
    rewrite(path, path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


def swap(folder, other):
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


DAMAGES = {
    "flipped byte": (lambda folder, other: flip(folder / "model.safetensors"), "model.safetensors is damaged"),
    "in the published file too": (
        lambda folder, other: (folder / "model.safetensors").write_bytes(b"no weights"),
        "model.safetensors is damaged",
    ),
    "truncated file": (
        lambda folder, other: rewrite(folder / "optimizer.safetensors", b"half"),
        "optimizer.safetensors is damaged",
    ),
    "missing file": (lambda folder, other: (folder / "config.json").unlink(), "config.json is missing though"),
    "missing manifest": (lambda folder, other: (folder / "manifest.json").unlink(), "manifest.json is missing"),
    "no JSON": (lambda folder, other: rewrite(folder / "manifest.json", b"\xff{"), "manifest.json is damaged"),
    "no manifest's JSON": (lambda folder, other: rewrite(folder / "manifest.json", b"[1]"), "manifest.json is damaged"),
    "another seed's": (lambda folder, other: swap(folder, other["seed"]), "is of another run .*'seed': 12"),
    "another method's": (lambda folder, other: swap(folder, other["method"]), "is of another run .*'run': "),
    "another update's": (lambda folder, other: swap(folder, folder.with_name("update000003")), "run .*'update': 3"),
    "another kind's": (lambda folder, other: swap(folder, other["base"]), "is of another run .*holds None"),
}


@pytest.fixture(scope="module")
def others(shop):
    """Sound checkpoints of update 6 that belong elsewhere."""
    outputs = {"seed": shop.run("other_seed", job(seed=12)), "method": shop.run("other_method", job(PRETRAIN_NEGATIVE))}
    return {name: output / "checkpoints/update000006" for name, output in outputs.items()} | {"base": shop.base.parent}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(shop, straight, others, capsys, damage):
    name = damage.replace(" ", "_").replace("'", "")
    shop.run(name, job())
    checkpoint = shop.trainer(name, job()).state.checkpoint(6)
    change, said = DAMAGES[damage]
    change(checkpoint, others)
    capsys.readouterr()
    trainer = shop.trainer(name, job())
    assert trainer.update == 3 and not checkpoint.exists()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and re.search(f"{checkpoint}.*{said}|{said}.*{checkpoint}", lines[0]), lines
    assert lines[0].endswith(" the checkpoint is removed")
    assert lines[1] == "Resuming from the checkpoint of update 3: updates 4 to 6 are done again"
    trainer.run(shop.folder / name / "output")
    assert tensors(shop.folder / name / "output") == tensors(straight)
    assert metrics(shop.folder / name / "output") == metrics(straight)
    verify(shop.folder / name / "output/checkpoints/update000006/manifest.json")


def test_with_every_checkpoint_damaged_the_phase_starts_again(shop, straight, capsys):
    shutil.copytree(shop.folder / "straight", shop.folder / "all_damaged")
    state = shop.trainer("all_damaged", job()).state
    for update in (3, 6):
        flip(state.checkpoint(update) / "tokenizer.json")
    trainer = shop.trainer("all_damaged", job())
    assert trainer.update == 0
    assert "Resuming from the start of the phase: updates 1 to 6 are done again" in capsys.readouterr().out
    trainer.run(shop.folder / "all_damaged/output")
    assert tensors(shop.folder / "all_damaged/output") == tensors(straight)


def test_a_damaged_kept_checkpoint_is_made_again(shop, straight):
    settings = job(training={"checkpoint_every": 2}, kept_updates=[2, 4, 6], optimizer_updates=[4, 6])
    expected = tensors(shop.run("kept_damaged", settings), 4)
    flip(shop.trainer("kept_damaged", settings).state.checkpoint(4) / "model.safetensors")
    trainer = shop.trainer("kept_damaged", settings)
    assert trainer.update == 2
    trainer.run(shop.folder / "kept_damaged/output")
    assert tensors(shop.folder / "kept_damaged/output", 4) == expected
    assert tensors(shop.folder / "kept_damaged/output") == tensors(straight)


def test_a_read_that_fails_removes_nothing(shop, straight, monkeypatch):
    def fails(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    state = shop.trainer("straight", job()).state
    monkeypatch.setattr(checkpoints, "sha256_of", fails)
    with pytest.raises(OSError, match="Input/output error"):
        shop.trainer("straight", job())
    assert state.checkpoint(6).is_dir() and state.checkpoint(3).is_dir()


def test_a_checkpoint_pushes_out_its_predecessors_and_never_later_ones(shop):
    """A run that goes on before checkpoints it has keeps the point to go on from."""
    settings = job(training={"checkpoint_every": 1}, kept_updates=[6], optimizer_updates=[6])
    trainer = shop.trainer("pushed", settings)
    stand = []
    for update in (1, 2, 5, 6, 3, 4):
        trainer.state.save(update, trainer.learner, trainer.accelerator)
        stand.append(sorted(int(path.name[6:]) for path in trainer.state.checkpoint(1).parent.glob("update*")))
    assert stand == [[1], [1, 2], [2, 5], [5, 6], [3], [3, 4]]


def test_without_kept_checkpoints_only_published_moments_stay_and_a_kill_costs_nothing(shop):
    """Moments of update 2, which no phase continues from, go once a later checkpoint but one stands."""
    changed = {"checkpoint_every": 1, "keep_checkpoints": False}
    kept = {"kept_updates": [2, 4, 6], "optimizer_updates": [4]}
    expected = shop.run("all_kept", job(training=changed | {"keep_checkpoints": True}, **kept))
    trainer = shop.trainer("few_kept", job(training=changed, **kept))
    assert trainer.run(shop.folder / "few_kept/output", lambda: trainer.update == 5) is False
    state = trainer.state
    held = {
        int(folder.name[6:]): (folder / "optimizer.safetensors").is_file()
        for folder in state.checkpoint(1).parent.glob("update*")
    }
    assert held == {2: False, 4: True, 5: True}
    output = shop.run("few_kept", job(training=changed, **kept))
    for update in (2, 4, 6):
        folders = [run / f"checkpoints/update{update:06d}" for run in (expected, output)]
        names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
        assert names[0] == names[1] and ("optimizer.safetensors" in names[0]) is (update == 4)
        assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names[0])


def test_a_checkpoint_without_moments_is_no_point_to_resume_from(shop):
    settings = job(
        training={"checkpoint_every": 1, "keep_checkpoints": False}, kept_updates=[2, 6], optimizer_updates=[]
    )
    trainer = shop.trainer("stripped", settings)
    trainer.run(shop.folder / "stripped/output", lambda: trainer.update == 4)
    for update in (3, 4):
        remove_folder(trainer.state.checkpoint(update))
    assert shop.trainer("stripped", settings).update == 0
