"""Compare a run's tables with a reference's, bitwise where they must agree, and say which; status 1 if they do not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from prerl.core.errors import UserError, run_main
from prerl.publishing.verification import compare, what_differs


def read(path: Path) -> pd.DataFrame:
    """A table with every cell as it is written."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def summary_of(folder: Path) -> dict | None:
    """What is known of where the results in `folder` come from."""
    path = folder / "provenance.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main() -> int:
    """Print a line for each table and what disagrees below it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path, help="results/{scale}")
    parser.add_argument(
        "--against", required=True, type=Path, help="a folder with tables/ and, if known, provenance.json"
    )
    parser.add_argument("--confidence", required=True, type=float)
    given = parser.parse_args()
    references = sorted((given.against / "tables").glob("*.csv"))
    if not references:
        raise UserError(f"{given.against}/tables holds no CSV: give a folder such as results/reference/miniature")
    differs = what_differs(summary_of(given.results), summary_of(given.against))
    if differs:
        print(f"Compared within intervals, since these differ or are not known: {', '.join(differs)}.")
    else:
        print("Compared bitwise: code, settings, packages, seeds and chips are equal.")
    faults = 0
    for path in references:
        own = given.results / "tables" / path.name
        if not own.is_file():
            print(f"{path.stem}: not made in {given.results}")
            continue
        found = compare(read(own), read(path), not differs, given.confidence)
        values = f", {found.values} values with intervals" if differs else ""
        print(f"{path.stem}: {found.equal} of {found.rows} rows equal bitwise{values}, {len(found.faults)} disagree")
        for fault in found.faults:
            print(f"  disagrees: {fault}")
        for note in found.notes:
            print(f"  note: {note}")
        faults += len(found.faults)
    print(f"{faults} disagree with the reference." if faults else "The run agrees with the reference.")
    return 1 if faults else 0


if __name__ == "__main__":
    run_main(main)
