"""Catalogs in text files, also compressed ones: told by how they begin, and read."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from astropy.io import ascii
from astropy.table import Table
from astropy.utils.data import get_readable_fileobj

from spalipy_astro._files import open_binary
from spalipy_astro.errors import FormatError

__all__ = [
    "TEXT_FORMATS",
    "_read_daophot",
    "guess_text_format",
    "is_text",
    "read_text",
    "text_lines",
]

_MAX_TEXT = 2**30  # characters: a file of a few kilobytes may unpack to any size
_MAX_COLUMNS = 10_000  # a vector of SExtractor takes a column for each aperture
_HEADED = re.compile(rb"#\s*\d+\s+[A-Za-z]\w*")  # "#   1 NUMBER   Running object number"
_DAOPHOT = re.compile(rb"\s*NL\s+NX\s+NY\s+LOWBAD")
_BY_SUFFIX = {".csv": "csv", ".rdb": "rdb", ".tex": "latex"}
TEXT_FORMATS = ("ascii_head", "ecsv", "iraf", "daophot", *_BY_SUFFIX.values())
"""Formats of `read_text` that this package tells by itself."""
_PACKED = (".gz", ".bz2", ".xz", ".z", ".lzma")
# Of ALLSTAR, FIND and the like, by the number of values in a line; PHOTOMETRY has two lines a star.
_DAOPHOT_COLUMNS = {
    6: ("ID", "X", "Y", "MAG", "SHARP", "ROUND"),
    7: ("ID", "X", "Y", "MAG", "SHARP", "ROUND", "ROUND2"),
    9: ("ID", "X", "Y", "MAG", "MERR", "SKY", "NITER", "CHI", "SHARP"),
}
_DAOPHOT_LEAST = ("ID", "X", "Y", "MAG")


def guess_text_format(path: PurePath, head: bytes) -> str | None:
    """
    Tell the format of a text by its beginning, else by its name.

    Parameters
    ----------
    path : pathlib.PurePath
        Its name; a suffix of compression is overlooked.
    head : bytes
        Its first bytes, decompressed.

    Returns
    -------
    str or None
        A format of `read_text`; None where neither tells.
    """
    if head.startswith(b"# %ECSV"):
        return "ecsv"
    if _HEADED.match(head):
        return "ascii_head"
    if head.startswith(b"#K "):
        return "iraf"
    if _DAOPHOT.match(head):
        return "daophot"
    name = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    return _BY_SUFFIX.get(name.suffix.lower())


def is_text(head: bytes) -> bool:
    """Tell whether a file that begins so is text, not binary data."""
    return b"\0" not in head


def read_text(path: Path | str, format: str | None) -> Table:
    """
    Read a table of text.

    Parameters
    ----------
    path : pathlib.Path or str
        Also compressed as a whole.
    format : str or None
        One of `guess_text_format`, or a format of `astropy.io.ascii` without ``ascii.``; None to
        try those one after the other.

    Returns
    -------
    `~astropy.table.Table`

    Raises
    ------
    Exception
        Whatever astropy raises for text that it cannot read.
    """
    lines = text_lines(path)
    if format == "daophot":
        return _read_daophot(lines)
    if format == "ascii_head":
        _check_numbers(lines)
    if format is None:
        return ascii.read(lines)
    names = {"ascii_head": "sextractor", "iraf": "daophot"}
    return ascii.read(lines, format=names.get(format, format), guess=False)


def _check_numbers(lines: list[str]) -> None:
    """Raise for a column of SExtractor's head with a number that none has: the gap is filled."""
    for line in lines:
        if not line.startswith("#"):
            break
        words = line[1:].split(maxsplit=2)
        if len(words) > 1 and words[0].isdecimal() and int(words[0]) > _MAX_COLUMNS:
            raise FormatError(
                f"its head gives the column {words[1]} the number {words[0]}; there are no more "
                f"than {_MAX_COLUMNS}."
            )


def text_lines(path: Path | str) -> list[str]:
    """
    Read a text, also a compressed one, as two lines or more.

    That is what readers are given in place of a name: they take a name with a line break for the
    text, and a text of one line for a name.
    """
    with open_binary(path) as file, get_readable_fileobj(file) as text:
        words = text.read(_MAX_TEXT + 1)
    if len(words) > _MAX_TEXT:
        raise FormatError(
            f"{str(path)!r} has more than {_MAX_TEXT} characters, also unpacked; cut it, or read "
            "it in another way and give the table."
        )
    lines = words.splitlines()
    return [*lines, *[""] * (2 - len(lines))]


def _read_daophot(lines: list[str]) -> Table:
    """
    Read a file of DAOPHOT II or ALLSTAR (Stetson 1987, PASP, 99, 191, doi:10.1086/131977).

    Parameters
    ----------
    lines : list of str
        Two lines of head, whose first number says what follows: 1, a line a star; 2, two lines a
        star with magnitudes in several apertures; 3, as 1, in groups with blank lines between.

    Returns
    -------
    `~astropy.table.Table`
        ``ID``, ``X``, ``Y`` (the first pixel is 1), ``MAG`` and, where the number of columns is
        that of a known program, the others.

    Raises
    ------
    FormatError
        If a line is not of the form that the head announces.
    """
    kind = lines[1].split()[:1] if len(lines) > 1 else []
    if kind not in (["1"], ["2"], ["3"]):
        raise FormatError(
            f"its NL is {kind[0] if kind else 'missing'}; of DAOPHOT it is 1, 2 or 3."
        )
    rows = [line.split() for line in lines[2:] if line.strip()]
    if kind == ["2"]:
        if len(rows) % 2:
            raise FormatError("it has NL = 2, two lines for each star, but an odd number of lines.")
        rows = rows[::2]
    width = min(map(len, rows), default=len(_DAOPHOT_LEAST))
    names = _DAOPHOT_COLUMNS.get(width, _DAOPHOT_LEAST) if kind != ["2"] else _DAOPHOT_LEAST
    if width < len(names):
        raise FormatError(f"it has a line of {width} values; a star takes {len(names)} or more.")
    try:
        values = np.array([row[: len(names)] for row in rows], float).reshape(-1, len(names))
    except ValueError as error:
        raise FormatError(f"it has something that is no number: {error}.") from error
    meta: dict[str, Any] = {"DAOPHOT": dict(zip(lines[0].split(), lines[1].split(), strict=False))}
    return Table(list(values.T), names=names, meta=meta)
