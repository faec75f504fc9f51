"""From first_light.json to docs/benchmarks.md and the planner's constants.

    python tests/gpu/report.py results/bench/first_light.json            print the section and the plan's change
    python tests/gpu/report.py results/bench/first_light.json --write    write them into docs and planning/machines.py

The plan's change: GPU-hours of pilot and paper by the formula (planning/machines.py), before and after.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from prerl.config.methods import resolve_methods  # noqa: E402
from prerl.planning import costs, machines  # noqa: E402
from prerl.planning.dry_runs import dry_run, planned_block, planned_jobs  # noqa: E402

PAGE, MACHINES = ROOT / "docs/benchmarks.md", ROOT / "workflow_scripts/prerl/planning/machines.py"
BEGIN, END = "<!-- first light: begin -->", "<!-- first light: end -->"
CONSTANTS = {  # of planning/machines.py: how a line with a measured value is found and written
    "TRAINING_UTILISATION": (r"^TRAINING_UTILISATION = .*$", "TRAINING_UTILISATION = {value:.2f}  # M: {where}, 4B"),
    "STEP_S": (
        r"^STEP_S = .*$",
        'STEP_S = {{"vllm": 0.002, "transformers": {value:.2g}}}  # the latter M: {where}, 0.6B',
    ),
}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table; numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def of(record: dict, stage: str) -> list[dict]:
    return [result for result in record["results"] if result["stage"] == stage]


def number(value: object, digits: int = 3) -> str:
    """Rounded to significant digits; an en dash for None."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if isinstance(value, float) and abs(value) >= 1000 else f"{value:.{digits}g}"


def checks(record: dict) -> str:
    """How many numbers are right, and each that is not; the largest differences."""
    judged = [result for result in record["results"] if "ok" in result]
    wrong = [f"- **wrong**: {result['stage']}, {result['name']}" for result in judged if not result["ok"]]
    rows = [
        [result["name"], *(number(result.get(key), 2) for key in ("mean", "largest", "relative_difference", "cosine"))]
        for result in of(record, "right")
        if "largest" in result or "cosine" in result
    ]
    header = ["against plain float32 and the CPU", "mean, nats", "largest, nats", "gradient, relative", "cosine"]
    repeated = [result["same_bits_again"] for result in judged if "same_bits_again" in result]
    text = f"{len(judged) - len(wrong)} of {len(judged)} checks are right."
    text += f" {sum(repeated)} of {len(repeated)} gradients have the same bits when computed again."
    return "\n\n".join([text, *wrong, table(header, rows)])


def passes(record: dict) -> str:
    """Training passes."""
    rows = []
    for result in of(record, "fast"):
        if "failed" in result:
            rows.append([result["name"], result["failed"], "", "", ""])
            continue
        used = result["utilisation"]
        share = None if used is None else 100 * used
        values = (result["tokens_per_s"], result["tflops"], share, result["peak_gib"])
        rows.append([result["name"], *(number(value) for value in values)])
    return table(["training pass", "tokens/s", "TFLOPs", "utilisation, %", "peak, GiB"], rows)


def others(record: dict) -> str:
    """The miniature, the profile and the sampler, a line each."""
    lines = []
    for result in of(record, "miniature"):
        numbers = {key: value for key, value in result.items() if key.startswith("seconds")}
        lines.append(f"- {result['name']}: " + ", ".join(f"{key} {number(value)}" for key, value in numbers.items()))
    kernels = [result for result in of(record, "profile") if result["name"] == "kernel"]
    lines += [f"- kernel `{k['kernel']}`: {number(k['seconds'])} s in {k['calls']} calls" for k in kernels]
    lines += [
        f"- our sampler, {r['name']}: {number(r['tokens_per_s'])} tokens/s, peak {number(r['peak_gib'])} GiB"
        for r in of(record, "sampler")
    ]
    return "\n".join(lines)


def section(record: dict) -> str:
    """The GPU section of docs/benchmarks.md."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    stages = ", ".join(f"{stage} {end['state']} in {end['seconds']:.0f} s" for stage, end in record["stages"].items())
    head = (
        f"Measured {record['date']} by `{record['command']}` at commit {record['commit'] or 'unknown'} on "
        f"{record['card'] or 'no GPU: the numbers mean nothing'}; Python {record['python']}, {versions}. "
        f"Stages: {stages}."
    )
    return "\n\n".join([head, checks(record), passes(record), others(record)])


def utilisation(record: dict) -> float | None:
    """Median over the 4B passes of ours; None if none was measured on a card of known peak."""
    shares = [
        result["utilisation"]
        for result in of(record, "fast")
        if result["name"].startswith("4b") and result["name"].endswith("ours") and result.get("utilisation")
    ]
    return statistics.median(shares) if shares else None


def measured(record: dict) -> dict[str, float]:
    """Constant of planning/machines.py -> its value in this run; only what was measured on a card.

    STEP_S: a decoding step of our own sampler at its fewest rows, reading of weights, keys and values included.
    """
    found: dict[str, float] = {}
    if (share := utilisation(record)) is not None:
        found["TRAINING_UTILISATION"] = share
    if record["card"] and (sampled := of(record, "sampler")):
        found["STEP_S"] = sampled[0]["step_s"]
    return found


def gpu_hours(scale: str, values: dict[str, float]) -> tuple[float, float]:
    """GPU-hours of a whole run of a scale by the formula, as it is and with measured values of its constants."""
    jobs = planned_jobs(dry_run(["--config", f"scale={scale}"], ["all"], "--forceall"))
    block = planned_block([str(ROOT / "config.yaml")], scale, jobs)
    methods = resolve_methods(block)

    def total() -> float:
        return sum(costs.job_cost(job.rule, job.wildcards, block, methods).gpu_hours for job in jobs)

    before = total()
    machines.TRAINING_UTILISATION = values.get("TRAINING_UTILISATION", machines.TRAINING_UTILISATION)
    machines.STEP_S = machines.STEP_S | ({"transformers": values["STEP_S"]} if "STEP_S" in values else {})
    return before, total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path, help="first_light.json")
    parser.add_argument("--write", action="store_true", help="change docs/benchmarks.md and planning/machines.py")
    options = parser.parse_args()
    record = json.loads(options.record.read_text(encoding="utf-8"))
    text = section(record)
    values = measured(record)
    if values:
        hours = {scale: gpu_hours(scale, values) for scale in ("pilot", "paper")}
        moved = "; ".join(f"{scale} {before:,.0f} → {after:,.0f} GPU-hours" for scale, (before, after) in hours.items())
        named = ", ".join(f"{name} {number(value, 2)}" for name, value in values.items())
        text += f"\n\nPlan with the measured constants ({named}): {moved}."
    print(text)
    if options.write:
        formula = MACHINES.read_text(encoding="utf-8")
        for name, value in values.items():
            found, written = CONSTANTS[name]
            where = f"{record['card'].split(',')[0]}, {record['date']}"
            formula = re.sub(found, written.format(value=value, where=where), formula, flags=re.M)
        MACHINES.write_text(formula, encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
        if page.count(BEGIN) != 1 or page.count(END) != 1:
            sys.exit(f"{PAGE}: put one line `{BEGIN}` and one `{END}` where the section belongs")
        start, rest = page.split(BEGIN)
        PAGE.write_text(f"{start}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
