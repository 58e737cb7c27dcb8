"""The house: a room is a subpackage, rooms lie on floors, and imports run downwards only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import spalipy_astro

PACKAGE = Path(spalipy_astro.__file__).parent
LONGEST_MODULE, MOST_MODULES_AT_THE_TOP = 600, 10

# from the ground up; what is not named here lies at the top of the package and is a helper
FLOORS = [
    {"_compiled"},
    {"_neighbors"},
    {"_lines", "models"},
    {"fitting", "wcs", "resampling"},
    {"matching", "alignment"},
    {"io", "visualization"},
    {"catalogs", "report"},
    {"detection"},
    {"registration"},
    {"batch"},
    {"groups"},
    {"commands", "__init__"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS, 1) for room in rooms}


def sources_of(package):
    """Return the text of each module; a package's ``__init__`` has the name ``room.__init__``."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
        if path.name != "_version.py"
    }


def room_of(module):
    return module.split(".")[0]


def imports_of(module, source, modules):
    """Return the modules that one imports, wherever in the file, annotations' imports included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ["spalipy_astro", *module.split(".")][: -node.level]
                base = ".".join([*above, base] if base else above)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name != "spalipy_astro" and not name.startswith("spalipy_astro."):
                continue
            if name.startswith("spalipy_astro._version"):  # written when the package is built
                continue
            inner = name.removeprefix("spalipy_astro").lstrip(".")
            while inner and inner not in modules and f"{inner}.__init__" not in modules:
                inner = inner.rpartition(".")[0]
            yield inner or "__init__"


def find_circle(arrows):
    """Return rooms that import each other in a circle, or None."""
    done = set()

    def visit(room, path):
        if room in path:
            return [*path[path.index(room) :], room]
        if room in done:
            return None
        done.add(room)
        circles = (visit(other, [*path, room]) for other in sorted(arrows.get(room, ())))
        return next(filter(None, circles), None)

    return next(filter(None, (visit(room, []) for room in sorted(arrows))), None)


def faults_of(sources):
    """Say in words what breaks the rules."""
    arrows = {}
    top = sorted(module for module in sources if "." not in module)
    if len(top) > MOST_MODULES_AT_THE_TOP:
        yield f"{len(top)} modules at the top: {', '.join(top)}"
    for module, source in sources.items():
        if (length := len(source.splitlines())) > LONGEST_MODULE:
            yield f"{module} has {length} lines"
        for other in imports_of(module, source, sources):
            here, there = room_of(module), room_of(other)
            if here == there:
                continue
            arrows.setdefault(here, set()).add(there)
            if FLOOR.get(there, 0) and FLOOR.get(here, 0) <= FLOOR[there]:
                yield f"{module} imports {other}, which is not below it"
            if any(part.startswith("_") for part in other.split(".")[1:]):
                yield f"{module} takes {other}, which is private to its room"
    if circle := find_circle(arrows):
        yield "in a circle: " + " -> ".join(circle)


def test_house():
    sources = sources_of(PACKAGE)
    assert {room_of(module) for module in sources} >= set(FLOOR)
    assert list(faults_of(sources)) == []


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        (
            {"wcs._pipeline": "from spalipy_astro.alignment import Alignment"},
            "wcs._pipeline imports alignment, which is not below it",
        ),
        (
            {
                "fitting._fit": "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    from spalipy_astro import alignment",
            },
            "fitting._fit imports alignment, which is not below it",
        ),
        (
            {"report._report": "def page():\n    from spalipy_astro import __version__"},
            "report._report imports __init__, which is not below it",
        ),
        (
            {"wcs._regrid": "import spalipy_astro.resampling"},
            "wcs._regrid imports resampling, which is not below it",
        ),
        (
            {"batch._task": "from spalipy_astro.wcs._pipeline import build_wcs"},
            "batch._task takes wcs._pipeline, which is private to its room",
        ),
        (
            {"batch._task": "from ..wcs import _pipeline"},
            "batch._task takes wcs._pipeline, which is private to its room",
        ),
        (
            {"errors": "import spalipy_astro._files", "_files": "from spalipy_astro import errors"},
            "in a circle: _files -> errors -> _files",
        ),
        ({"errors": "\n" * 601}, "errors has 601 lines"),
        (
            {f"_helper{k}": "" for k in range(10)},
            "11 modules at the top: __init__, " + ", ".join(f"_helper{k}" for k in range(10)),
        ),
    ],
)
def test_faults_are_found(sources, fault):
    rooms = {f"{room}.__init__": "" for room in ("alignment", "resampling", "wcs")}
    assert fault in list(faults_of({"__init__": "", **rooms, "wcs._pipeline": "", **sources}))


def test_room_is_what_its_init_exports():
    """Each room says what it exports, and has it."""
    for path in sorted(PACKAGE.glob("[!_]*/__init__.py")):
        room = __import__(f"spalipy_astro.{path.parent.name}", fromlist=["__all__"])
        if path.parent.name in FLOOR:
            assert room.__doc__, path
            for name in room.__all__:
                assert getattr(room, name) is not None, (path, name)
