"""The page of a run: one HTML file with claims, figures and tables, and what it loads from `page/` beside it.

It asks no address for anything: styles, scripts and pictures are in the file, under a content-security policy that
lets nothing else run. Jinja2 escapes every value; answers of models are not in the file but in `page/rollouts`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
from docutils.core import publish_parts
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from prerl.config.scales import read_config, read_files
from prerl.core.errors import UserError
from prerl.core.provenance import described_commit
from prerl.publishing import claims_view, contract, settings_view
from prerl.publishing.browser import write_call
from prerl.publishing.labels import QUANTITIES, distinct_styles, label
from prerl.publishing.provenance import seeds_text
from prerl.publishing.series import over_seeds, series_of

TEMPLATE = Path(__file__).with_name("template")
CAPTIONS = contract.ROOT / "rules/captions"
ORDER = (
    "figure_alignment", "figure_spaces", "figure_thoughts", "figure_warmup", "figure_passk", "figure_dynamics",
    "figure_efficiency", "table_main", "table_warmup_space", "table_ood", "table_baselines",
)  # fmt: skip
"""Targets in the order of the paper; others follow by name."""
SHOWN_FIRST = ("grpo", "nsr_prerl", "dsrl", "prerl")
"""Methods whose training curves are shown until the reader chooses others."""
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
RST = {"raw_enabled": False, "file_insertion_enabled": False, "halt_level": 2, "input_encoding": "unicode"}


def _inline(markdown: str) -> Markup:
    """Markdown of one line as HTML; HTML in it is shown as text."""
    return Markup(MARKDOWN.renderInline(markdown))


def _caption(target: str, study: str, scale: str) -> Markup:
    """The report's caption as HTML, n and the command folded; nothing for a target without one."""
    file = CAPTIONS / f"{target}.rst"
    if not file.is_file():
        return Markup("")
    template = Environment(undefined=StrictUndefined).from_string(file.read_text(encoding="utf-8"))
    text = template.render(snakemake=SimpleNamespace(params=SimpleNamespace(study=study), config={"scale": scale}))
    what, mark, how = text.partition("\n\nn: ")
    shown, folded = (publish_parts(part, writer="html5", settings_overrides=RST)["body"] for part in (what, mark + how))
    return Markup(f"{shown}<details><summary>n, and how to redo it</summary>{folded}</details>")


def _title(target: str) -> str:
    """The bold sentence that a caption starts with, without its marks; else the target's name."""
    file = CAPTIONS / f"{target}.rst"
    found = re.match(r"\*\*(.+?)\*\*", file.read_text(encoding="utf-8"), re.S) if file.is_file() else None
    return " ".join(found[1].split()) if found else target


def _in_order(files: list[Path]) -> list[Path]:
    return sorted(files, key=lambda file: (ORDER.index(file.stem) if file.stem in ORDER else len(ORDER), file.stem))


@dataclass(frozen=True)
class Run:
    """What captions and commands of a figure or table name: the folder of its run, its scale, the numbers behind it."""

    results: Path
    scale: str
    study: str
    seeds: str

    def command(self, target: str) -> str:
        """Redoes the target."""
        return f"snakemake --cores 2 --config scale={self.scale} -- {target}"


def controls_of(run: Run) -> Run | None:
    """The run that asks what else could explain this one: a scale that inherits from it, with a table of controls.

    It is looked for in this run's folder and in those beside it, by the files of the checkout.
    """
    files = read_files()
    beside = [name for name, entry in files["scales"].items() if entry.get("inherits") == run.scale]
    for name in (run.scale, *beside):
        folder = run.results if name == run.scale else run.results.parent / name
        if (folder / "tables/table_controls.csv").is_file():
            seeds = read_config(files | {"scale": name})["seeds"]
            study = f"{len(seeds)} seeds ({', '.join(map(str, seeds))}), a base model each; n: ``table_controls``"
            return run if name == run.scale else Run(folder, name, study, f"seeds {seeds_text(seeds)}")
    return None


