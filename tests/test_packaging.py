from __future__ import annotations

import ast
import re
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import spalipy_astro

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


def test_what_is_imported_is_declared(project):
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(name for extra in extras for name in extra)]
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
    names = {"PIL": "pillow", "asdf_astropy": "asdf-astropy"}
    imported = set()
    for path in Path(spalipy_astro.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= {"spalipy_astro", *sys.stdlib_module_names}
    assert {names.get(name, name) for name in imported} <= declared


def test_entry_points_load(project):
    for group, declared in project["entry-points"].items():
        for name, target in declared.items():
            assert callable(EntryPoint(name, target, group).load())
