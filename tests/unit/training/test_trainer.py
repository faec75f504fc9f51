"""The trainer's state: resuming, extending, handing over, foreign and damaged states. Bitwise on CPU."""

import json
import shutil
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import reincarnate_policy
from prerl.core.hashes import sha256_of
from prerl.models.checkpoints import CheckpointError, verify
from prerl.training.settings import TrainSettings
from prerl.training.state import table_of
from tiny import PREFIX
from tiny_training import (
    POSTTRAIN_ALL,
    PRETRAIN_NEGATIVE,
    Workshop,
    job,
    make_problems,
    metrics,
    next_ids,
    tensors,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def straight(shop):
    """Six updates of GRPO without a break: (output folder, ids sampled next)."""
    output = shop.run("straight", job())
    return output, next_ids(shop.trainer("straight", job()), 7)


def test_updates_have_mixed_groups_finished_and_truncated_answers_and_changed_weights(shop, straight):
    rows = metrics(straight[0])
    assert [row["update"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert 0 < row["reward_mean"] < 1 and row["rows_trained"] > 0 and row["grad_norm"] > 0
        assert row["clip_fraction"] == 0.0 and row["gap_max"] < 1e-4  # on policy, ratio 1
    assert 0 < sum(row["truncation_rate"] for row in rows) < 6
    before = load_file(shop.base.parent / "model.safetensors")
    after = load_file(straight[0] / "checkpoints/update000006/model.safetensors")
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("killed_before", [4, 5, 6])
def test_three_updates_resume_and_three_more_equal_six_straight(shop, straight, killed_before):
    name = f"killed{killed_before}"
    shop.killed(name, job(), killed_before)
    resumed = shop.trainer(name, job())
    assert resumed.update == 3
    resumed.run(shop.folder / name / "output")
    output = shop.folder / name / "output"
    assert tensors(output) == tensors(straight[0])
    assert metrics(output) == metrics(straight[0])
    assert pq.read_table(output / "validation.parquet") == pq.read_table(straight[0] / "validation.parquet")
    assert next_ids(resumed, 7) == straight[1]


def test_two_runs_are_equal_and_another_seed_differs(shop, straight):
    assert tensors(shop.run("again", job())) == tensors(straight[0])
    other = shop.run("seed", job(seed=12))
    assert tensors(other) != tensors(straight[0])
    assert metrics(other)[0]["tokens_sampled"] != metrics(straight[0])[0]["tokens_sampled"]


def test_methods_are_paired_by_their_samples(shop, straight):
    """Sample seeds hold no method: the first update of every method sees the same rollouts."""
    grpo, nsr = shop.trainer("paired1", job()), shop.trainer("paired2", job(PRETRAIN_NEGATIVE))
    assert next_ids(grpo, 1) == next_ids(nsr, 1) != next_ids(grpo, 2)


def reincarnate(monkeypatch, checkpoint, start, update=3, optimizer="keep"):
    settings = json.dumps({"update": update, "optimizer": optimizer, "start": "trained"})
    arguments = ["--settings", settings, "--checkpoint", str(checkpoint), "--start", str(start)]
    monkeypatch.setattr(sys, "argv", ["reincarnate_policy.py", *arguments])
    reincarnate_policy.main()
    return start


FIRST_PHASE = {**PRETRAIN_NEGATIVE, "last_update": 3}
SECOND_PHASE = {**POSTTRAIN_ALL, "first_update": 4, "optimizer": "keep"}


@pytest.fixture(scope="module")
def parent(shop):
    """NSR-PreRL for three updates."""
    return shop.run("parent", job(FIRST_PHASE, kept_updates=[3], optimizer_updates=[3], validation={"updates": [0, 3]}))


def test_the_hand_over_equals_one_run_that_swaps_the_objective(shop, parent, monkeypatch):
    start = reincarnate(monkeypatch, parent / "checkpoints/update000003/manifest.json", shop.folder / "s/manifest.json")
    second = job(SECOND_PHASE, validation={"updates": [6]})
    output = shop.run("second", second, start=start)

    swapped = shop.trainer("swapped", job({**FIRST_PHASE, "last_update": 6}))
    rows = [swapped.step(update) for update in (1, 2, 3)]
    grpo = TrainSettings.from_json(json.dumps(second)).objective
    swapped.settings = replace(swapped.settings, objective=grpo)
    rows += [swapped.step(update) for update in (4, 5, 6)]
    handed = load_file(output / "checkpoints/update000006/model.safetensors")
    assert all(
        torch.equal(handed[name], value) for name, value in swapped.learner.model.state_dict().items() if name in handed
    )
    moments = load_file(output / "checkpoints/update000006/optimizer.safetensors")
    for name, parameter in swapped.learner.model.named_parameters():
        for key, value in swapped.learner.optimizer.state[parameter].items():
            assert torch.equal(moments[f"{name}|{key}"], value), (name, key)
    own = [{k: v for k, v in row.items() if not k.startswith("seconds_")} for row in rows]
    assert metrics(parent) + metrics(output) == own
    assert [row["space"] for row in own] == ["pretrain"] * 3 + ["posttrain"] * 3
    assert next_ids(shop.trainer("second", second, start=start), 7) == next_ids(swapped, 7)


def test_a_method_in_two_runs_equals_one_run(shop, parent, monkeypatch):
    """training.early_runs: NSR-PreRL up to update 3, continued by NSR-PreRL."""
    start = reincarnate(monkeypatch, parent / "checkpoints/update000003/manifest.json", shop.folder / "x/manifest.json")
    rest = job({**PRETRAIN_NEGATIVE, "first_update": 4, "optimizer": "keep"}, validation={"updates": [6]})
    output, whole = shop.run("rest", rest, start=start), shop.run("whole", job(PRETRAIN_NEGATIVE))
    assert metrics(parent) + metrics(output) == metrics(whole)
    assert tensors(output) == tensors(whole)
    assert next_ids(shop.trainer("rest", rest, start=start), 7) == next_ids(
        shop.trainer("whole", job(PRETRAIN_NEGATIVE)), 7
    )


def test_a_phase_may_be_resumed_after_the_hand_over(shop, parent, monkeypatch):
    start = reincarnate(monkeypatch, parent / "checkpoints/update000003/manifest.json", shop.folder / "t/manifest.json")
    second = job(SECOND_PHASE, {"checkpoint_every": 1}, {"updates": [6]})
    expected = shop.run("unbroken", second, start=start)
    trainer = shop.trainer("broken", second, start=start)
    assert trainer.update == 3
    for update in (4, 5):
        trainer.state.write("metrics", update, trainer.step(update))
        trainer.state.save(update, trainer.learner, trainer.accelerator)
    again = shop.trainer("broken", second, start=start)
    assert again.update == 5
    again.run(shop.folder / "broken/output")
    assert tensors(shop.folder / "broken/output") == tensors(expected)


def test_fresh_drops_the_moments_and_nothing_else(shop, parent, monkeypatch):
    source = parent / "checkpoints/update000003/manifest.json"
    keep = reincarnate(monkeypatch, source, shop.folder / "keep/manifest.json")
    fresh = reincarnate(monkeypatch, source, shop.folder / "fresh/manifest.json", optimizer="fresh")
    names = {manifest: set(json.loads(manifest.read_text())["files"]) for manifest in (keep, fresh)}
    assert names[keep] - names[fresh] == {"optimizer.safetensors"} and names[fresh] < names[keep]
    steps = {}
    for manifest in (keep, fresh):
        choice = manifest.parent.name
        settings = job({**SECOND_PHASE, "optimizer": choice, "last_update": 4}, validation={"updates": [4]})
        settings |= {"kept_updates": [4], "optimizer_updates": [4]}
        output = shop.run(f"after_{choice}", settings, start=manifest)
        moments = load_file(output / "checkpoints/update000004/optimizer.safetensors")
        steps[choice] = {value.item() for name, value in moments.items() if name.endswith("|step")}
        gradient = torch.cat([value.reshape(-1) for name, value in moments.items() if name.endswith("|exp_avg")])
        norm = 0.1 * min(1.0, metrics(output)[0]["grad_norm"])  # (1 - beta1) x the clipped gradient, if nothing else
        assert (gradient.norm().item() == pytest.approx(norm, rel=1e-4)) is (choice == "fresh")
    assert steps == {"keep": {4.0}, "fresh": {1.0}}


def test_a_hand_over_that_cannot_be_right_is_refused(shop, parent, monkeypatch):
    source = parent / "checkpoints/update000003"
    with pytest.raises(CheckpointError, match="of update 3, not 2"):
        reincarnate(monkeypatch, source / "manifest.json", shop.folder / "u/manifest.json", update=2)
    bare = shop.run("bare", job(FIRST_PHASE, kept_updates=[3], optimizer_updates=[], validation={"updates": [3]}))
    with pytest.raises(CheckpointError, match="no optimizer moments.*keep.*delete .*manifest.json"):
        reincarnate(monkeypatch, bare / "checkpoints/update000003/manifest.json", shop.folder / "v/manifest.json")
    with pytest.raises(CheckpointError, match="is missing"):
        reincarnate(monkeypatch, parent / "checkpoints/update000009/manifest.json", shop.folder / "w/manifest.json")


@pytest.mark.parametrize(("made", "asked"), [("keep", "fresh"), ("fresh", "keep")])
def test_a_start_that_does_not_fit_the_phases_optimizer_is_refused(shop, parent, monkeypatch, tmp_path, made, asked):
    source = parent / "checkpoints/update000003/manifest.json"
    start = reincarnate(monkeypatch, source, tmp_path / "start/manifest.json", optimizer=made)
    with pytest.raises(CheckpointError, match=f"optimizer: {asked}.*make it again with reincarnate_policy"):
        shop.trainer("unfit", job({**SECOND_PHASE, "optimizer": asked}), start=start)


def test_a_longer_run_goes_on_from_the_state(shop, straight):
    first = job({"last_update": 3}, kept_updates=[3], optimizer_updates=[], validation={"updates": [0, 3]})
    shop.run("longer", first)
    trainer = shop.trainer("longer", job())
    assert trainer.update == 3
    trainer.run(shop.folder / "longer/output")
    assert tensors(shop.folder / "longer/output") == tensors(straight[0])
    assert metrics(shop.folder / "longer/output") == metrics(straight[0])


@pytest.mark.parametrize(("kept", "resumed"), [([6], 6), ([3, 6], 6), ([4, 6], 3), ([2, 6], 0)])
def test_a_new_kept_update_resumes_before_it(shop, straight, kept, resumed):
    name = f"kept{kept[0]}"
    shutil.copytree(shop.folder / "straight", shop.folder / name)
    trainer = shop.trainer(name, job(kept_updates=kept))
    assert trainer.update == resumed
    trainer.run(shop.folder / name / "output")
    assert tensors(shop.folder / name / "output") == tensors(straight[0])
    assert metrics(shop.folder / name / "output") == metrics(straight[0])
    listed = json.loads((shop.folder / name / "output/checkpoints/manifest.json").read_text())["checkpoints"]
    assert set(listed) == set(map(str, kept))


@pytest.mark.parametrize(
    "changed",
    [
        job(training={"learning_rate": 2e-3}),
        job({"samples": "negative"}),
        job({"coefficient": 0.5}),
        job(seed=12),
        job(sampling=job()["sampling"] | {"temperature": 0.9}),
        job(training={"token_mean": {"mode": "official", "max_tokens_per_micro_batch": 60, "ranks": 2}}),
    ],
)
def test_changed_settings_make_the_state_foreign(shop, straight, changed):
    assert shop.trainer("straight", changed).update == 0
    assert shop.trainer("straight", job()).update == 6  # and the old one is as it was


@pytest.mark.parametrize("changed", [{"checkpoint_every": 2}, {"max_gap_nats": 1.0}])
def test_settings_that_change_no_weights_keep_the_state(shop, straight, changed):
    assert shop.trainer("straight", job(training=changed)).update == 6


def test_changed_code_start_or_problems_make_the_state_foreign(shop, straight, tmp_path):
    code = tmp_path / "code.py"
    code.write_text("one = 2\n")
    assert shop.trainer("straight", job(), code=[code]).update == 0
    assert shop.trainer("straight", job(), train=make_problems(tmp_path / "train.parquet", 20)).update == 0
    shutil.copytree(shop.base.parent, tmp_path / "base")
    assert shop.trainer("straight", job(), start=tmp_path / "base/manifest.json").update == 6  # the same content
    other = shop.folder / "parent/output/checkpoints/update000003/manifest.json"
    assert shop.trainer("straight", job(), start=other).update == 0


def test_a_finished_run_removes_foreign_states(shop):
    short = job({"last_update": 1}, kept_updates=[1], optimizer_updates=[], validation={"updates": [1]})
    shop.run("foreign", short)
    shop.run("foreign", short | {"seed": 12})
    states = [path for path in (shop.folder / "foreign/state").iterdir() if path.is_dir()]
    assert states == [shop.trainer("foreign", short | {"seed": 12}).state.folder]


def test_changed_validation_measures_again_and_leaves_the_weights(shop, straight, tmp_path):
    """Validation changes no weights, so the state is not foreign, but its own records are."""
    for name, settings, files in (
        ("samples", job(validation={"samples_per_question": 2}), shop.validation),
        ("benchmarks", job(), shop.validation[:1]),
        ("questions", job(), [make_problems(tmp_path / "easy.parquet", 4), shop.validation[1]]),
    ):
        shutil.copytree(shop.folder / "straight", shop.folder / name)
        output = shop.run(name, settings, validation=files)
        rows = pq.read_table(output / "validation.parquet").to_pylist()
        expected = [(u, file.stem, len(pq.read_table(file))) for u in (0, 6) for file in files]
        assert [(row["update"], row["benchmark"], row["n_questions"]) for row in rows] == expected
        assert {row["n_samples"] for row in rows} == {settings["validation"]["samples_per_question"]}
        assert tensors(output) == tensors(straight[0])


def test_a_damaged_start_is_refused(shop, tmp_path):
    shutil.copytree(shop.base.parent, tmp_path / "base")
    (tmp_path / "base/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="config.json is damaged"):
        shop.trainer("never", job(), start=tmp_path / "base/manifest.json")


def test_published_checkpoints_are_transformers_folders_and_the_manifest_names_them(shop, straight):
    output = shop.run("published", job(kept_updates=[2, 6], optimizer_updates=[2]))
    folders = sorted((output / "checkpoints").glob("update*"))
    assert [folder.name for folder in folders] == ["update000002", "update000006"]
    assert [(folder / "optimizer.safetensors").is_file() for folder in folders] == [True, False]
    listed = json.loads((output / "checkpoints/manifest.json").read_text())["checkpoints"]
    assert listed == {"2": sha256_of(folders[0] / "manifest.json"), "6": sha256_of(folders[1] / "manifest.json")}
    for folder in folders:
        verify(folder / "manifest.json")
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model(input_ids=torch.tensor([[PREFIX]])).logits.isfinite().all()
    progress = json.loads((shop.folder / "published/state/progress.json").read_text())
    reward = metrics(output)[-1]["reward_mean"]
    assert progress == {"update": 6, "first_update": 1, "updates": 6, "reward": reward}


def test_a_metric_without_any_value_is_a_column_of_floats():
    table = table_of([{"update": 1, "never": None}, {"update": 2, "never": None}])
    assert table["never"].type == "double" and table.to_pydict() == {"update": [1, 2], "never": [None, None]}
