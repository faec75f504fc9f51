"""Table: answers of others beside the runs of this scale, graded and counted by the same rules (rule compare_external).

Accuracy in % with its bootstrap over questions, for others and for ours, whose questions are averaged over seeds; the
difference to the given answers, paired by question. Runs that are not evaluated yet are left out.
"""

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON, see rules/compare.smk")
    parser.add_argument("--answers", required=True, type=Path, help="JSON lines: benchmark, question, text")
    parser.add_argument("--problems", required=True, type=Path, nargs="+", help="{benchmark}.parquet with answers")
    parser.add_argument("--runs", required=True, type=json.loads, help="JSON: model -> its questions table")
    parser.add_argument("--csv", required=True, type=Path)
    parser.add_argument("--md", required=True, type=Path)
    arguments = parser.parse_args()
    # imported here, not above: every grading worker imports this file again and needs none of it
    from prerl.core.files import read_problems, read_table
    from prerl.evaluation.external import questions_of_external, read_external
    from prerl.publishing.comparison import compare, reading_form
    from prerl.publishing.inputs import Job
    from prerl.publishing.tables import write

    settings = arguments.settings
    problems = {(path.stem, row["id"]): row for path in arguments.problems for row in read_problems(path).to_pylist()}
    answers = read_external(arguments.answers, problems)
    given = questions_of_external(answers, problems, settings["rules"])
    runs = {model: read_table(Path(path)).to_pandas() for model, path in arguments.runs.items()}
    table = compare(arguments.answers.name, given, runs, settings)
    missing = [model for model in settings["models"] if model not in runs]
    notes = [f"{model} is not evaluated yet, so it is not compared." for model in missing]
    outputs = {"csv": arguments.csv, "md": arguments.md}
    write(Job(settings, {}, outputs), table, notes, reading_form(table))
    print(arguments.md.read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_main(main)
