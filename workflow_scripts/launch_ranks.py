"""Start a script once for every GPU of its job by torchrun, on several nodes through srun; if one fails, all end.

On a failure only the message of the process that failed remains (prerl/core/errors.py), none of torchrun's.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from prerl.core.errors import UserError, run_main


class Termination:
    """Forwards SIGTERM to the processes, which save and exit (training/time_limit.py); torchrun would kill them."""

    def __init__(self) -> None:
        self.told = False
        signal.signal(signal.SIGTERM, self._pass_on)

    def _pass_on(self, number: int, _frame: object) -> None:
        self.told = True
        for children in Path("/proc/self/task").glob("*/children"):
            for child in children.read_text().split():
                os.kill(int(child), number)


def take_nodes(nodes: int, cores: int) -> NoReturn:
    """Become an srun that starts this launcher on each node of the SLURM job, with `cores` of its cores.

    All processes rendezvous at the first node, where this runs. srun kills all launchers if one fails.
    """
    with socket.socket() as listener:
        listener.bind(("", 0))
        head = f"{socket.gethostname()}:{listener.getsockname()[1]}"
    options = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cores}"]
    options += ["--cpu-bind=none", "--kill-on-bad-exit=1", "--unbuffered"]
    os.execvp("srun", ["srun", *options, sys.executable, sys.argv[0], "--head", head, *sys.argv[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--gpus", type=int, help="GPUs of all nodes of the job: one process on each")
    wanted.add_argument("--processes", type=int, help="number of processes, without GPUs")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the job; more than 1 needs a SLURM job")
    parser.add_argument("--cores", type=int, help="cores of the job on each node, if there are several")
    parser.add_argument("--head", help="HOST:PORT of the first node; set by this script itself")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- script and its arguments")
    arguments = parser.parse_args()
    per_node = (arguments.gpus or arguments.processes) // arguments.nodes  # prerl.config.checks refuses other numbers
    if arguments.nodes > 1 and not arguments.head:
        take_nodes(arguments.nodes, arguments.cores)
    if arguments.gpus and torch.cuda.device_count() < per_node:
        raise UserError(
            f"resources.*.gpu: {per_node} a node, but torch sees {torch.cuda.device_count()} on {socket.gethostname()}:"
            " ask for fewer, or check the node's driver and the CUDA build of torch"
        )
    termination = Termination()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    options = ["--nproc-per-node", str(per_node)]
    if arguments.nodes == 1:
        options += ["--standalone"]
    else:
        host, port = arguments.head.split(":")
        options += ["--nnodes", str(arguments.nodes), "--node-rank", os.environ["SLURM_NODEID"]]
        options += ["--master-addr", host, "--master-port", port]
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
                f"process {rank} was ended by {failure.signal_name()}, then the others: after SIGKILL check whether "
                "the node ran out of memory, and raise mem_mb of the rule in resources"
            ) from None
        sys.exit(1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == "__main__":
    run_main(main, recorded=False)  # rank 0 is
