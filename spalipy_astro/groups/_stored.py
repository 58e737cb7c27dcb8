"""Methods of a group for its files: how they are written, and what they must be to be read."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from spalipy_astro._checks import checked_call
from spalipy_astro._files import whole_file
from spalipy_astro.errors import FormatError
from spalipy_astro.groups._joint import JointErrors

if TYPE_CHECKING:
    from spalipy_astro.groups._result import GroupAlignment

__all__ = ["from_tree", "read", "to_tree", "write"]

# without which a group cannot be used
_COLUMNS = ("source", "status", "reason", "component")
_OF_LINKS = ("i", "j", "n_matched", "log_odds", "rms", "used")


@checked_call
def write(self: GroupAlignment, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """
    Write the group to an ASDF file.

    Parameters
    ----------
    path : path-like
        The file. It is written whole or not at all.
    overwrite : bool, optional
        Whether to replace a file of that name.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    ValueError
        If ``path`` has the suffix of another format, such as ``.fits``.
    """
    import asdf  # takes a while

    from spalipy_astro.io import check_asdf_name

    check_asdf_name(path)
    # an open file: asdf takes a path for a URI
    with whole_file(path, overwrite=overwrite) as part, open(part, "wb") as stream:
        asdf.AsdfFile({"group": self}).write_to(stream)


def read(cls: type[GroupAlignment], path: str | os.PathLike[str]) -> GroupAlignment:
    """
    Read a group from a file that `write` has made. Nothing in the file is executed.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    GroupAlignment

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is not an ASDF file, is damaged, contains no group, or was written by a later
        version.
    """
    from spalipy_astro.io import read_tree, require_inverse

    group: Any = read_tree(path, what="a group", maker="GroupAlignment.write").get("group")
    name = repr(os.fspath(path))
    for alignment in getattr(group, "alignments", ()):
        if alignment is not None:
            require_inverse(alignment, name)
            if group._joint and not alignment._errors:
                raise FormatError(f"{name} has errors of a group, but not of all its alignments.")
    if not isinstance(group, cls):
        raise FormatError(
            f"{name} holds {type(group).__name__} under 'group', not a "
            "GroupAlignment; it was not made by GroupAlignment.write. For the file of an "
            "alignment use Alignment.read."
        )
    return group


def to_tree(self: GroupAlignment) -> dict[str, Any]:
    """
    Return what an ASDF file holds of the group.

    Returns
    -------
    dict
        As the schema ``group-1.0.0`` describes it.
    """
    return {
        "reference": self.reference,
        "alignments": list(self.alignments),
        "table": self.table,
        "links": self.links,
        "provenance": dict(self.provenance),
        "cameras": [[label, camera] for label, camera in self.cameras.items()],
        "undetermined": [list(pair) for pair in self.undetermined.items()],
        "errors": [joint.to_tree() for joint in self._joint],
    }


def from_tree(cls: type[GroupAlignment], tree: Mapping[str, Any]) -> GroupAlignment:
    """
    Make a group of what an ASDF file holds.

    Parameters
    ----------
    tree : mapping
        As `to_tree` returns it.

    Returns
    -------
    GroupAlignment

    Raises
    ------
    FormatError
        If its parts do not go together.
    """
    _check_parts(tree)
    return cls(
        tree["reference"],
        list(tree["alignments"]),
        tree["table"],
        tree["links"],
        dict(tree["provenance"]),
        {_hashable(label): camera for label, camera in tree.get("cameras", ())},
        {_hashable(label): reason for label, reason in tree.get("undetermined", ())},
        [JointErrors.from_tree(joint) for joint in tree.get("errors", ())],
    )


def _check_parts(tree: Mapping[str, Any]) -> None:
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


def _hashable(label: Any) -> Hashable:
    """Return a label as it was: files know no tuples, such as name and version of an extension."""
    return tuple(map(_hashable, label)) if isinstance(label, list) else label
