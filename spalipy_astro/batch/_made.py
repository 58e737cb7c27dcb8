"""What an earlier run has made: whose file it is, from what, and its figures."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astropy.io import fits

from spalipy_astro.errors import AlignmentError
from spalipy_astro.io import is_fits, peek_alignment

__all__ = ["KEY", "OWNER", "header_of", "is_made", "is_remnant", "made_from", "notes_of"]

KEY, OWNER = "ALGNKEY", "ALGNSRC"
"""Cards of aligned images: what all that an image was made from is called, and whose it is."""

_IMAGES = re.compile(r"(^coadd.*|_aligned)\.fits$")
_MOST = 2**20  # bytes of a file that are searched for what it was made from


def header_of(path: str | os.PathLike[str]) -> fits.Header:
    """Return the header of an aligned image; an empty one if it cannot be read."""
    try:
        if Path(path).is_file() and is_fits(path):
            with open(path, "rb") as stream:
                return fits.Header.fromfile(stream)
    except (AlignmentError, EOFError, OSError, ValueError, zlib.error):
        pass
    return fits.Header()


def notes_of(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return summary and provenance of a whole file of an alignment; {} if it is none."""
    try:
        return peek_alignment(path)
    except (AlignmentError, OSError):
        return {}, {}


def is_remnant(path: str | os.PathLike[str], key: str) -> bool:
    """
    Tell whether a file is what damage has left of one that was made from the same inputs.

    Parameters
    ----------
    path : path-like
    key : str
        What all that the file was made from is called.

    Returns
    -------
    bool
        True, if it cannot be read, for an empty file or one of zeros, one with the key in it, and
        an ASDF file of this package that ends before it says what it was made from.
    """
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as stream:
            text = stream.read(_MOST)
    except OSError:
        return False
    if not text.strip(b"\0"):  # so much is left where a machine went down
        return True
    if notes_of(path)[1] or header_of(path):
        return False
    if key.encode("ascii") in text:
        return True
    cut = text.startswith(b"#ASDF") and b"\n..." not in text and b"provenance:" not in text
    return cut and b"spalipy_astro" in text


def made_from(path: str | os.PathLike[str]) -> str:
    """Return the owner of a file, "" if it has none; see `Task`."""
    if not os.path.isfile(path):
        return ""
    if os.fspath(path).endswith(".asdf"):
        return str(notes_of(path)[1].get("source", ""))
    return str(header_of(path).get(OWNER, ""))


def is_made(path: str | os.PathLike[str], *, by: str | None = None) -> bool:
    """
    Tell whether an image was made by an earlier run, so that it is no frame to align.

    Parameters
    ----------
    path : path-like
    by : str, optional
        The owner that it must have; by default any.

    Returns
    -------
    bool
        By its name, and by the card `OWNER` of its header.
    """
    # most names say that the header need not be read
    owner = made_from(path) if _IMAGES.search(os.path.basename(path)) else ""
    return owner == by if by else owner != ""