def figures(run: Run, sources: Mapping[str, contract.Source], top: Path) -> list[dict]:
    """Each figure with its picture, values (None where a run kept none), caption and code. top: the page's folder."""
    found = []
    for file in _in_order(list((run.results / "figures").glob("*.png"))):
        values = file.with_suffix(".json")
        source = sources.get(file.stem)
        beside = sorted((run.results / "figures").glob(f"{file.stem}.*"))
        found.append(
            {
                "target": file.stem,
                "title": _title(file.stem),
                "caption": _caption(file.stem, run.study, run.scale),
                "command": run.command(file.stem),
                "picture": "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode(),
                "panels": json.loads(values.read_text(encoding="utf-8"))["panels"] if values.is_file() else None,
                "files": {name.name: Path(os.path.relpath(name, top)).as_posix() for name in beside},
                "shows": _inline(source.shows.removeprefix("– ")) if source else "",
                "code": source.code if source else [],
            }
        )
    return found


def tables(run: Run, sources: Mapping[str, contract.Source], top: Path) -> list[dict]:
    """Each table but that of the claims, rounded for reading, caption and code; those of others' answers last."""
    found = []
    own = _in_order(list((run.results / "tables").glob("*.md")))
    for file in [*own, *sorted((run.results / "external").glob("*.md"))]:
        source, of_others = sources.get(file.stem), file not in own
        if file.stem != "table_claims":
            command = run.command("compare_external").replace(" --", " external=FILE --") if of_others else ""
            found.append(
                {
                    "target": f"external-{file.stem}" if of_others else file.stem,
                    "file": Path(os.path.relpath(file.with_suffix(".csv"), top)).as_posix(),
                    "title": f"Answers of others: {file.stem}" if of_others else _title(file.stem),
                    "caption": _caption(file.stem, run.study, run.scale),
                    "command": command or run.command(file.stem),
                    "body": Markup(MARKDOWN.render(file.read_text(encoding="utf-8"))),
                    "code": source.code if source else [],
                }
            )
    return found


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def claims(results: Path, confidence: float, controls: Run | None) -> list[claims_view.Entry]:
    """The entries of the claims table."""
    under = {}
    if controls is not None:
        entries = read_config(read_files() | {"scale": controls.scale}).get("controls", {})
        labels = {name: entry["label"] for name, entry in entries.items()}
        under = claims_view.under_controls(_rows(controls.results / "tables/table_controls.csv"), labels)
    return claims_view.entries(
        _rows(results / "tables/table_claims.csv"),
        (results / "tables/table_claims.md").read_text(encoding="utf-8"),
        contract.contracts(contract.CLAIMS_PAGE.read_text(encoding="utf-8")),
        contract.shown_claims(contract.MAP_PAGE.read_text(encoding="utf-8")),
        confidence,
        under,
    )


def _place(quantity: tuple[str, str, str]) -> tuple:
    kind, name, benchmark = quantity
    return kind, list(QUANTITIES).index(name) if name in QUANTITIES else len(QUANTITIES), name, benchmark


def write_training(folder: Path, curves: Mapping[str, pd.DataFrame], settings: dict) -> dict[str, list[dict]]:
    """Write a file for each model and measured quantity; returns model -> its quantities: file, name and group."""
    index: dict[str, list[dict]] = {}
    look = distinct_styles(settings, SHOWN_FIRST)
    for model, table in curves.items():
        names = table[["kind", "name", "benchmark"]].drop_duplicates().itertuples(index=False)
        for number, (kind, name, benchmark) in enumerate(sorted(names, key=_place)):
            quantity = QUANTITIES.get(name, name)
            title = f"{quantity}, {benchmark}" if benchmark else quantity
            series = []
            measured = table[(table["kind"] == kind) & (table["name"] == name) & (table["benchmark"] == benchmark)]
            for method in settings["methods"]:
                rows = measured[measured["method"] == method]
                by_update = rows.pivot(index="update", columns="seed", values="value").sort_index().astype(float)
                if by_update.notna().any(axis=None):
                    summary = over_seeds(by_update, settings["confidence"])
                    shown = by_update.loc[summary.index]
                    seeds = {str(seed): shown[seed] for seed in shown}
                    series.append(
                        series_of(
                            "line", label(settings, method), look[method], summary.index, summary["mean"],
                            low=summary["low"], high=summary["high"], seeds=seeds,
                        )
                        | {"first": method in SHOWN_FIRST}
                    )  # fmt: skip
            panel = {"title": title, "x": "Update", "y": title, "log_x": False, "ticks": None, "series": series}
            write_call(folder / model / f"{number:03d}.js", f"training/{model}/{number:03d}", panel)
            index.setdefault(model, []).append({"file": f"{number:03d}", "title": title, "group": kind})
    return index


