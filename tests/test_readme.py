"""What the README promises is run, not only read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from astropy.io import fits

ROOT = Path(__file__).parents[1]


def _blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_ten_lines_of_python(example_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, frame in zip(("source", "template"), example_pair, strict=True):
        fits.writeto(f"{name}.fits", frame.data)
    (code,) = _blocks("python")
    assert len(code.strip().splitlines()) <= 10
    names: dict = {}
    exec(code, names)
    assert names["aligned"].shape == example_pair[1].shape
    assert (names["x"], names["y"]) == pytest.approx((371.4, 440.6), abs=0.2)
    assert Path("alignment.asdf").is_file()
    assert capsys.readouterr().out


def test_two_commands():
    demo, tests = _blocks("shell")
    assert "-m spalipy_astro demo" in demo
    # Not `python -m pytest`: that puts the source tree before the installed package.
    assert "test-env/bin/pytest" in tests


def test_pictures_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
