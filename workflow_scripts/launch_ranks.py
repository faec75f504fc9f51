"""Start a script once for every GPU of its job, by torchrun; where one process fails, all end.

Of a failure only the words of the process that failed remain (prerl/__init__.py), none of torchrun's.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from prerl import UserError


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
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        # the `--` of the command stays: torchrun would take --start for its own --start-method
        torchrun(["--standalone", "--nproc-per-node", str(arguments.gpus or arguments.processes), *arguments.command])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
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
