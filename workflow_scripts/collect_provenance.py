"""Where a run's results come from: its jobs' records summed up, in all and by rule (provenance.json)."""

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.core.files import write_json
from prerl.publishing.provenance import by_rule, read_records, summary


def main() -> None:
    """Write the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON settings of the publish stage")
    parser.add_argument("--records", required=True, type=Path, help="folder of the jobs' records")
    parser.add_argument("--summary", required=True, type=Path)
    given = parser.parse_args()
    records = read_records(given.records)
    write_json(given.summary, summary(records, given.settings) | {"rules": by_rule(records, given.settings)})


if __name__ == "__main__":
    run_main(main)
