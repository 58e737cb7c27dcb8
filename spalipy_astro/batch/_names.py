"""Names of files: what a folder or a pattern stands for, and what is made of a name."""

from __future__ import annotations

import os
import re
from glob import glob

from spalipy_astro._files import is_remote, suffix_path

__all__ = ["expand", "is_named_fits", "stem_of"]

_SUFFIXES = (".fits", ".fit", ".fts")
_PACKED = (".gz", ".fz", ".bz2", ".xz", ".z", ".lzma")


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the name of a file without its suffixes of format and compression."""
    name = suffix_path(path)
    if name.suffix.lower() in _PACKED:
        name = name.with_suffix("")
    stem = name.stem
    # "." and ".." are folders
    return stem if stem.strip(".") else "_" * max(len(stem), 1)


def expand(path: str | os.PathLike[str], *, name: str = "sources") -> list[str] | None:
    """
    List the images that a folder or a pattern stands for.

    Parameters
    ----------
    path : path-like
    name : str, optional
        The argument, for error messages.

    Returns
    -------
    list of str or None
        The FITS files of a folder (not those of folders in it, and no images that were aligned by
        an earlier run), or the files whose names match a pattern with ``*``, ``?`` or ``[...]``,
        sorted by name; None for anything else.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    where = os.fspath(path)
    if is_remote(path):
        return None
    if os.path.isdir(where):
        from spalipy_astro.batch._made import is_made  # takes a while to import

        found = sorted(
            os.path.join(where, entry)
            for entry in os.listdir(where)
            if not entry.startswith(".") and is_named_fits(entry)
        )
        found = [path for path in found if not is_made(path)]
        if not found:
            raise FileNotFoundError(
                f"{name}: the folder {where!r} contains no FITS files (names that end in "
                f"{', '.join(_SUFFIXES)}, also packed as in .fits.fz); give another folder, or a "
                "pattern such as 'raw/*.img'."
            )
        return found
    if os.path.lexists(where) or not re.search(r"[*?[]", where):
        return None
    found = sorted(match for match in glob(where) if not os.path.isdir(match))
    if not found:
        raise FileNotFoundError(f"{name}: no file matches the pattern {where!r}.")
    return found


def is_named_fits(name: str) -> bool:
    """Tell whether a file has the name of a FITS file, packed or not."""
    root, suffix = os.path.splitext(name.lower())
    return (os.path.splitext(root)[1] if suffix in _PACKED else suffix) in _SUFFIXES
