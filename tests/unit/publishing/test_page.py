"""The page of a synthetic run: whole in itself, escaped, under its policy; made again from what a run leaves."""

import base64
import csv
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import synthetic
from checkouts import ROOT
from page_run import BLOCK, DOT, SMALL, arguments_of, make_page, make_run
from prerl.core.errors import UserError
from prerl.publishing.page import rule_graph, shown_answers
from prerl.publishing.settings_view import changed_settings
from publish_scripts import FIGURES, TABLES

pytestmark = pytest.mark.slow  # draws every figure
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Tags with their attributes, and the texts of inline scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.inside = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        data = tag == "script" and dict(attributes).get("type") == "application/json"
        self.inside = tag if tag in self.texts and not data else ""
        if self.inside:
            self.texts[tag].append("")

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside][-1] += data

    def handle_endtag(self, tag):
        self.inside = ""

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def elements(results: Path) -> Elements:
    parser = Elements()
    parser.feed((results / "index.html").read_text(encoding="utf-8"))
    return parser


def copy_of(results: Path, folder: Path) -> Path:
    """What is needed to make the page again."""
    for part in ("figures", "tables", "page"):
        shutil.copytree(results / part, folder / part)
    shutil.copy(results / "provenance.json", folder)
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def found(results) -> Elements:
    return elements(results)


def test_the_page_asks_no_address_for_anything_and_is_small(results, found):
    assert (results / "index.html").stat().st_size < 15e6
    for tag, attributes in found.tags:
        if tag != "a":
            assert not {"href", "srcset", "action", "formaction"} & set(attributes), (tag, attributes)
        source = attributes.get("src", "data:")
        assert source.startswith("data:image/png;base64,") or source == "data:", tag
    links = [link["href"] for link in found.of("a")]
    assert not [link for link in links if re.match(r"[a-z]+:|//", link)]
    assert {"iframe", "object", "embed", "link", "base"}.isdisjoint(tag for tag, _ in found.tags)


def test_the_policy_admits_each_script_and_style_of_the_page_by_its_hash(found):
    (policy,) = (meta["content"] for meta in found.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert "unsafe" not in rules["script-src"] and "unsafe" not in rules["style-src-elem"]
    assert len(found.texts["script"]) == 5
    for kind, rule in (("script", "script-src"), ("style", "style-src-elem")):
        for text in found.texts[kind]:
            value = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{value}'" in rules[rule]
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]


def test_links_and_labels_resolve(results, found):
    names = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert {link["href"][1:] for link in found.of("a") if link["href"].startswith("#")} <= set(names)
    named = [attributes["aria-labelledby"] for _, attributes in found.tags if "aria-labelledby" in attributes]
    assert named and set(named) <= set(names)
    assert all(image["alt"] for image in found.of("img"))
    beside = {link["href"] for link in found.of("a") if not link["href"].startswith("#")}
    assert beside and all((results / link).is_file() for link in beside)


def test_every_claim_figure_and_table_is_there(found):
    names = {attributes.get("id") for _, attributes in found.tags}
    assert set(FIGURES) | set(TABLES) - {"table_claims"} <= names
    assert len([name for name in names if (name or "").startswith("claim-")]) == 17
    assert len(found.of("img")) == len(FIGURES)


def test_curves_of_every_quantity_wait_beside_the_page(results):
    index = json.loads((results / "page/page.json").read_text())["training"]["miniature"]
    titles = {entry["title"]: entry["file"] for entry in index}
    text = (results / f"page/training/miniature/{titles['Accuracy (share), mean']}.js").read_text()
    panel = json.loads(text.split(",", 1)[1].removesuffix(");\n"))
    grpo = next(series for series in panel["series"] if series["name"] == "GRPO")
    assert grpo["x"] == [0, 10, 20, 30, 40, 50, 60]
    assert grpo["seeds"]["11"] == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert grpo["y"][6] == pytest.approx(0.802)  # seeds 11, 12 and 13 differ by 0.002
    assert [one["name"] for one in panel["series"] if one["first"]] == ["GRPO", "PreRL", "NSR-PreRL", "DSRL"]
    looks = [(one["color"], one["dash"], one["symbol"]) for one in panel["series"]]
    assert len(set(looks)) == len(looks)