def rule_graph(dot: str) -> dict[str, list[str]]:
    """Rule -> rules whose files it reads, from what `snakemake --rulegraph` prints; without `all`.

    Raises ValueError if it names no rule.
    """
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', dot, re.M))
    links = re.findall(r"^\s*(\d+) -> (\d+)", dot, re.M)
    if not names or not links:
        raise ValueError(f"this is no graph of rules: {dot[:200]!r}")
    return {
        name: sorted(names[needed] for needed, by in links if by == number)
        for number, name in names.items()
        if name != "all"
    }


def provenance_of(results: Path, settings: Mapping, block: Mapping, dot: str) -> dict:
    """The run's provenance.json with its settings, models, data and graph of rules.

    block: the scale's settings, complete; dot: see rule_graph.
    """
    summed = json.loads((results / "provenance.json").read_text(encoding="utf-8"))
    return summed | {
        "settings_sha256": summed["settings"],
        "command": f"snakemake --cores 2 --config scale={settings['scale']}",
        "changed": settings_view.changed_settings(settings["scale"], block),
        "not_as_at_paper_scale": settings_view.changed_settings("paper", block),
        "settings": list(settings_view.flat(block)),
        "graph": rule_graph(dot),
        "hashes": settings_view.hashes(results, settings["models"]),
    }


def browsed(results: Path) -> dict[str, list[str]]:
    """Model -> benchmarks of which page/rollouts has answers."""
    folders = sorted(folder for folder in (results / "page/rollouts").glob("*") if folder.is_dir())
    return {folder.name: sorted(file.stem for file in folder.glob("*.js")) for folder in folders}


def sentence(settings: Mapping) -> str:
    """What the run is evidence for: the scale's `reading`, else its models and seeds."""
    if settings["reading"]:
        return " ".join(settings["reading"].split())
    seeds = len(settings["seeds"])
    count = "one seed" if seeds == 1 else f"{seeds} seeds"
    return f"This run is evidence about {', '.join(settings['models'])} under its settings, with {count}."


def shown_answers(settings: Mapping, block: Mapping) -> dict:
    """Which answers the page holds: seeds, and how many of how many to each question."""
    page = block["page"]
    return {
        "seeds": settings["seeds"][: page["seeds"]],
        "each": min(page["answers_per_question"], settings["samples_per_question"]),
        "of": settings["samples_per_question"],
    }


def policy_of(styles: list[str], scripts: list[str], connect: str = "'none'") -> str:
    """Content-security policy: these styles and scripts by hash, what the scripts load, pictures in the page itself.

    The hash of nothing admits the empty style elements into which the charting library puts its rules. connect: what
    scripts may fetch.
    """

    def hashed(texts: list[str]) -> str:
        hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{value}'" for value in hashes)

    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {hashed(scripts)} 'strict-dynamic'",
            f"style-src-elem {hashed([*styles, ''])}",
            "style-src-attr 'unsafe-inline'",
            "img-src data: blob:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def plotly() -> str:
    """The charting library's script, of the package plotly."""
    file = importlib.resources.files("plotly") / "package_data/plotly.min.js"
    return file.read_text(encoding="utf-8").replace("</script", "<\\/script")


