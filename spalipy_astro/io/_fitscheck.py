"""
Headers of FITS files, read raw, before any library believes them.

One damaged character makes a header promise more data than the file has, more than there is memory,
or a length that leads back to where it stands. What the cards that tell the size of the data say is
compared with what is there.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import BinaryIO, NamedTuple

from spalipy_astro.errors import FormatError

__all__ = ["BLOCK", "MAGIC", "check_fits", "unpack_fits"]

BLOCK = 2880  # bytes
MAGIC = b"SIMPLE  ="

_CARD = 80  # bytes
_MAX_BLOCKS = 2**14  # of a header: a hundred times the longest in use; more never comes to an END
_PIECE = 2**20  # bytes that are unpacked at a time
_MAX_AXES = _MAX_COLUMNS = 999  # of the FITS standard
_MAX_BLOCKSIZE = 2**16  # pixels that Rice's method codes at a time: 16 or 32 where anybody knows
_BITPIX = (8, 16, 32, 64, -32, -64)
_INTEGER = re.compile(rb"= *([+-]?\d+) *(?:/.*)?", re.DOTALL)
_TEXT = re.compile(rb"= *'([^']*)'")
_STRUCTURE = re.compile(rb"Z?(NAXIS\d*|BITPIX)|[PG]COUNT|GROUPS|TFIELDS|(TFORM|ZTILE)\d+")
_FORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])")
_BYTES = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8}
_BYTES |= {"M": 16, "P": 8, "Q": 16}
# How many times smaller than the image its compressed form can be: more is a damaged size. That of
# deflate is 1032; H-compress has no bound, since a constant tile of any size takes some bytes.
_MAX_RATIO = {"HCOMPRESS_1": 2**22, "PLIO_1": 2**14}
_MAX_RATIO_OF_OTHERS = 1100


def check_fits(stream: BinaryIO, size: int, path: str) -> int:
    """
    Check the headers of a file.

    Parameters
    ----------
    stream : binary file
        At its beginning, of a file that begins like a FITS file.
    size : int
        Bytes that the file has.
    path : str
        What to call it in error messages.

    Returns
    -------
    int
        Where the last HDU ends: what follows is none of FITS' business.

    Raises
    ------
    FormatError
        If a header describes data that are missing or impossible. The error names the card.
    """
    end = 0
    for header in _headers(stream, path):
        header.require(stream.tell() + header.length - size)
        start = stream.tell()
        header.check_data(stream, start)
        end = stream.seek(start + _padded(header.length))
    return min(end, size)


def unpack_fits(stream: BinaryIO, path: str) -> BytesIO:
    """
    Unpack a file that is compressed as a whole, as far as its headers go, and check them.

    Parameters
    ----------
    stream : binary file
        What reads the unpacked bytes, at their beginning.
    path : str
        What to call it in error messages.

    Returns
    -------
    BytesIO
        The FITS file. It is never larger than what there is and its headers promise, whatever the
        packed bytes would come to.

    Raises
    ------
    FormatError
        As `check_fits`.
    """
    out = BytesIO()
    for header in _headers(stream, path):
        out.write(header.raw)
        start, left = out.tell(), _padded(header.length)
        while left > 0 and (piece := stream.read(min(left, _PIECE))):
            left -= len(piece)
            out.write(piece)
        header.require(left - (_padded(header.length) - header.length))
        header.check_data(out, start)
        out.seek(0, 2)
    out.seek(0)
    return out


class _Header(NamedTuple):
    """The header of an HDU, its cards by keyword: what follows the first eight bytes of each."""

    number: int
    path: str
    raw: bytes
    cards: Mapping[bytes, bytes]

    @property
    def length(self) -> int:
        """Bytes of the data, without those that fill the last block."""
        axes = self.axes("NAXIS")
        if not axes:
            return 0
        if axes[0] == 0 and self.is_true("GROUPS"):
            axes = axes[1:]
        number = self.integer("PCOUNT", default=0) + math.prod(axes)
        return self.pixel("BITPIX") * self.integer("GCOUNT", default=1) * number

    def check(self) -> None:
        """Raise for cards that cannot be, or do not go together."""
        if self.text("XTENSION") in ("BINTABLE", "A3DTABLE", "TABLE"):
            for key in ("PCOUNT", "GCOUNT", "TFIELDS"):  # which libraries look up without asking
                self.integer(key)
        if self.text("XTENSION") in ("BINTABLE", "A3DTABLE"):
            self._check_table()
            if self.is_true("ZIMAGE"):
                self._check_tiles()

    def _check_table(self) -> None:
        """Compare the widths of the columns with that of a row."""
        widths = self._widths()
        row = self.integer("NAXIS1", default=0)
        if widths is not None and sum(widths) != row:
            forms = [f"TFORM{k} = {self.text(f'TFORM{k}')}" for k in range(1, len(widths) + 1)]
            told = ", ".join([f"TFIELDS = {len(widths)}", *forms[:4], *["..."][: len(forms) > 4]])
            what = f"but the columns ({told}) take {sum(widths)} bytes"
            raise self.damaged("NAXIS1", row, what)

    def _widths(self) -> list[int] | None:
        """Return the bytes of the columns; None where there is a kind that others may know."""
        if b"TFIELDS" not in self.cards:
            return None
        widths = []
        for number in range(1, self.integer("TFIELDS", most=_MAX_COLUMNS) + 1):
            form = self.text(f"TFORM{number}")
            if form is None:
                raise FormatError(f"{self.name} is damaged: it lacks the card TFORM{number}.")
            match = _FORM.match(form.strip())
            if match is None:
                return None
            repeat, kind = int(match[1] or 1), match[2]
            widths.append((repeat + 7) // 8 if kind == "X" else repeat * _BYTES[kind])
        return widths

    def _tiles(self, axes: list[int]) -> list[int]:
        """Return the lengths of the tiles of a tile-compressed image along its axes."""
        return [
            self.integer(f"ZTILE{k}", default=max(n, 1) if k == 1 else 1, least=1)
            for k, n in enumerate(axes, 1)
        ]

    def _check_tiles(self) -> None:
        """Compare the size of a tile-compressed image with the number of tiles and of bytes."""
        self._require_text("ZCMPTYPE")
        names = [self._require_text(f"TTYPE{k}") for k in range(1, self.integer("TFIELDS") + 1)]
        if names and "COMPRESSED_DATA" not in names:
            raise FormatError(
                f"{self.name} is damaged: of its columns, {', '.join(names)}, none is "
                "COMPRESSED_DATA, where a tile-compressed image has its pixels."
            )
        axes = self.axes("ZNAXIS")
        tiles = self._tiles(axes)
        for k in range(1, len(axes) + 1):  # astropy knows no default
            self.value(f"ZTILE{k}", f"ZNAXIS = {len(axes)}")
        number = math.prod(-(-n // tile) for n, tile in zip(axes, tiles, strict=True))
        rows = self.integer("NAXIS2", default=0)
        size = f"the image, {_listed('ZNAXIS', axes)} in tiles of {tuple(tiles)},"
        if axes and number != rows:
            raise self.damaged("NAXIS2", rows, f"but {size} has {number} tiles")
        for k in range(1, _MAX_AXES + 1):
            if (name := self.text(f"ZNAME{k}")) is None:
                break
            size_of = self.value(f"ZVAL{k}", f"ZNAME{k} = {name}")
            # what libraries take for the size of a buffer
            if name == "BYTEPIX" and size_of not in (1, 2, 4, 8):
                raise self.damaged(f"ZVAL{k}", size_of, "it must be 1, 2, 4 or 8 (BYTEPIX)")
            if name == "BLOCKSIZE":
                self.integer(f"ZVAL{k}", least=1, most=_MAX_BLOCKSIZE)
        method = self.text("ZCMPTYPE") or ""
        packed = self.length
        unpacked = self.pixel("ZBITPIX") * math.prod(axes)
        if axes and unpacked > packed * _MAX_RATIO.get(method, _MAX_RATIO_OF_OTHERS):
            raise FormatError(
                f"{self.name} is damaged: {size} takes {unpacked} bytes, which cannot come from "
                f"{packed} bytes by {method or 'no method'}."
            )

    def check_data(self, stream: BinaryIO, start: int) -> None:
        """
        Raise where H-compressed tiles are not of the size that the header says.

        Each tile has its size with it, and what unpacks it believes that, without asking whether
        the image has room for so much.
        """
        if not (self.is_true("ZIMAGE") and self.text("ZCMPTYPE") == "HCOMPRESS_1"):
            return
        axes, widths = self.axes("ZNAXIS"), self._widths() or []
        names = [self.text(f"TTYPE{k}") for k in range(1, len(widths) + 1)]
        if not axes or "COMPRESSED_DATA" not in names:
            return
        column = names.index("COMPRESSED_DATA")
        descriptor = ">qq" if widths[column] == 16 else ">ii"
        tiles = self._tiles(axes)
        row, rows = self.integer("NAXIS1"), self.integer("NAXIS2")
        stream.seek(start)
        table = stream.read(row * rows)
        heap = start + self.integer("THEAP", default=row * rows)
        places = itertools.product(
            *(range(0, n, tile) for n, tile in zip(axes[::-1], tiles[::-1], strict=True))
        )
        for number, place in enumerate(places):
            at = number * row + sum(widths[:column])
            length, offset = struct.unpack_from(descriptor, table, at)
            if length == 0:  # of a tile that is packed in another way
                continue
            ends = zip(place, tiles[::-1], axes[::-1], strict=True)
            shape = [min(tile, n - first) for first, tile, n in ends]
            stream.seek(heap + max(offset, 0))
            head = stream.read(10)
            size = struct.unpack(">2xii", head) if len(head) == 10 else ()
            if list(size) != [n for n in shape if n != 1]:
                raise FormatError(
                    f"{self.path!r} is damaged: tile {number + 1} of HDU {self.number} has the "
                    f"size {size}, where {_listed('ZNAXIS', axes)} in tiles of {tuple(tiles)} "
                    f"takes {tuple(shape)}."
                )

    def axes(self, key: str) -> list[int]:
        """Return the lengths of the axes, ``NAXIS`` or ``ZNAXIS``."""
        number = self.integer(key, most=_MAX_AXES)
        return [
            self.integer(f"{key}{k}", because=f"{key} = {number}") for k in range(1, number + 1)
        ]

    def integer(
        self,
        key: str,
        *,
        default: int | None = None,
        least: int = 0,
        most: int | None = None,
        because: str = "",
    ) -> int:
        """Return the value of a card, a whole number within bounds."""
        raw = self.cards.get(key.encode())
        if raw is None and default is not None:
            return default
        value = self.value(key, because)
        if not isinstance(value, int) or value < least or (most is not None and value > most):
            bounds = f"from {least}" if most is None else f"from {least} to {most}"
            raise self.damaged(key, value, f"it must be a whole number {bounds}")
        return value

    def pixel(self, key: str) -> int:
        """Return the bytes of a pixel, as ``BITPIX`` or ``ZBITPIX`` has it."""
        value = self.value(key)
        if value not in _BITPIX:
            raise self.damaged(key, value, f"it must be one of {', '.join(map(str, _BITPIX))}")
        return abs(int(value)) // 8

    def value(self, key: str, because: str = "") -> int | str:
        """Return the value of a card: as a string, if it is no whole number."""
        raw = self.cards.get(key.encode())
        if raw is None:
            why = f", which {because} asks for" if because else ""
            raise FormatError(f"{self.name} is damaged: it lacks the card {key}{why}.")
        match = _INTEGER.fullmatch(raw.rstrip())
        return int(match[1]) if match else raw.decode("latin-1").strip("= ")

    def text(self, key: str) -> str | None:
        """Return the value of a card of text."""
        match = _TEXT.match(self.cards.get(key.encode(), b""))
        return match[1].decode("latin-1").rstrip() if match else None

    def _require_text(self, key: str) -> str:
        """Return the value of a card of text that must be there."""
        text = self.text(key)
        if text is None:
            raise FormatError(f"{self.name} is damaged: it lacks the card {key}, or its text.")
        return text

    def is_true(self, key: str) -> bool:
        """Tell whether a card is T."""
        return self.cards.get(key.encode(), b"")[1:].lstrip()[:1] == b"T"

    def require(self, missing: int) -> None:
        """Raise where bytes of the data are missing."""
        if missing > 0:
            told = f"BITPIX = {self.value('BITPIX')}, "
            told += _listed("NAXIS", self.axes("NAXIS"))
            for key in ("PCOUNT", "GCOUNT"):
                if key.encode() in self.cards:
                    told += f", {key} = {self.integer(key)}"
            raise FormatError(
                f"{self.path!r} is truncated: its HDU {self.number} takes {self.length} bytes "
                f"({told}), of which {missing} bytes are missing."
            )

    @property
    def name(self) -> str:
        return f"the header of HDU {self.number} of {self.path!r}"

    def damaged(self, key: str, value: object, what: str) -> FormatError:
        """Return an error about a card."""
        return FormatError(f"{self.name} is damaged: {key} is {value}, {what}.")


def _headers(stream: BinaryIO, path: str) -> Iterator[_Header]:
    """Yield headers for as long as there are any; before the next, the data must be passed."""
    number = 0
    while True:
        block = stream.read(BLOCK)
        if not block.startswith(MAGIC if number == 0 else b"XTENSION"):
            return
        cards: dict[bytes, bytes] = {}
        blocks = [block]
        while not _collect(block, cards, f"the header of HDU {number} of {path!r}"):
            block = stream.read(BLOCK) if len(blocks) < _MAX_BLOCKS else b""
            if not block:
                missing = BLOCK - sum(map(len, blocks)) % BLOCK
                raise FormatError(
                    f"{path!r} is truncated or damaged: the header of HDU {number} has no card "
                    f"END; at least {missing} bytes are missing."
                )
            blocks.append(block)
        header = _Header(number, path, b"".join(blocks), cards)
        header.check()
        yield header
        number += 1


def _collect(block: bytes, cards: dict[bytes, bytes], name: str) -> bool:
    """Note the cards of a block of a header; tell whether the last one was there."""
    for at in range(0, len(block) - _CARD + 1, _CARD):
        key = block[at : at + 8].strip().upper()
        if key[:3] == b"END" and not (key[3:4].isalnum() or key[3:4] in (b"_", b"-")):
            return True
        value = block[at + 8 : at + _CARD]
        first = cards.setdefault(key, value)
        # of two cards some readers take the first, some the last
        if first != value and _STRUCTURE.fullmatch(key) and _bare(first) != _bare(value):
            raise FormatError(
                f"{name} is damaged: {key.decode()} appears twice, as {_bare(first)} and as "
                f"{_bare(value)}."
            )
    return False


def _bare(value: bytes) -> str:
    """Return the value of a card without its comment."""
    return value.partition(b"/")[0].decode("latin-1").strip("= ")


def _padded(length: int) -> int:
    """Return the length of whole blocks."""
    return -(-length // BLOCK) * BLOCK


def _listed(key: str, axes: list[int]) -> str:
    """Write the lengths of axes as their cards do, of many only the first ones."""
    words = [f"{key} = {len(axes)}"] + [f"{key}{k} = {n}" for k, n in enumerate(axes[:4], 1)]
    return ", ".join(words) + (", ..." if len(axes) > 4 else "")
