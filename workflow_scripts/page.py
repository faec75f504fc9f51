"""The page of a run, index.html, and the claims for a terminal, paper_vs_ours.md.

With --results alone it makes them again from figures/, tables/ and page/ of a finished or copied run.
"""

import argparse
import json
import shutil
from pathlib import Path

from prerl.core.errors import UserError, run_main
from prerl.core.files import write_json
from prerl.publishing.inputs import read_tables
from prerl.publishing.page import provenance_of, render, shown_answers, write_training


def facts_of(arguments: argparse.Namespace) -> dict:
    """What the page says of the run beside figures and tables; writes page/training."""
    settings, results = arguments.settings, arguments.results
    training = results / "page/training"
    if training.exists():
        shutil.rmtree(training)
    return {
        "settings": settings,
        "study": arguments.study,
        "answers": shown_answers(settings, arguments.block),
        "provenance": provenance_of(results, settings, arguments.block, arguments.rules.read_text(encoding="utf-8")),
        "training": write_training(training, read_tables("curves", arguments.curves, settings), settings),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, type=Path, help="folder of the run")
    parser.add_argument("--settings", type=json.loads, help="JSON settings of the publish stage")
    parser.add_argument("--block", type=json.loads, help="JSON, the scale's complete settings")
    parser.add_argument("--study", help="the numbers behind figures and tables in one paragraph")
    parser.add_argument("--curves", nargs="+", type=Path, help="curves of each model")
    parser.add_argument("--rules", type=Path, help="what `snakemake --rulegraph` prints")
    arguments = parser.parse_args()
    facts_file = arguments.results / "page/page.json"
    if arguments.settings is not None:
        write_json(facts_file, facts_of(arguments))
    elif not facts_file.is_file():
        raise UserError(
            f"{facts_file} is missing: copy it with the run's figures/ and tables/, or run `snakemake page`"
        )
    page, claims = render(arguments.results, json.loads(facts_file.read_text(encoding="utf-8")))
    (arguments.results / "index.html").write_text(page, encoding="utf-8")
    (arguments.results / "paper_vs_ours.md").write_text(claims, encoding="utf-8")
    print(f"{arguments.results}/index.html: {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_main(main)