def map_styles(script: str) -> list[str]:
    """Ids of the style elements that the charting library would add for maps, and leaves if they are there."""
    return re.findall(r'document\.getElementById\("([0-9a-f]{64})"\)', script)


def _fill(template: str, names: Iterable[str], connect: str = "'none'", **values: object) -> str:
    """A template with its styles, the charting library and these scripts in it, under its policy."""
    styles = [(TEMPLATE / "page.css").read_text(encoding="utf-8")]
    scripts = [plotly(), *((TEMPLATE / f"{name}.js").read_text(encoding="utf-8") for name in names)]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["inline"] = _inline
    return environment.get_template(template).render(
        policy=policy_of(styles, scripts, connect),
        empty_styles=map_styles(scripts[0]),
        styles=[Markup(text) for text in styles],
        scripts=[Markup(text) for text in scripts],
        **values,
    )


def watch_page(scale: str) -> str:
    """The page of `make watch`, which asks its own server what there is to show."""
    return _fill("watch.html", ("charts", "watch"), "'self'", scale=scale)


def render(results: Path, facts: Mapping) -> tuple[str, str]:
    """(index.html, paper_vs_ours.md). facts: settings, study, provenance and training, as page.json has them.

    Raises UserError if the claims table is missing.
    """
    if not (results / "tables/table_claims.csv").is_file():
        raise UserError(f"{results}/tables/table_claims.csv is missing: make it first, snakemake table_claims")
    settings, sources = facts["settings"], contract.sources(contract.MAP_PAGE.read_text(encoding="utf-8"))
    run = Run(results, settings["scale"], facts["study"], f"seeds {seeds_text(settings['seeds'])}")
    controls = controls_of(run)
    found = claims(results, settings["confidence"], controls)
    shown, printed = figures(run, sources, results), tables(run, sources, results)
    if controls is not None and controls.results != results:
        shown += [one for one in figures(controls, sources, results) if one["target"] == "figure_controls"]
        printed += [one for one in tables(controls, sources, results) if one["target"] == "table_controls"]
    sentences = [sentence(settings), claims_view.in_one_sentence(found)]
    heading = f"The paper and this run: {settings['scale']}"
    page = _fill(
        "page.html",
        SCRIPTS,
        scale=settings["scale"],
        sentences=sentences,
        claims=found,
        figures=shown,
        tables=printed,
        controls=controls,
        answers=facts["answers"],
        commit=described_commit(contract.ROOT),
        validation=settings["validation_benchmarks"],
        code={name: contract.code_of(" ".join(f"`{one}`" for one in places)) for name, places in CODE.items()},
        curves=[file.relative_to(results).as_posix() for file in sorted(results.glob("*/curves.parquet"))],
        provenance=facts["provenance"],
        has_report=(results / "report.html").is_file(),
        data={
            "claims": claims_view.forest(found),
            "figures": {figure["target"]: figure["panels"] for figure in shown if figure["panels"]},
            "rollouts": browsed(results),
            "training": facts["training"],
            "graph": facts["provenance"].get("graph", {}),
        },
    )
    return page, claims_view.for_a_terminal(found, heading, sentences)


CODE = {
    "rollouts": (
        "workflow_scripts/generate_samples.py", "workflow_scripts/grade_samples.py",
        "rollouts/thoughts.py:named_thought", "models/logprobs.py:response_logprobs",
        "workflow_scripts/measure_answers.py", "workflow_scripts/browse_rollouts.py",
    ),
    "training": (
        "rollouts/graded.py:update_metrics", "training/updates.py:policy_update", "training/updates.py:measure_spaces",
        "training/trainer.py:validate",
    ),
}  # fmt: skip
"""Where what these sections show is made, named as in docs/paper_map.md."""
SCRIPTS = ("charts", "rollouts", "training", "page")
"""Scripts of the page, in the order in which they stand in it."""
