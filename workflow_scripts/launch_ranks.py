"""Start a script once for every GPU of its job, by torchrun; where one process fails, all end.

Of a failure only the words of the process that failed remain (prerl/__init__.py), none of torchrun's.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from prerl import UserError


class Termination:
    """Passes SIGTERM on to the processes, which save and end (prerl/slices.py), in place of torchrun's ending them."""

    def __init__(self) -> None:
        self.told = False
        signal.signal(signal.SIGTERM, self._pass_on)

    def _pass_on(self, number: int, _frame: object) -> None:
        self.told = True
        for children in Path("/proc/self/task").glob("*/children"):
            for child in children.read_text().split():
                os.kill(int(child), number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--gpus", type=int, help="GPUs that the job asked for: one process on each")
    wanted.add_argument("--processes", type=int, help="processes without a GPU each")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- script and its arguments")
    arguments = parser.parse_args()
    if arguments.gpus and torch.cuda.device_count() < arguments.gpus:
        raise UserError(
            f"resources.*.gpu: {arguments.gpus}, but torch sees {torch.cuda.device_count()} on {socket.gethostname()}: "
            "ask for fewer, or look at the node's driver and the CUDA build of torch"
        )
    termination = Termination()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    options = ["--standalone", "--nproc-per-node", str(arguments.gpus or arguments.processes)]
    options += ["--signals-to-handle", "SIGINT,SIGHUP,SIGQUIT"]
    try:
        # the `--` of the command stays: torchrun would take --start for its own --start-method
        torchrun([*options, *arguments.command])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if termination.told:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if failure.exitcode < 0:
            raise UserError(
                f"process {rank} was ended by {failure.signal_name()}, and so the others: after SIGKILL look whether "
                "the node's memory was full, and raise mem_mb of the rule in resources"
            ) from None
        sys.exit(1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == "__main__":
    main()
