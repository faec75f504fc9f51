"""A job that is killed at any point, and again, ends bitwise equal to one that was not. On CPU.

KILL_POINTS sets how many points each test tries (all where there are fewer); with `-s` they say how many.
"""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from killable import Killer, spread
from prerl.core.files import lock_folder
from prerl.core.hashes import sha256_of
from prerl.models.checkpoints import verify
from tiny import ARCHITECTURE
from tiny_training import POSTTRAIN_ALL, PRETRAIN_NEGATIVE, SAMPLING, Workshop, job, make_problems, metrics
from training_jobs import SCRIPTS, Training, start_script, updates_done, wait_for_update

pytestmark = pytest.mark.slow

POINTS = int(os.environ.get("KILL_POINTS", "10"))
KEPT = [3, 6]
SETTINGS = job(
    training={"checkpoint_every": 2}, validation={"updates": [0, 3, 6]}, kept_updates=KEPT, optimizer_updates=KEPT
)


def chosen(total: int, count: int = POINTS) -> list[int]:
    """`count` of the points 0 … total - 1, the same ones every time."""
    return sorted(random.Random(0).sample(range(total), min(count, total)))


@pytest.fixture(scope="module")
def killers():
    killers = [Killer(), Killer()]
    yield killers
    for killer in killers:
        killer.server.stdin.close()
        killer.server.stdout.close()
        killer.server.wait()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("faults"))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.startswith(".")]


@pytest.fixture(scope="module")
def straight(shop, killers):
    """The undisturbed run: its results, the points that it passes and its seconds."""
    training = Training(shop, SETTINGS)
    folder = shop.folder / "straight"
    end = killers[0].run("train_policy", training.arguments(folder), folder)
    assert end["code"] == 0, Path(f"{folder}.log").read_text()
    return training, training.results(folder), end


def kill_and_go_on(killer: Killer, training: Training, folder: Path, kills: list[dict]) -> int:
    """Kill the job in `folder` once for each of `kills`, let it end; returns how many updates were done twice."""
    arguments = training.arguments(folder)
    for kill in kills:
        end = killer.run("train_policy", arguments, folder, **kill)
        if end["code"] == 0:  # it was faster than the clock
            break
        assert end["code"] == -signal.SIGKILL, Path(f"{folder}.log").read_text()
        if (folder / "output/checkpoints/manifest.json").is_file():  # written last: all it lists stands
            for update in KEPT:
                verify(folder / f"output/checkpoints/update{update:06d}/manifest.json")
    end = killer.run("train_policy", arguments, folder)
    assert end["code"] == 0, Path(f"{folder}.log").read_text()
    return len(updates_done(folder)) - 6


def test_every_kind_of_point_is_there(straight):
    names = straight[2]["points"]
    assert set(names) == {
        *("open", "fsync", "torn", "mkdir", "rename", "link", "remove", "rmdir"),
        *("sampling", "measuring", "backward", "optimizer step", "update done"),
    }
    assert names.count("backward") == names.count("optimizer step") == names.count("update done") == 6
    assert names.count("sampling") == 6 + 3  # updates and validations
    assert names.count("link") == sum(len(list(Path(folder).iterdir())) - 1 for folder in published(straight))


def published(straight) -> list[Path]:
    return [straight[0].shop.folder / f"straight/output/checkpoints/update{update:06d}" for update in KEPT]


def test_a_run_killed_at_any_point_ends_as_the_undisturbed_one(shop, killers, straight):
    training, expected, end = straight

    def one(killer, point):
        folder = shop.folder / f"point{point}"
        redone = kill_and_go_on(killer, training, folder, [{"at": point}])
        assert training.results(folder) == expected, (point, end["points"][point])
        assert not leftovers(folder), (point, end["points"][point])
        return redone

    points = chosen(len(end["points"]))
    redone = spread(killers, one, points)
    print(f"\nkilled at {len(points)} of {len(end['points'])} points: lost 0, redone at most {max(redone)} updates")
    assert max(redone) <= SETTINGS["training"]["checkpoint_every"]


