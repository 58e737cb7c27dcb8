"""Files of groups: how they are written, and what they must be to be read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from spalipy_astro._files import whole_file
from spalipy_astro.errors import FormatError

__all__ = ["check_parts", "read_group", "write_group"]

# without which a group cannot be used
_COLUMNS = ("source", "status", "reason", "component")
_OF_LINKS = ("i", "j", "n_matched", "log_odds", "rms", "used")


def write_group(group: Any, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a group to an ASDF file, whole or not at all; see `GroupAlignment.write`."""
    import asdf  # takes a while

    from spalipy_astro.io import check_asdf_name

    check_asdf_name(path)
    # an open file: asdf takes a path for a URI
    with whole_file(path, overwrite=overwrite) as part, open(part, "wb") as stream:
        asdf.AsdfFile({"group": group}).write_to(stream)


def read_group(path: str | os.PathLike[str]) -> Any:
    """Read what stands under "group" in an ASDF file; see `GroupAlignment.read`."""
    from spalipy_astro.io import read_tree, require_inverse

    group: Any = read_tree(path, what="a group", maker="GroupAlignment.write").get("group")
    name = repr(os.fspath(path))
    for alignment in getattr(group, "alignments", ()):
        if alignment is not None:
            require_inverse(alignment, name)
            if group._joint and not alignment._errors:
                raise FormatError(f"{name} has errors of a group, but not of all its alignments.")
    return group


def check_parts(tree: Mapping[str, Any]) -> None:
    """
    Raise for parts of a group that do not go together.

    Parameters
    ----------
    tree : mapping
        As `GroupAlignment.to_tree` returns it.

    Raises
    ------
    FormatError
    """
    alignments, table, links = list(tree["alignments"]), tree["table"], tree["links"]
    n = len(alignments)
    for name, found, needed in (("table", table, _COLUMNS), ("links", links, _OF_LINKS)):
        missing = [column for column in needed if column not in found.colnames]
        if missing:
            raise FormatError(f"its {name} lacks the columns {', '.join(missing)}.")
    if len(table) != n:
        raise FormatError(f"it has {n} alignments, and {len(table)} rows in its table.")
    component = np.asarray(table["component"])
    placed = np.array([a is not None for a in alignments], bool)
    if component.dtype.kind not in "iu" or ((component >= 0) != placed).any():
        raise FormatError("its table has components that its alignments do not have.")
    for part, joint in enumerate(tree.get("errors", ())):
        if not set(np.flatnonzero(component == part).tolist()) <= set(joint["frames"]):
            raise FormatError(f"it lacks errors of images of component {part}.")
    for column in ("i", "j"):
        ends = np.asarray(links[column])
        if len(ends) and (ends.dtype.kind not in "iu" or ends.min() < 0 or ends.max() >= n):
            raise FormatError(f"its links are of images that it does not have ({column}).")
    top = tree["reference"]
    on_sky = "n_catalog" in table.colnames  # the grid is no image's
    if (top is None) != (on_sky or not placed.any()) or (top is not None and not 0 <= top < n):
        raise FormatError(f"its reference is {top!r}, for {n} images.")
    if top is not None and component[top] != 0:
        raise FormatError(f"its reference, image {top}, is not in the largest component.")
