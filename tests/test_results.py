"""The tables of the README and the documentation say what the committed results say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def publish():
    spec = importlib.util.spec_from_file_location("publish", ROOT / "benchmarks" / "publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_results(publish):
    results = json.loads(publish.RESULTS.read_text(encoding="utf-8"))
    for path, text in publish.published(results).items():
        assert path.read_text(encoding="utf-8") == text, "run: python benchmarks/publish.py"


def test_a_new_figure_changes_both(publish):
    results = json.loads(publish.RESULTS.read_text(encoding="utf-8"))
    results["peers"]["Siril"]["hard"] = 47
    results["known_truth"][0][1] = 0.3456
    readme, page = publish.published(results).values()
    assert "| 72 | 47 ᵈ | 38 |" in readme
    assert "20     0.346 px     0.02 s" in page


def test_marks_that_are_missing(publish):
    with pytest.raises(ValueError, match="'night' are there 0 times"):
        publish._replaced("no marks", "night", "a table", ".. {}")
