"""The job environments: pinned whole, one version of what makes numbers; profiles/default stays harmless."""

import re

import pytest
import yaml

from checkouts import ROOT

REQUIREMENTS = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
ONE_VERSION = {"torch", "transformers", "tokenizers", "safetensors", "accelerate", "math-verify"}
WITHOUT_MODEL = {"evaluate", "figures"}  # no vLLM: every package as in requirements.txt


def versions(lines: list[str]) -> dict[str, str]:
    """Package -> version of lines `package==version`."""
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)  # so no +cpu, which no GPU machine has
    pins = [line.lower().replace("_", "-").split("==") for line in lines]
    assert len(pins) == len({name for name, _ in pins})
    return dict(pins)


def pip_part(environment) -> dict[str, str]:
    return versions(yaml.safe_load(environment.read_text())["dependencies"][-1]["pip"])


def test_every_requirement_is_one_exact_version():
    assert set(versions(REQUIREMENTS)) > ONE_VERSION


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda file: file.stem)
def test_job_environments_have_the_same_versions(environment):
    own, shared = pip_part(environment), versions(REQUIREMENTS)
    compared = own if environment.stem in WITHOUT_MODEL else own.keys() & ONE_VERSION
    assert {name: own[name] for name in compared} == {name: shared[name] for name in compared}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda file: file.stem)
def test_each_chosen_pin_says_why(environment):
    chosen = environment.read_text().split("  - pip:\n")[1].split("# The lock:")[0].splitlines()
    assert all(re.fullmatch(r" {6}- \S+==\S+  # \S.*", line) for line in chosen if line.strip())


def test_every_rule_that_is_no_local_one_has_an_environment():
    text = "\n".join(file.read_text() for file in (ROOT / "rules").glob("*.smk"))
    blocks = re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.M)
    local = {name for block in blocks for name in re.findall(r"\w+", block)}
    rules = re.findall(r"^ *rule ?(\w*):\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
    without = {name for name, body in rules if not re.search(r'^ +conda:\n +"../envs/\w+\.yaml"$', body, re.M)}
    assert (
        without
        < local
        == {
            "download_model",
            "import_model",
            "download_data",
            "download_ood",
            "prepare_data",
            "prepare_own_data",
            "aggregate_scores",
            "aggregate_baselines",
            "aggregate_controls",
            "aggregate_headline",
            "aggregate_ood",
            "release_checkpoints",
            "release_state",
            "baselines",
            "controls",
            "headline",
            "more_seeds",
            "verify",
            "collect_provenance",
            "diagnose",
            "aggregate_more_seeds",
            "map",
            "page",
            "report",
            "budget",
            "preflight",
        }
    )
    named = set(re.findall(r'"\.\./envs/(\w+)\.yaml"', text))
    assert named == {environment.stem for environment in ENVIRONMENTS}


def test_profiles_default_holds_only_what_is_right_everywhere():
    keys = set(yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text()))
    assert not keys & {"cores", "jobs", "executor", "resources", "default-resources", "retries", "config"}
    assert not any(key.startswith(("conda", "software-deployment")) for key in keys)