def test_a_run_killed_at_any_time_ends_as_the_undisturbed_one(shop, killers, straight):
    training, expected, end = straight
    rng = random.Random(1)

    def one(killer, number):
        folder = shop.folder / f"time{number}"
        redone = kill_and_go_on(killer, training, folder, [{"after_s": rng.uniform(0, end["seconds"])}])
        assert training.results(folder) == expected
        return redone

    redone = spread(killers, one, range(POINTS // 2))
    print(f"\nkilled at {POINTS // 2} random times: lost 0, redone at most {max(redone)} updates")
    assert max(redone) <= SETTINGS["training"]["checkpoint_every"]


def test_a_run_killed_again_and_again_ends_as_the_undisturbed_one(shop, killers, straight):
    training, expected, end = straight

    def one(killer, number):
        folder = shop.folder / f"again{number}"
        rng = random.Random(number)
        kills = [{"at": rng.randrange(len(end["points"]) // 3)} for _ in range(6)]
        kill_and_go_on(killer, training, folder, kills)
        assert training.results(folder) == expected
        assert not leftovers(folder)

    spread(killers, one, range(max(2, POINTS // 6)))
    print(f"\nkilled six times in a row in {max(2, POINTS // 6)} runs: lost 0")


def killed_at_each_point(killers, script, arguments, root: Path, results, count: int = POINTS) -> None:
    """Kill `script` at `count` chosen points and run it again: `results` (of a folder) must be those of a whole run."""
    end = killers[0].run(script, arguments(root / "whole"), root / "whole")
    assert end["code"] == 0, (root / "whole.log").read_text()
    expected = results(root / "whole")

    def one(killer, point):
        folder = root / f"point{point}"
        assert killer.run(script, arguments(folder), folder, at=point)["code"] == -signal.SIGKILL
        again = killer.run(script, arguments(folder), folder)
        assert again["code"] == 0, Path(f"{folder}.log").read_text()
        assert results(folder) == expected, (point, end["points"][point])
        assert not leftovers(folder), (point, end["points"][point])

    points = chosen(len(end["points"]), count)
    spread(killers, one, points)
    print(f"\n{script} killed at {len(points)} of {len(end['points'])} points: lost 0")


def test_ppo_killed_at_any_point_ends_as_the_undisturbed_one(shop, killers, tmp_path):
    """Its state holds the critic as well."""
    ppo = {"estimator": "gae", "advantage_std": False}
    training = {"checkpoint_every": 2}
    settings = job(ppo, training, {"updates": [0, 3, 6]}, kept_updates=KEPT, optimizer_updates=[3])
    settings["critic"] = {"learning_rate": 1e-3, "weight_decay": 0.01, "grad_clip": 1.0, "clip_value": 0.5}
    settings["critic"]["warmup_updates"] = 1

    def results(folder: Path) -> list:
        names = ("critic.safetensors", "critic_optimizer.safetensors", "optimizer.safetensors", "model.safetensors")
        (state,) = (folder / "state").glob("*/checkpoints/update000006")
        return [metrics(folder / "output"), *(sha256_of(state / name) for name in names)]

    arguments = Training(shop, settings).arguments
    killed_at_each_point(killers, "train_policy", arguments, tmp_path, results, POINTS // 3)


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_hand_over_killed_at_any_point_and_the_phase_after_it(shop, killers, straight, tmp_path):
    first = {**PRETRAIN_NEGATIVE, "last_update": 3}
    parent = shop.run("parent", job(first, kept_updates=[3], optimizer_updates=[3], validation={"updates": [3]}))

    def arguments(folder: Path) -> list[str]:
        source = parent / "checkpoints/update000003/manifest.json"
        settings = json.dumps({"update": 3, "optimizer": "keep", "start": "trained"})
        return ["--settings", settings, "--checkpoint", str(source), "--start", str(folder / "start/manifest.json")]

    killed_at_each_point(killers, "reincarnate_policy", arguments, tmp_path, files_of)
    start = tmp_path / "whole/start/manifest.json"
    second = {**POSTTRAIN_ALL, "first_update": 4, "optimizer": "keep"}
    training = Training(shop, job(second, {"checkpoint_every": 1}, {"updates": [6]}), start=start)
    expected = None
    for name, kills in (("phase", []), ("phase_killed", [{"at": 9}, {"at": 60}, {"at": 60}])):
        folder = shop.folder / name
        for kill in kills:
            assert killers[0].run("train_policy", training.arguments(folder), folder, **kill)["code"] == -9
        end = killers[0].run("train_policy", training.arguments(folder), folder)
        assert end["code"] == 0, Path(f"{folder}.log").read_text()
        expected = expected or training.results(folder)
        assert training.results(folder) == expected


def test_sampling_killed_at_any_point_gives_equal_samples(shop, killers, tmp_path):
    settings = {"seed": 1, "updates": [0, 2], "samples_per_question": 2, "engine": {"name": "transformers"}}
    settings |= {"prompt": job()["prompt"], "sampling": SAMPLING}
    questions = [str(make_problems(tmp_path / f"set{i}.parquet", 3)) for i in range(2)]

    def arguments(folder: Path) -> list[str]:
        samples = ["--state", str(folder / "state"), "--samples", str(folder / "output/samples.parquet")]
        policies = ["--policies", str(shop.base), str(shop.base), "--questions", *questions]
        return ["--settings", json.dumps(settings), *policies, *samples]

    def results(folder: Path) -> list[dict]:
        rows = pq.read_table(folder / "output/samples.parquet").to_pylist()
        assert len(rows) == 2 * 2 * 3 * 2
        return rows

    killed_at_each_point(killers, "generate_samples", arguments, tmp_path, results)


def test_pretraining_killed_at_any_point_leaves_nothing_half_written(killers, tmp_path):
    corpus = {"chain_weights": {"3": 1.0}, "prompt_thinking": 0.3, "prompt_no_thinking": 0.3}
    corpus |= {"careful_if_thinking": 0.9, "careful_if_no_thinking": 0.1, "careful_if_alone": 0.5}
    corpus |= {"guess_right": 0.25, "step_wrong": 0.1, "check": 0.3, "check_right": 0.97}
    pretraining = {"updates": 2, "batch_documents": 4, "muon_learning_rate": 0.01, "adamw_learning_rate": 0.001}
    settings = {"seed": 1, "corpus": corpus, "architecture": ARCHITECTURE}
    settings["pretraining"] = pretraining | {"micro_batch_tokens": 2048}

    def arguments(folder: Path) -> list[str]:
        return ["--settings", json.dumps(settings), "--manifest", str(folder / "model/manifest.json")]

    def results(folder: Path) -> dict[str, str]:
        verify(folder / "model/manifest.json")
        return files_of(folder)

    killed_at_each_point(killers, "pretrain_miniature_model", arguments, tmp_path, results)


@pytest.mark.parametrize("numbers", [[signal.SIGKILL], [signal.SIGTERM], [signal.SIGTERM, signal.SIGKILL]])
def test_the_script_itself_ended_by_a_signal_goes_on(shop, straight, numbers):
    """SIGTERM and SIGKILL: less time between them than an update takes."""
    training, expected, _ = straight
    folder = shop.folder / "signals{}".format("_".join(map(str, map(int, numbers))))
    process = start_script(training, folder)
    wait_for_update(process, folder, 3)
    for number in numbers:
        process.send_signal(number)
    assert process.wait() == -numbers[-1]
    assert start_script(training, folder).wait() == 0, (folder / "log").read_text()
    assert training.results(folder) == expected
    assert not leftovers(folder)


def test_a_second_job_on_the_same_state_ends_at_once_and_names_the_first(shop, straight):
    training, expected, _ = straight
    folder = shop.folder / "two"
    first = start_script(training, folder)
    wait_for_update(first, folder, 1)
    first.send_signal(signal.SIGSTOP)  # it holds the state as long as the second asks
    try:
        assert start_script(training, folder).wait(timeout=120) == 1
        said = (folder / "log").read_text()
        assert f"error: {folder}/state is in use by process {first.pid} on " in said
        assert "wait for that job to end, or end it there by `kill`" in said
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait() == 0, (folder / "log").read_text()
    assert training.results(folder) == expected


def test_a_second_sampling_job_on_the_same_state_ends_at_once(shop, tmp_path):
    command = [sys.executable, str(SCRIPTS / "generate_samples.py"), "--settings", "{}", "--policies", str(shop.base)]
    command += ["--questions", str(shop.train), "--state", str(tmp_path)]
    command += ["--samples", str(tmp_path / "samples.parquet")]
    with lock_folder(tmp_path):
        second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 1
    assert f"error: {tmp_path} is in use by process {os.getpid()} on " in second.stderr
    with lock_folder(tmp_path):  # and it is free again
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
