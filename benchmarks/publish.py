"""
Write the tables of the README and of the page on accuracy and speed from the committed results.

``python benchmarks/publish.py`` replaces what stands between the marks ``measured: NAME`` and
``end of NAME`` in both files by the figures of ``benchmarks/results/accuracy_and_speed.json``;
``--check`` changes nothing and fails if a table is not what the results say. To publish a new
measurement, run the scripts of this folder, put their figures into that file, and call this one.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "accuracy_and_speed.json"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "explanation" / "accuracy_and_speed.rst"

# of the README's columns, where there is something to say
_NAMES = {"tweakwcs": "tweakwcs (and reproject)", "Siril": "[Siril](https://siril.org) 1.4"}
_NAMES["aafitrans"] = "[aafitrans](https://pypi.org/project/aafitrans/) 0.2"
_NO_DISTORTION = ("aafitrans", "astroalign", "tweakwcs")


def main() -> int:
    """Write the tables, or check them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it would")
    options = parser.parse_args()
    stale = 0
    for path, text in published(json.loads(RESULTS.read_text(encoding="utf-8"))).items():
        if path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if options.check:
            print(f"{path.relative_to(ROOT)} differs from the results: run benchmarks/publish.py")
        else:
            path.write_text(text, encoding="utf-8")
    return stale if options.check else 0


def published(results: Mapping[str, Any]) -> dict[Path, str]:
    """Return what the two files should contain, by their paths."""
    readme = README.read_text(encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    readme = _replaced(readme, "comparison", _comparison(results["peers"]), "<!-- {} -->")
    for name, table in _TABLES.items():
        page = _replaced(page, name, table(results), ".. {}")
    return {README: readme, PAGE: page}


def _replaced(text: str, name: str, table: str, mark: str) -> str:
    """Put a table between its marks."""
    first, last = (re.escape(mark.format(f"{word} {name}")) for word in ("measured:", "end of"))
    block = re.compile(rf"({first}\n\n).*?({last}\n)", re.DOTALL)
    new, n = block.subn(lambda found: f"{found[1]}{table}\n{found[2]}", text)
    if n != 1:
        raise ValueError(f"the marks of the table {name!r} are there {n} times, not once.")
    return new


def _comparison(peers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of the README."""

    def row(label: str, cell: Callable[[str, Mapping[str, Any]], str]) -> list[str]:
        return [label, *(cell(name, peer) for name, peer in peers.items())]

    def sizes(values: Mapping[str, float], unit: float, name: str) -> str:
        return ", ".join(f"{values[size] / unit:.2g} {name}" for size in ("2048", "4096"))

    rows = [
        row("", lambda name, _: _NAMES.get(name, name)),
        row(
            "12 pairs with 2 to 15 px of distortion: mapped to better than 1 px (rms)",
            lambda name, peer: f"{peer['distorted']}{' ᵃ' if name in _NO_DISTORTION else ''}",
        ),
        row(
            "— median error of the mapping",
            lambda name, peer: (
                f"{peer['distorted_rms']:.2g} px" if peer["distorted_rms"] else "not measured"
            ),
        ),
        row(
            "72 hard pairs ᵇ: mapped to better than 1 px",
            lambda name, peer: f"{peer['hard']}{' ᵈ' if name == 'Siril' else ''}",
        ),
        row("— wrong by more than 5 px without an error", lambda _, peer: f"{peer['hard_wrong']}"),
        row("CPU time, all steps, 2048² and 4096² ᶜ", lambda _, peer: sizes(peer["cpu"], 1, "s")),
        row("Memory, 2048² and 4096²", lambda _, peer: sizes(peer["mb"], 1000, "GB")),
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"


def _grid(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a simple table in reStructuredText."""
    cells = [head, *([*row] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(f"{c:{w}s}" for c, w in zip(row, widths, strict=True)) for row in cells]
    lines = [line.rstrip() for line in lines]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


def _px(value: float) -> str:
    return f"{value:.3f} px" if value < 1 else f"{value:.3g} px"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 1 else f"{value:.3g} s"


def _milliseconds(value: float) -> str:
    return f"{value:.3f} s" if value < 0.1 else _seconds(value)


def _real_pairs(results: Mapping[str, Any]) -> str:
    head = ["pair", "stars", "log-odds", "spline", "cubic", "affine"]
    rows = (
        [pair, str(stars), str(odds), *map(_px, errors)]
        for pair, stars, odds, *errors in results["real_pairs"]
    )
    return _grid(head, rows)


def _known_truth(results: Mapping[str, Any]) -> str:
    rows = ([str(n), _px(error), _seconds(t)] for n, error, t in results["known_truth"])
    return _grid(["stars", "error (rms)", "CPU time"], rows)


def _detection(results: Mapping[str, Any]) -> str:
    rows = (
        [f"{size}²", *(f"{_seconds(t)}, {_px(error)}" for t, error in programs)]
        for size, *programs in results["detection"]
    )
    return _grid(["frame", "spalipy_astro", "sep", "photutils"], rows)


def _resampling(results: Mapping[str, Any]) -> str:
    rows = (
        [f'``"{name}"``', f"{data:.2f}", f"{everything:.2f}"]
        for name, data, everything in results["resampling"]
    )
    return _grid(["method", "data", "data, variance and mask"], rows)


def _whole_alignment(results: Mapping[str, Any]) -> str:
    rows = (
        [
            f"{size}²",
            *(f"{_seconds(first)}, then {_seconds(then)}; {mb} MB" for first, then, mb in programs),
        ]
        for size, *programs in results["whole_alignment"]
    )
    return _grid(["frame", "spalipy_astro", "astroalign (no distortion)"], rows)


def _night(results: Mapping[str, Any]) -> str:
    rows = (
        [program, _milliseconds(cpu), _milliseconds(wall), f"{mb} MB"]
        for program, cpu, wall, mb in results["night"]
    )
    return _grid(["program", "CPU / frame", "wall / frame", "peak RSS"], rows)


def _dithers(results: Mapping[str, Any]) -> str:
    rows = (
        [program, needs, *(f"{px:.3f} px" for px in distances), _seconds(cpu)]
        for program, needs, *distances, cpu in results["dithers"]
    )
    pairs = [f"{minutes} min, {kind}" for minutes in (26, 13) for kind in ("median", "rms")]
    return _grid(["program", "needs", *pairs, "CPU time"], rows)


def _setting(results: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return f"Measured in {results['measured']} on {results['machine']}. Versions: {versions}.\n"


_TABLES = {
    "setting": _setting,
    "real pairs": _real_pairs,
    "known truth": _known_truth,
    "detection": _detection,
    "resampling": _resampling,
    "whole alignment": _whole_alignment,
    "night": _night,
    "dithers": _dithers,
}


if __name__ == "__main__":
    raise SystemExit(main())
