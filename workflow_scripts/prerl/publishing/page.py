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
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
from docutils.core import publish_parts
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from prerl.core.errors import UserError
from prerl.publishing import claims_view, contract, settings_view
from prerl.publishing.browser import write_call
from prerl.publishing.labels import label, style
from prerl.publishing.series import over_seeds, series_of

TEMPLATE = Path(__file__).with_name("template")
CAPTIONS = contract.ROOT / "rules/captions"
ORDER = (
    "figure_alignment", "figure_spaces", "figure_thoughts", "figure_warmup", "figure_passk", "figure_dynamics",
    "figure_efficiency", "table_main", "table_warmup_space", "table_ood", "table_baselines",
)  # fmt: skip
"""Targets in the order of the paper; others follow by name."""
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
RST = {"raw_enabled": False, "file_insertion_enabled": False, "halt_level": 2, "input_encoding": "unicode"}


def _inline(markdown: str) -> Markup:
    """Markdown of one line as HTML; HTML in it is shown as text."""
    return Markup(MARKDOWN.renderInline(markdown))


def _caption(target: str, study: str) -> Markup:
    """The report's caption as HTML, n and the command folded; nothing for a target without one."""
    file = CAPTIONS / f"{target}.rst"
    if not file.is_file():
        return Markup("")
    template = Environment(undefined=StrictUndefined).from_string(file.read_text(encoding="utf-8"))
    text = template.render(snakemake=SimpleNamespace(params=SimpleNamespace(study=study)))
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


def figures(results: Path, study: str, sources: Mapping[str, contract.Source]) -> list[dict]:
    """Each figure with its picture, values (None where a run kept none), caption and code."""
    found = []
    for file in _in_order(list((results / "figures").glob("*.png"))):
        values = file.with_suffix(".json")
        source = sources.get(file.stem)
        found.append(
            {
                "target": file.stem,
                "title": _title(file.stem),
                "caption": _caption(file.stem, study),
                "picture": "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode(),
                "panels": json.loads(values.read_text(encoding="utf-8"))["panels"] if values.is_file() else None,
                "files": [name.name for name in sorted((results / "figures").glob(f"{file.stem}.*"))],
                "shows": _inline(source.shows) if source else "",
                "code": source.code if source else [],
            }
        )
    return found


def tables(results: Path, study: str, sources: Mapping[str, contract.Source]) -> list[dict]:
    """Each table but that of the claims, rounded for reading, caption and code; those of others' answers last."""
    found = []
    for file in [*_in_order(list((results / "tables").glob("*.md"))), *sorted((results / "external").glob("*.md"))]:
        source = sources.get(file.stem)
        if file.stem != "table_claims":
            found.append(
                {
                    "target": file.stem if file.parent.name == "tables" else f"external-{file.stem}",
                    "file": f"{file.parent.name}/{file.stem}.csv",
                    "title": _title(file.stem) if file.parent.name == "tables" else f"Answers of others: {file.stem}",
                    "caption": _caption(file.stem, study),
                    "body": Markup(MARKDOWN.render(file.read_text(encoding="utf-8"))),
                    "code": source.code if source else [],
                }
            )
    return found


def claims(results: Path, confidence: float) -> list[claims_view.Entry]:
    """The entries of the claims table."""
    with (results / "tables/table_claims.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return claims_view.entries(
        rows,
        (results / "tables/table_claims.md").read_text(encoding="utf-8"),
        contract.contracts(contract.CLAIMS_PAGE.read_text(encoding="utf-8")),
        contract.shown_claims(contract.MAP_PAGE.read_text(encoding="utf-8")),
        confidence,
    )


def write_training(folder: Path, curves: Mapping[str, pd.DataFrame], settings: dict) -> dict[str, list[dict]]:
    """Write a file for each model and measured quantity; returns model -> its quantities: file, name and group."""
    index: dict[str, list[dict]] = {}
    for model, table in curves.items():
        names = table[["kind", "name", "benchmark"]].drop_duplicates().sort_values(["kind", "name", "benchmark"])
        for number, (kind, name, benchmark) in enumerate(names.itertuples(index=False)):
            title = f"{name}, {benchmark}" if benchmark else name
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
                            "line", label(settings, method), style(settings, method), summary.index, summary["mean"],
                            low=summary["low"], high=summary["high"], seeds=seeds,
                        )
                    )  # fmt: skip
            panel = {"title": title, "x": "Update", "y": "", "log_x": False, "ticks": None, "series": series}
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
    return f"This run is evidence about {', '.join(settings['models'])} under its settings, with {seeds} seed(s)."


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
    found = claims(results, settings["confidence"])
    shown = figures(results, facts["study"], sources)
    sentences = [sentence(settings), claims_view.in_one_sentence(found)]
    heading = f"The paper and this run: {settings['scale']}"
    page = _fill(
        "page.html",
        SCRIPTS,
        scale=settings["scale"],
        sentences=sentences,
        claims=found,
        figures=shown,
        tables=tables(results, facts["study"], sources),
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


SCRIPTS = ("charts", "rollouts", "training", "page")
"""Scripts of the page, in the order in which they stand in it."""
