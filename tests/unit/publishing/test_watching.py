"""`make watch`: what it reads from state folders, and whom its server answers."""

import html
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from page_run import write_run
from prerl.publishing.watching import situation
from watch import Watcher


@pytest.fixture
def results(tmp_path: Path) -> Path:
    state = tmp_path / "smoke/state"
    write_run(state, "grpo", 3, 3)
    run = write_run(state, "dsrl", 2, 3)
    answers = [{"problem": "1+1", "text": "</script>\u202e<script>2", "reward": 0.0}]
    (run / "last_answers.json").write_text(json.dumps({"update": 2, "answers": answers}))
    return tmp_path / "smoke"


def test_the_situation_by_hand(results):
    found = situation(results)
    assert [(run["name"], run["update"], run["updates"], run["reward"], run["state"]) for run in found["runs"]] == [
        ("dsrl, seed 11", 2, 3, 0.2, "running"),
        ("grpo, seed 11", 3, 3, 0.3, "done"),
    ]
    reward = next(panel for panel in found["panels"] if panel["title"] == "Mean reward")
    assert [(series["name"], series["x"], series["y"]) for series in reward["series"]] == [
        ("dsrl, seed 11", [1, 2], [0.1, 0.2]),
        ("grpo, seed 11", [1, 2, 3], [0.1, 0.2, 0.3]),
    ]
    (sample,) = found["samples"]
    assert (sample["name"], sample["update"]) == ("dsrl, seed 11", 2)
    assert sample["answers"][0]["text"] == "</script>⟨U+202E⟩<script>2"


def test_jobs_by_the_end_of_snakemakes_log(results):
    log = results / "logs/snakemake.log"
    log.parent.mkdir()
    log.write_text(
        "1 of 119 steps (1%) done\n" + "x" * 200_000 + "\n51 of 119 steps\n52 of 119 steps (44%) done\nrule x:\n"
    )
    assert situation(results)["jobs"] == "52 of 119 jobs"
    log.unlink()
    assert situation(results)["jobs"] == ""


def test_a_run_that_says_nothing_for_long_is_not_running(results):
    old = time.time() - 600
    os.utime(results / "state/miniature/dsrl/seed11/progress.json", (old, old))
    assert situation(results)["runs"][0]["state"] == "nothing for 10 min"


def test_of_two_settings_the_later_counts(results):
    run = write_run(results / "state", "dsrl", 1, 3, folder="4567")
    later = time.time() + 60
    os.utime(run / "4567/metrics", (later, later))
    reward = situation(results)["panels"][0]
    assert reward["series"][0]["x"] == [1]


def test_before_the_first_update_there_is_nothing(tmp_path):
    found = situation(tmp_path)
    assert found["runs"] == found["samples"] == [] and all(panel["series"] == [] for panel in found["panels"])


@pytest.fixture
def watcher(results: Path) -> Iterator[Watcher]:
    server = Watcher(results, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(watcher: Watcher, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", watcher.server_port)
    connection.request("GET", path, headers={"Host": host} if host else {})
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def test_the_server_answers_this_machine_by_its_name_alone(watcher):
    assert watcher.server_address[0] == "127.0.0.1"
    status, page = ask(watcher, "/")
    assert status == 200 and "connect-src 'self'" in html.unescape(page) and "smoke, as it runs" in page
    status, told = ask(watcher, "/situation", f"localhost:{watcher.server_port}")
    assert status == 200 and json.loads(told)["runs"][0]["name"] == "dsrl, seed 11"
    assert ask(watcher, "/situation", "evil.example")[0] == 403
    assert ask(watcher, "/../state/miniature/dsrl/seed11/progress.json")[0] == 404
