"""The files that describe the package to archives and journals agree with pyproject.toml."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _names(requirements):
    return {re.match(r"[\w-]+", each)[0] for each in requirements}


def test_archives_say_what_the_project_says(project):
    codemeta = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
    zenodo = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    author = project["authors"][0]["name"]
    assert codemeta["name"] == project["name"]
    assert codemeta["description"] == project["description"]
    assert codemeta["keywords"] == zenodo["keywords"] == project["keywords"]
    assert re.findall(r"^  - (?!name)(.*)$", citation, re.MULTILINE) == project["keywords"]
    assert codemeta["author"][0]["name"] == zenodo["creators"][0]["name"] == author
    assert f'name: "{author}"' in citation
    needs = _names(codemeta["softwareRequirements"]) - {"Python"}
    assert needs == _names(project["dependencies"])


def test_references_of_the_paper():
    paper = (ROOT / "paper" / "paper.md").read_text(encoding="utf-8")
    entries = (ROOT / "paper" / "paper.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{(\w+),", entries, re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert set(re.findall(r"@(\w+\d{4})", paper)) == set(keys)
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", paper, re.DOTALL):
        assert (ROOT / "paper" / picture).is_file()
    words = len(paper.partition("# Summary")[2].split())
    assert 700 < words < 1300, f"{words} words"


def test_the_paper_has_the_figures_of_the_benchmarks():
    paper = (ROOT / "paper" / "paper.md").read_text(encoding="utf-8")
    path = ROOT / "benchmarks" / "results" / "accuracy_and_speed.json"
    peers = json.loads(path.read_text(encoding="utf-8"))["peers"]
    text = " ".join(paper.split())
    hard = {name: peer["hard"] for name, peer in peers.items()}
    assert f"maps all {hard['spalipy_astro']}" in text
    assert f"Siril 1.4 maps {hard['Siril']}, `aafitrans` {hard['aafitrans']}" in text
    assert f"`spalipy` {hard['spalipy']} and `astroalign` {hard['astroalign']}" in text
    assert f"median error is {peers['spalipy_astro']['distorted_rms']} px" in text
