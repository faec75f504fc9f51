"""How many seeds a claim's interval needs to have the stated width, by the spread of the seeds there are."""

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.core.files import write_json
from prerl.publishing.claims import Evidence
from prerl.publishing.inputs import read_tables
from prerl.publishing.more_seeds import choose

INPUTS = ("questions", "scores", "curves")


def main() -> None:
    """Write what to run as JSON and say it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON settings of the publish stage")
    for name in INPUTS:
        parser.add_argument(f"--{name}", required=True, nargs="+", type=Path)
    parser.add_argument("--chosen", required=True, type=Path)
    given = vars(parser.parse_args())
    tables = {name: read_tables(name, given[name], given["settings"]) for name in INPUTS}
    chosen = choose(Evidence(settings=given["settings"], ood={}, gradients={}, **tables))
    write_json(given["chosen"], chosen)
    print(f"{chosen['claim']}: {chosen['needed']} seeds needed; {len(chosen['seeds'])} will be run: {chosen['seeds']}")


if __name__ == "__main__":
    run_main(main)
