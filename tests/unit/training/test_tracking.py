"""Metrics in a tracker: the values of metrics.parquet, each step once however a job was interrupted, one run."""

import json
import struct

import pyarrow.parquet as pq
import pytest

from prerl.core.errors import UserError
from prerl.training import tracking
from prerl.training.tracking import TrackerSettings, tracked_name, tracked_values
from tiny_training import Workshop, job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("tracking"))


class Service:
    """Stands for wandb's or mlflow's: what each run id was sent, in order."""

    def __init__(self):
        self.runs, self.finished = {}, 0

    def start(self, settings, state, run_id, step):
        run_id = run_id or f"id-of-{settings.run}"
        sent = self.runs.setdefault(run_id, [])

        class Tracker:
            def log(own, values, step):
                sent.append((step, values))

            def finish(own):
                self.finished += 1

        return Tracker(), run_id


@pytest.fixture
def service(monkeypatch):
    made = Service()
    monkeypatch.setattr(tracking, "start", made.start)
    monkeypatch.setitem(tracking.AVAILABLE, "wandb", lambda: True)
    return made


def wandb(shop):
    return TrackerSettings(name="wandb", folder=str(shop.folder / "tracking"), run="tiny_grpo_seed11")


def expected(output):
    """(step, values) that a run must have been sent, from its tables."""
    rows = {row["update"]: row for row in pq.read_table(output / "metrics.parquet").to_pylist()}
    validated = pq.read_table(output / "validation.parquet").to_pylist()
    steps = []
    for step in range(7):
        validation = [row for row in validated if row["update"] == step]
        if step in rows or validation:
            steps.append((step, tracked_values(rows.get(step), validation)))
    return steps


def test_a_run_that_died_and_stopped_is_one_run_with_each_step_once(shop, service):
    """Checkpoints after 3 and 6. Updates 4 and 5 are done, lost, and done again; a time limit stops after 4."""
    shop.killed("a", job(), 6, tracker=wandb(shop))
    assert [step for step, _ in service.runs["id-of-tiny_grpo_seed11"]] == [0, 1, 2, 3] and service.finished == 0
    stopped = shop.trainer("a", job(), tracker=wandb(shop))
    assert not stopped.run(stopped.state.root.parent / "output", lambda: True)
    assert service.finished == 1
    output = shop.run("a", job(), tracker=wandb(shop))
    assert service.runs == {"id-of-tiny_grpo_seed11": expected(output)} and service.finished == 2


def test_a_tracker_that_is_chosen_later_gets_the_updates_before(shop, service):
    shop.killed("b", job(), 5)
    output = shop.run("b", job(), tracker=wandb(shop))
    assert service.runs == {"id-of-tiny_grpo_seed11": expected(output)}


def test_no_tracker_and_no_trace_by_default(shop, service):
    shop.run("c", job())
    assert service.runs == {} and not list((shop.folder / "c").rglob("tracking_*"))


def test_every_column_has_a_name_of_its_own(shop):
    metrics = pq.read_table(shop.folder / "c/output/metrics.parquet").to_pylist()[0]
    assert set(tracking.NAMES) - set(metrics) == {"value_loss", "value_grad_norm", "value_explained_variance"}
    numbers = {name for name, value in metrics.items() if name != "update" and isinstance(value, (int, float))}
    unnamed = numbers - set(tracking.NAMES) - {"loss", "grad_norm"}
    assert all(name.startswith(tuple(tracking.PREFIXES)) for name in unnamed)
    assert len({tracked_name(name) for name in metrics}) == len(metrics)
    values = tracked_values(metrics, [{"benchmark": "hard", "accuracy": 0.5, "response_tokens_mean": 3.0}
                                      | {"truncation_rate": 0.0}])  # fmt: skip
    assert values["reward/mean"] == metrics["reward_mean"] and values["eval/hard/accuracy"] == 0.5
    assert values["completions/mean_length"] == metrics["response_tokens_mean"]
    assert values["eval/hard/mean_length"] == 3.0 and values["eval/hard/clipped_ratio"] == 0.0
    assert "space" not in values and "update" not in values


def test_a_missing_package_is_told_before_anything_is_loaded(shop, monkeypatch):
    monkeypatch.setitem(tracking.AVAILABLE, "mlflow", lambda: False)
    with pytest.raises(UserError, match="training.tracker: mlflow needs .* `pip install mlflow`.*or set it to none"):
        shop.trainer("d", job(), tracker=TrackerSettings("mlflow", str(shop.folder / "tracking"), "run"))
    monkeypatch.setitem(tracking.AVAILABLE, "mlflow", lambda: True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="mlflow needs the environment variable MLFLOW_TRACKING_URI"):
        shop.trainer("d", job(), tracker=TrackerSettings("mlflow", str(shop.folder / "tracking"), "run"))


def events(file):
    """Events of a file: records of length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event  # of requirements.txt

    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def test_tensorboard_has_the_values(shop):
    """Through accelerate and tensorboardX, read back from the event files; interrupted once."""
    settings = TrackerSettings("tensorboard", str(shop.folder / "tracking"), "tiny_grpo_seed11")
    shop.killed("e", job(), 6, tracker=settings)
    output = shop.run("e", job(), tracker=settings)
    (folder,) = (shop.folder / "tracking/tensorboard").iterdir()
    files = sorted(folder.iterdir(), key=lambda file: file.suffix)
    assert [file.suffix for file in files] == [".000000", ".000004"]  # a file a checkpoint, by its first step
    read = [event for file in files for event in events(file)]
    sent = [(event.step, value.tag, value.simple_value) for event in read for value in event.summary.value]
    wanted = [(step, name, value) for step, values in expected(output) for name, value in values.items()]
    assert [part[:2] for part in sent] == [part[:2] for part in wanted]
    assert [part[2] for part in sent] == pytest.approx([part[2] for part in wanted], rel=1e-6)
    assert json.loads((next((shop.folder / "e/state").glob("*/tracking_*"))).read_text())["sent"] == 6
