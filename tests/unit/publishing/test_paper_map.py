"""docs/paper_map.md names files, functions, rules, keys and results that exist; links of all pages resolve."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from checkouts import ROOT
from prerl.config.key import keys_of
from prerl.config.reference import blocks
from prerl.config.scale import Scale
from prerl.publishing.claims import CLAIMS

LIBRARY = ROOT / "workflow_scripts/prerl"
PAGE = (ROOT / "docs/paper_map.md").read_text(encoding="utf-8")
RULES = "".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "rules").glob("*.smk")))
TARGETS = set(re.findall(r'"((?:figure|table)_\w+)": ', RULES))
RULE_NAMES = (
    TARGETS | set(re.findall(r"^ *rule (\w+):", RULES, re.M)) | set(re.findall(r'"(aggregate_\w+)": \(', RULES))
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("results/**/*.md"))]
PAGES += [page for page in sorted(ROOT.glob("*.md")) if page.name != "README.md"]


@cache
def names_in(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }


def where(path: str) -> Path:
    return next((base / path for base in (ROOT, LIBRARY) if (base / path).exists()), ROOT / path)


def faults(page: str) -> list[str]:
    """What a text names that is not there."""
    found = []
    for path, name in re.findall(r"`([\w/.]+\.py):(\w+)`", page):
        if not where(path).is_file() or name not in names_in(where(path)):
            found.append(f"{path}:{name}")
    found += [path for path in re.findall(r"`([\w/.]+\.(?:py|yaml|md|smk))`", page) if not where(path).is_file()]
    for names in re.findall(r"\brules? ((?:`\w+`(?:, )?)+)", page):
        found += [f"rule {name}" for name in re.findall(r"`(\w+)`", names) if name not in RULE_NAMES]
    for target in re.findall(r"`results/\{scale\}/(?:figures|tables)/(\w+)\.\w+`", page):
        if target not in TARGETS:
            found.append(f"result {target}")
    known = {f"{path}.{key}".lstrip(".") for path, block in blocks(Scale, "") for key in keys_of(block)}
    found += [f"key {key}" for key in re.findall(r"key `([\w.]+)`", page) if key not in known]
    return found


def test_the_map_names_what_exists():
    assert faults(PAGE) == []
    assert len(re.findall(r"`[\w/.]+\.py:\w+`", PAGE)) > 40


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("objectives/spaces.py:contexts", "objectives/spaces.py:context", "objectives/spaces.py:context"),
        ("rollouts/thoughts.py:classify", "rollouts/thought.py:classify", "rollouts/thought.py:classify_thought"),
        ("rule `figure_spaces`", "rule `figure_space`", "rule figure_space"),
        ("figures/figure_passk.pdf", "figures/figure_pass.pdf", "result figure_pass"),
        ("key `training.phase_switch`", "key `training.switch`", "key training.switch"),
        ("`scales/paper.yaml`", "`scales/papers.yaml`", "scales/papers.yaml"),
    ],
)
def test_the_check_sees_a_name_that_is_gone(old, new, fault):
    assert old in PAGE and fault in faults(PAGE.replace(old, new))


def test_every_target_and_every_claim_is_on_the_map():
    assert {target for target in TARGETS if f"rule `{target}`" not in PAGE} == set()
    assert {claim.name for claim in CLAIMS if not re.search(rf"\b{claim.name}\b", PAGE)} == set()
    assert {package.name for package in LIBRARY.iterdir() if package.is_dir()} - {"__pycache__"} <= set(
        re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_resolve(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
