"""FITS files opened: also packed ones, those of a server, and HDUs that are open already."""

from __future__ import annotations

import gzip
import logging
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO

from astropy.io import fits
from astropy.utils.data import get_readable_fileobj

from spalipy_astro._files import open_binary, require_file, size_of
from spalipy_astro.errors import AlignmentError, FormatError
from spalipy_astro.io._fitscheck import BLOCK, MAGIC, check_fits, unpack_fits

__all__ = ["OpenHDUs", "head_of", "is_complete", "is_fits", "open_fits"]

log = logging.getLogger(__name__)

_PACKED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00")
_PACKING = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What reading a damaged compressed file raises."""


@dataclass(frozen=True)
class OpenHDUs(os.PathLike[str]):
    """
    HDUs that a user has opened, or made, in place of a path.

    Attributes
    ----------
    hdus : `~astropy.io.fits.HDUList`
        It stays the user's: it is neither changed nor closed.
    """

    hdus: fits.HDUList

    def __fspath__(self) -> str:
        """Return what to call them in messages: their file if they have one."""
        return self.hdus.filename() or "HDUList"


def head_of(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a file, decompressed."""
    try:
        # an open file: a name might be taken for a URL
        with (
            open_binary(path) as file,
            get_readable_fileobj(file, encoding="binary") as stream,
        ):
            head = stream.read(BLOCK)
    except _PACKING as error:
        raise _unpackable(path, error) from error
    if head.startswith(_PACKED):  # what cannot be unpacked at all comes as it is
        raise _unpackable(path, EOFError("its first bytes are those of a compressed file"))
    return head


def _unpackable(path: str | os.PathLike[str], error: Exception) -> FormatError:
    """Return the error for a file whose compression is damaged."""
    return FormatError(
        f"{os.fspath(path)!r} is truncated or damaged: it cannot be unpacked ({error})."
    )


def is_fits(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins like a FITS file."""
    return head_of(path).startswith(MAGIC)


def is_complete(path: str | os.PathLike[str]) -> bool:
    """
    Tell whether a file has all the bytes that its headers promise.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
        Also True for files that are compressed as a whole, which are not looked into.
    """
    with open(path, "rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return True
        stream.seek(0)
        try:
            check_fits(stream, os.path.getsize(path), os.fspath(path))
        except FormatError:
            return False
    return True


@contextmanager
def open_fits(path: str | os.PathLike[str]) -> Iterator[fits.HDUList]:
    """
    Open a FITS file whose headers promise no more than there is.

    Parameters
    ----------
    path : path-like
        Also compressed as a whole; or `OpenHDUs`.

    Yields
    ------
    `~astropy.io.fits.HDUList`
        Whatever goes wrong with it in the block, which for a damaged file may be anything, is a
        FormatError.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is not a FITS file, or is truncated or damaged.
    """
    name = os.fspath(path)
    if not isinstance(path, OpenHDUs):
        require_file(path)
    try:
        with ExitStack() as stack:
            if isinstance(path, OpenHDUs):
                yield path.hdus
                return
            # an open file: astropy takes some names for URLs, and ~ for somebody's home
            file = stack.enter_context(open_binary(path))
            stream = stack.enter_context(get_readable_fileobj(file, encoding="binary"))
            if (start := stream.read(len(MAGIC))) != MAGIC:
                why = "does not start like one" if start else "is empty"
                raise FormatError(f"{name!r} is not a FITS file: it {why}.")
            stream.seek(0)
            if stream is file:
                size = size_of(file)
                end = check_fits(file, size, name)
                file.seek(0)
                if end < size:
                    log.warning("%s: %d bytes after its last HDU are left out", name, size - end)
                    stream = BytesIO(file.read(end))
            else:
                stream = unpack_fits(stream, name)
            yield stack.enter_context(fits.open(stream, memmap=False))
    except (AlignmentError, MemoryError, Warning):
        raise
    except _PACKING as error:
        raise _unpackable(path, error) from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the file system, and it names the file
        if isinstance(error, OSError | ImportError) and repr(name) in str(error):
            raise  # of a server
        raise FormatError(
            f"{name!r} is damaged, it cannot be read as FITS ({type(error).__name__}: {error})."
        ) from error
