"""What an earlier run has made: whose file it is, from what, and its figures."""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits

from spalipy_astro._files import refuse_existing
from spalipy_astro.alignment import Alignment
from spalipy_astro.batch._figures import figures_from
from spalipy_astro.errors import AlignmentError
from spalipy_astro.io import is_complete, is_fits, peek_alignment

__all__ = ["KEY", "OWNER", "Made", "is_made", "is_remnant", "made_from"]

log = logging.getLogger(__name__)

KEY, OWNER = "ALGNKEY", "ALGNSRC"
"""Cards of aligned images: what all that an image was made from is called, and whose it is."""

_IMAGES = re.compile(r"(^coadd.*|_aligned)\.fits$")
_MOST = 2**20  # bytes of a file that are searched for what it was made from


def _header_of(path: str | os.PathLike[str]) -> fits.Header:
    """Return the header of an aligned image; an empty one if it cannot be read."""
    try:
        if Path(path).is_file() and is_fits(path):
            with open(path, "rb") as stream:
                return fits.Header.fromfile(stream)
    except (AlignmentError, EOFError, OSError, ValueError, zlib.error):
        pass
    return fits.Header()


def _notes_of(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
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
    if _notes_of(path)[1] or _header_of(path):
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
        return str(_notes_of(path)[1].get("source", ""))
    return str(_header_of(path).get(OWNER, ""))


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


@dataclass(frozen=True)
class Made:
    """
    The files of a source, and whether an earlier run, or one at the same time, has made them.

    Attributes
    ----------
    aligned, asdf : Path or None
        None where it is not asked for.
    key, key_of_image : str
        Short names for all that the alignment and the image are made from, noted in the files.
    overwrite : bool
        Whether other files are replaced.
    """

    aligned: Path | None
    asdf: Path | None
    key: str
    key_of_image: str
    overwrite: bool

    def has_image(self) -> bool:
        """Whether there is the image, or a part of it."""
        return self.aligned is not None and _header_of(self.aligned).get(KEY) == self.key_of_image

    def has_alignment(self) -> bool:
        """Whether there is the alignment."""
        return self.asdf is not None and _notes_of(self.asdf)[1].get("batch") == self.key

    def before(self, grid: str) -> tuple[dict[str, Any], Any] | None:
        """
        Return what the files tell, if all are there.

        Parameters
        ----------
        grid : {"template", "union", "intersection"}
            What is asked for of the frames together.

        Returns
        -------
        figures : dict
        union : tuple or None
            ``(x, y)`` and ``(ny, nx)`` of the grid that holds the source and the template, for a
            union.
        """
        figures: dict[str, Any] = {}
        notes: Mapping[str, Any] = {}
        if self.asdf is not None:
            notes = _notes_of(self.asdf)[1]
            figures = dict(notes.get("figures", {}))
            if notes.get("batch") != self.key or grid == "intersection":
                return None  # an intersection takes the outline, which is not noted
            if grid == "union" and "union" not in notes:
                return None
        if self.aligned is not None:
            header = _header_of(self.aligned)
            if header.get(KEY) != self.key_of_image or not is_complete(self.aligned):
                return None
            figures = figures or figures_from(header)
        # an image that was written before there were these cards is made again
        if "n_matched" not in figures:
            return None
        union = notes.get("union") if grid == "union" else None
        return figures, None if union is None else (tuple(union[0]), tuple(union[1]))

    def alignment(self) -> Alignment | None:
        """Return the alignment that is there, if it is this one."""
        if self.asdf is None or not self.has_alignment():
            return None
        try:
            return Alignment.read(self.asdf)
        except (AlignmentError, OSError):
            return None

    def refuse_foreign(self) -> list[Path]:
        """
        Raise for files that were not made from the same inputs, or are no regular files.

        What damage has left of files of the same making is returned: it is to be replaced.
        """
        remnants = []
        for path, is_this, key in (
            (self.aligned, self.has_image, self.key_of_image),
            (self.asdf, self.has_alignment, self.key),
        ):
            if path is None or is_this():
                continue
            if not self.overwrite and is_remnant(path, key):
                log.warning("%s is damaged, and is made again", path)
                remnants.append(path)
            else:
                _refuse_foreign(path, overwrite=self.overwrite)
        return remnants

    @contextmanager
    def by_others(self, is_this: Callable[[], bool], path: Path) -> Iterator[None]:
        """Take a file that another run has written in the meantime, if it is the same."""
        try:
            yield
        except FileExistsError:
            if not is_this():
                _refuse_foreign(path, overwrite=self.overwrite)
                raise


def _refuse_foreign(path: Path, *, overwrite: bool) -> None:
    """Raise for a file that was not made from the same inputs, or is not a regular file."""
    refuse_existing(path, overwrite=True)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(
            f"{path} exists, but was not made from the current source with this template and these "
            "options; overwrite=True replaces it, another output folder keeps it"
        )