def test_the_controls_of_a_scale_that_inherits_from_it(results, tmp_path):
    """Looked for beside the run: results/controls beside results/miniature."""
    copy = copy_of(results, tmp_path / "miniature")
    for file in copy.glob("*/*_controls.*"):
        file.unlink()
    make_page("--results", str(copy))
    assert "Under controls" not in (copy / "index.html").read_text(encoding="utf-8")
    shutil.copytree(ROOT / "results/reference/controls/figures", tmp_path / "controls/figures")
    shutil.copytree(ROOT / "results/reference/controls/tables", tmp_path / "controls/tables")
    make_page("--results", str(copy))
    text = (copy / "index.html").read_text(encoding="utf-8")
    with (tmp_path / "controls/tables/table_controls.csv").open(encoding="utf-8") as file:
        touched = {row["claim"] for row in csv.DictReader(file)}
    assert text.count("<p>Under controls, seeds 21-28:</p>") == len(touched) > 5
    assert 'id="figure_controls"' in text and "../controls/tables/table_controls.csv" in text
    assert "snakemake --cores 2 --config scale=controls -- figure_controls" in text


def test_what_is_shown_of_the_answers():
    block = {"page": {"seeds": 1, "answers_per_question": 2}}
    shown = shown_answers({"seeds": [11, 12], "samples_per_question": 8}, block)
    assert shown == {"seeds": [11], "each": 2, "of": 8}


def test_hostile_names_and_settings_are_text(results, tmp_path):
    config = synthetic.settings(**SMALL)
    config["methods"]["dsrl"]["label"] = ATTACK
    config["reading"] = ATTACK
    copy = copy_of(results, tmp_path)
    make_page(*arguments_of(copy, config, results.parent / "study"))
    parser = elements(copy)
    assert len(parser.texts["script"]) == 5 and len(parser.of("img")) == len(FIGURES)
    assert not [name for _, attributes in parser.tags for name in attributes if name.startswith("on")]


def test_it_is_made_again_from_what_a_run_leaves(results, tmp_path):
    copy = copy_of(results, tmp_path)
    make_page("--results", str(copy))
    for name in ("index.html", "paper_vs_ours.md"):
        assert (copy / name).read_bytes() == (results / name).read_bytes()
    (copy / "page/page.json").unlink()
    with pytest.raises(UserError, match="page.json is missing: copy it"):
        make_page("--results", str(copy))


def test_a_run_without_values_shows_its_pictures(results, tmp_path):
    copy = copy_of(results, tmp_path)
    for file in [*(copy / "figures").glob("*.json"), *(copy / "figures").glob("*.csv")]:
        file.unlink()
    make_page("--results", str(copy))
    text = (copy / "index.html").read_text(encoding="utf-8")
    assert text.count("kept the picture alone") == len(FIGURES) and "data-figure=" not in text


def test_the_claims_for_a_terminal(results):
    text = (results / "paper_vs_ours.md").read_text(encoding="utf-8")
    with (results / "tables/table_claims.csv").open() as file:
        for row in csv.DictReader(file):
            assert re.search(rf"\| {row['claim']} .*\| {row['verdict']} ", text)


def test_settings_that_differ_from_the_checkouts():
    changed = json.loads(json.dumps(BLOCK))
    changed["seeds"] = [1]
    changed["training"]["learning_rate"] = 0.5
    assert sorted(changed_settings("miniature", changed)) == [
        ("seeds", "[11, 12, 13, 14, 15]", "[1]"),
        ("training.learning_rate", "0.0001", "0.5"),
    ]
    assert changed_settings("miniature", BLOCK) == []


def test_no_text_reaches_the_page_as_markup():
    for file in (ROOT / "workflow_scripts/prerl/publishing/template").glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), file


def test_the_graph_of_rules_names_what_each_reads():
    assert rule_graph(DOT) == {
        "figure_main": ["prepare_data", "train_policy"], "train_policy": ["prepare_data", "reincarnate_policy"],
        "reincarnate_policy": ["train_policy"], "prepare_data": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match="no graph of rules"):
        rule_graph("digraph {}")
