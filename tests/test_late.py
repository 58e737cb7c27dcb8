"""Names that are imported when they are asked for, at run time and for type checkers."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import spalipy_astro

PACKAGE = Path(spalipy_astro.__file__).parent
INIT = """
from spalipy_astro._late import late

__getattr__, __dir__ = late(__name__, {"_inner": ("one", "two"), "outer": ()})
"""


def test_names_are_imported_when_they_are_asked_for(tmp_path, monkeypatch):
    room = tmp_path / "some_room"
    room.mkdir()
    (room / "__init__.py").write_text(INIT)
    (room / "_inner.py").write_text("one, two = object(), object()")
    (room / "outer.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import some_room

    assert {"one", "two", "outer", "late"} < set(dir(some_room))
    assert "some_room._inner" not in sys.modules
    from some_room import one

    assert some_room.one is one is sys.modules["some_room._inner"].one
    assert some_room.outer is sys.modules["some_room.outer"]
    with pytest.raises(AttributeError, match="'some_room' has no attribute 'three'") as error:
        _ = some_room.three
    assert error.value.name == "three"
    assert error.value.obj is some_room
    with pytest.raises(ImportError, match="cannot import name 'three' from 'some_room'"):
        from some_room import three  # noqa: F401


def late_names(tree):
    """Return what one module gives late, and what its imports tell a type checker."""
    given, told = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "late":
            for module, names in ast.literal_eval(node.args[1]).items():
                given |= {f"{module}.{name}" for name in names}
                given |= set() if module.startswith("_") else {module}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                module = line.module.removeprefix("spalipy_astro").lstrip(".")
                told |= {f"{module}.{alias.name}".lstrip(".") for alias in line.names}
    return given, told


def test_type_checkers_see_the_names_that_come_late():
    seen = 0
    for path in sorted(PACKAGE.rglob("__init__.py")):
        given, told = late_names(ast.parse(path.read_text(encoding="utf-8")))
        if given:
            room = ".".join(path.parent.relative_to(PACKAGE).parts)
            assert given == {name.removeprefix(f"{room}.") if room else name for name in told}, room
            seen += 1
    assert seen == 6
