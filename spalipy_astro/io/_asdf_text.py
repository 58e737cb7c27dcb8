"""ASDF files of alignments as text: their names, aliases, and what they say of the alignment."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from asdf.util import load_yaml

from spalipy_astro._files import require_file
from spalipy_astro.errors import FormatError

__all__ = ["check_aliases", "check_asdf_name", "peek_alignment", "reason_of"]

_MAX_TEXT = 2**24  # bytes of YAML that are looked through; a file of ours has some ten thousand
_ALIAS = re.compile(rb"[\s\[,]\*\w")
_NOTES = re.compile(rb"^  (?:summary|provenance):.*(?:\n   .*)*", re.MULTILINE)
_FEW = 8  # aliases that cannot do harm; a file of ours has one
_MAX_NODES = 10**6
_OTHERS = {".fits", ".fit", ".fts", ".fz", ".gz", ".csv", ".ecsv", ".txt", ".json", ".xml", ".vot"}
_OTHERS |= {".h5", ".hdf5", ".png", ".jpg", ".jpeg", ".pdf", ".svg"}
_MAGIC, _FIELDS = b"\xd3BLK", 48  # of a block: how it begins, and the least bytes of its header
_END = b"#ASDF BLOCK INDEX"
_INDEX = 4096  # bytes at the end of a file, where the list of its blocks is


def check_asdf_name(path: str | os.PathLike[str], *, name: str = "path") -> None:
    """
    Raise ValueError for the name of a file of another format, which everybody would misread.

    Parameters
    ----------
    path : path-like
    name : str, optional
        The argument, for the message.
    """
    stem = whole = os.fspath(path)
    while os.path.splitext(stem)[1].lower() in _OTHERS:
        stem = os.path.splitext(stem)[0]
    if stem != whole:
        raise ValueError(
            f"{name} is that of an ASDF file; got {whole!r}. Write {stem + '.asdf'!r}. What "
            "belongs into a FITS file is the aligned image, alignment.resample(source)."
        )


def peek_alignment(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read what an alignment's file says of it, and not the alignment: in a twentieth of the time.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    summary, provenance : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is not a whole file of an alignment.
    """
    name = repr(os.fspath(path))
    require_file(path)
    with open(path, "rb") as stream:
        text, end, _ = stream.read(_MAX_TEXT).partition(b"\n...")
        stream.seek(max(0, os.path.getsize(path) - _INDEX))
        is_whole = end and text.startswith(b"#ASDF") and _END in stream.read()
        is_whole = is_whole and _blocks_are_whole(stream, len(text))
    if not is_whole or len(_ALIAS.findall(text)) > _FEW:
        raise FormatError(f"{name} is not a whole file of an alignment.")
    # of the text only the two parts that are asked for: the rest takes most of the time
    parts = b"\n".join(match.group() for match in _NOTES.finditer(text))
    try:
        known = load_yaml(BytesIO(b"%YAML 1.1\n---\n" + parts + b"\n...\n"))
        return dict(known["summary"]), dict(known["provenance"])
    except Exception as error:  # of yaml, or it is about something else
        raise FormatError(f"{name} cannot be read as an alignment ({reason_of(error)}).") from error


def _blocks_are_whole(stream: BinaryIO, start: int) -> bool:
    """Tell whether the blocks behind a text are all there, as their checksums say."""
    stream.seek(start)
    data = stream.read()
    place = data.find(_MAGIC)
    while place >= 0 and data.startswith(_MAGIC, place):
        head = place + len(_MAGIC)
        size = int.from_bytes(data[head : head + 2], "big")
        fields = data[head + 2 : head + 2 + size]
        if len(fields) < _FIELDS:
            return False
        allocated, used = (int.from_bytes(fields[k : k + 8], "big") for k in (8, 16))
        checksum = fields[32:48]
        block = data[head + 2 + size : head + 2 + size + used]
        if len(block) < used or (
            any(checksum) and hashlib.md5(block, usedforsecurity=False).digest() != checksum
        ):
            return False
        place = head + 2 + size + allocated
    return data.startswith(_END, place) if place >= 0 else True


def check_aliases(stream: BinaryIO) -> None:
    """
    Raise where aliases of aliases make more of a file's text than anybody can read.

    Each level multiplies what is below it, and asdf goes through all of that.
    """
    text = stream.read(_MAX_TEXT).partition(b"\n...")[0]
    stream.seek(0)
    if len(_ALIAS.findall(text)) > _FEW:
        # a group has as many entries as its frames; those that are written out take a byte or more
        most = max(_MAX_NODES, len(text))
        if _number_of_nodes(load_yaml(stream), {}) > most:
            raise FormatError(f"its aliases expand to more than {most} entries.")
        stream.seek(0)


def _number_of_nodes(node: Any, known: dict[int, float]) -> float:
    """Count the entries of a tree, shared ones as often as they occur; infinite for a loop."""
    if not isinstance(node, Mapping | list):
        return 1
    if id(node) not in known:
        known[id(node)] = np.inf
        values = node.values() if isinstance(node, Mapping) else node
        known[id(node)] = 1 + sum(_number_of_nodes(value, known) for value in values)
    return known[id(node)]


def reason_of(error: BaseException) -> str:
    """Return the first line of an error message."""
    return (str(error).splitlines() or ["no reason given"])[0]
