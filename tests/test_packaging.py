from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_oldestdeps_installs_the_lower_bounds(project):
    requirements = project["dependencies"] + project["optional-dependencies"]["all"]
    bounds = dict(requirement.split(">=") for requirement in requirements)
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    pins = dict(re.findall(r"oldestdeps: ([\w-]+)==([\d.]+)\.\*", tox["testenv"]["deps"]))
    assert {name: pins.get(name) for name in bounds} == bounds


def test_entry_points_load(project):
    for group, declared in project["entry-points"].items():
        for name, target in declared.items():
            assert callable(EntryPoint(name, target, group).load())
