"""The job environments are pinned exactly and agree with requirements.txt; profiles/default stays harmless."""

import re

import pytest
import yaml
from checkouts import ROOT

REQUIREMENTS = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]


def test_every_requirement_is_one_exact_version():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in REQUIREMENTS)  # so no +cpu, which no GPU machine has


@pytest.mark.parametrize("file", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda file: file.stem)
def test_job_environments_have_the_same_versions(file):
    pip = yaml.safe_load(file.read_text())["dependencies"][-1]["pip"]
    assert set(pip) <= set(REQUIREMENTS)


def test_profiles_default_holds_only_what_is_right_everywhere():
    keys = set(yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text()))
    assert not keys & {"cores", "jobs", "executor", "resources", "default-resources", "retries", "config"}
    assert not any(key.startswith(("conda", "software-deployment")) for key in keys)
