"""Workers that can be killed: what comes back of a task that fails, and that workers are kept and replaced."""

import os
import time
from functools import partial

import pytest

from prerl.core.killable import Failed, NotStarted, Pool

pytestmark = pytest.mark.slow


def load(log):
    """The function; the log gets a line for each start."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    return act


def act(what, value=0):
    if what == "hang":
        time.sleep(600)
    if what == "exit":
        os._exit(3)
    if what == "raise":
        raise ValueError(f"bad\n{value}")
    return value * 2, os.getpid()


def broken():
    raise ImportError("no module named so")


def dead():
    os._exit(1)


def test_each_task_has_its_result_or_what_became_of_it(tmp_path):
    tasks = [("", 1), ("raise", 7), ("hang",), ("", 2), ("exit",), ("", 3)]
    with Pool(partial(load, tmp_path / "log"), 2, 2.0) as pool:
        results = pool.run(tasks)
    assert [result[0] for result in results if isinstance(result, tuple)] == [2, 4, 6]
    raised, stopped, died = (results[i] for i in (1, 2, 4))
    assert raised.why.startswith("raised ValueError: bad 7 (test_killable.py, line ")
    assert (stopped, died) == (Failed("stopped at 2 s"), Failed("its process died"))


def test_workers_are_kept_from_call_to_call_and_closed(tmp_path):
    pool = Pool(partial(load, tmp_path / "log"), 2, 20.0)
    first, second = pool.run([("", 1)]), pool.run([("", i) for i in range(20)])
    assert [result[0] for result in second] == [2 * i for i in range(20)]
    started = (tmp_path / "log").read_text().split()
    kept = first[0][1]
    assert started[0] == str(kept) in {str(process) for _, process in second} and len(started) <= 2
    pool.close()
    assert not any(os.path.exists(f"/proc/{process}") for process in started)
    assert pool.run([]) == []


@pytest.mark.parametrize(
    ("load", "said"), [(broken, "raised ImportError: no module named so"), (dead, "not ready within")]
)
def test_a_worker_that_cannot_start_ends_the_run(load, said):
    with pytest.raises(NotStarted, match=said):
        Pool(load, 1, 5.0).run([("", 1)])
