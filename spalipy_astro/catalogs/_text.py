"""Catalogs in text files, also compressed ones: told by how they begin, and read."""

from __future__ import annotations

import codecs
import re
from pathlib import Path, PurePath
from typing import Any

import astropy.units as u
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
_RULE = re.compile(r"-+(?:[\t;|]-+)+")  # below names and units in the tables of VizieR
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_MISSING = [(word, "0") for word in ("", "null", "NULL", "INDEF", "N/A", "--")]
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
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
    head = head.removeprefix(codecs.BOM_UTF8)
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
    return b"\0" not in head or head.startswith(_WIDE)


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
    if format in (None, "csv"):
        return _read_guessed(lines, format)
    names = {"ascii_head": "sextractor", "iraf": "daophot"}
    return ascii.read(lines, format=names.get(format, format), guess=False)


def _read_guessed(lines: list[str], format: str | None) -> Table:
    """Read text of a form that no first line tells, with comments and words for missing values."""
    plain = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    rules = [k for k, line in enumerate(plain) if k >= 2 and _RULE.fullmatch(line.strip())]
    if rules:
        return _read_vizier(plain, rules)
    if plain and ";" in plain[0] and "," not in plain[0]:
        cells = [[cell.strip() for cell in line.split(";")] for line in plain]
        plain = [";".join(map(_with_point, row)) for row in cells]
        return ascii.read(plain, format="csv", delimiter=";", guess=False, fill_values=_MISSING)
    if format == "csv":
        notes = [line.lstrip("# ") for line in lines if line.lstrip().startswith("#")]
        if notes and plain and _are_numbers(plain[0].split(",")):  # the names are a comment, too
            plain = [notes[-1], *plain]
        lines = plain or lines
        return ascii.read(lines, format=format, guess=False, fill_values=_MISSING)
    return ascii.read(lines, fill_values=_MISSING)


def _are_numbers(cells: list[str]) -> bool:
    """Tell rows from names."""
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False


def _with_point(cell: str) -> str:
    """Return a number with a decimal point where it has a comma."""
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


def _read_vizier(lines: list[str], rules: list[int]) -> Table:
    """
    Read the first table of an answer of VizieR: names, units and a line of dashes above the rows.

    Parameters
    ----------
    lines : list of str
        Without comments and empty lines.
    rules : list of int
        Which of them are dashes.

    Raises
    ------
    FormatError
        If there are several tables.
    """
    if len(rules) > 1:
        raise FormatError(f"it has {len(rules)} tables; leave all but one out.")
    rule = rules[0]
    separator = lines[rule].strip().strip("-")[0]
    names, units, *rows = (
        [cell.strip() for cell in line.split(separator)]
        for line in (*lines[rule - 2 : rule], *lines[rule + 1 :])
    )
    text = ["\t".join(row) for row in (names, *rows)]
    table = ascii.read(text, format="tab", guess=False, fill_values=_MISSING)
    for name, told in zip(table.colnames, units, strict=False):
        unit = u.Unit(told, parse_strict="silent")
        if table[name].dtype.kind in "iuf" and not isinstance(unit, u.UnrecognizedUnit):
            table[name].unit = unit
    return table


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
    with open_binary(path) as file, get_readable_fileobj(file, encoding="binary") as text:
        raw = text.read(_MAX_TEXT + 1)
    if len(raw) > _MAX_TEXT:
        raise FormatError(
            f"{str(path)!r} has more than {_MAX_TEXT} characters, also unpacked; cut it, or read "
            "it in another way and give the table."
        )
    lines = _decoded(raw).splitlines()
    return [*lines, *[""] * (2 - len(lines))]


def _decoded(raw: bytes) -> str:
    """Return a text by its mark of byte order, else of UTF-8, else of Latin-1."""
    if raw.startswith(_WIDE):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if _CONTROLS.search(raw):  # no text at all
            raise
        return raw.decode("latin-1")


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
