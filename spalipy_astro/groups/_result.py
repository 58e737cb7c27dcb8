"""The result of a group: an alignment a frame, and what holds them together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asdf
import numpy as np
from astropy.nddata import CCDData
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro._checks import checked_call
from spalipy_astro._files import require_file, whole_file
from spalipy_astro._geometry import outline
from spalipy_astro.alignment import Alignment
from spalipy_astro.errors import FormatError
from spalipy_astro.io import read_image

__all__ = ["GroupAlignment"]


@dataclass(frozen=True, eq=False, repr=False)
class GroupAlignment:
    """
    Frames that overlap each other, on common grids. Use `align_group` to make one.

    Attributes
    ----------
    reference : int or None
        Index of the frame whose pixels are the grid of the largest component; None if no two
        frames are connected. Where a camera's distortion was solved, the grid is that frame's
        without the distortion.
    alignments : list of Alignment or None
        For each frame, from its pixels to the grid of its component; None where it is connected
        with no other.
    table : `~astropy.table.QTable`
        A row per frame: ``source`` (name or index), ``status`` ("ok" or "failed"), ``reason``
        (empty if ok), ``component`` (0 is the largest; -1 if failed), ``links`` (pairs that were
        verified), ``n_matched`` (stars that other frames show, too), ``rms`` (their distances from
        where the other frames have them, grid px), ``error`` (rms error of the transform that is
        expected over the frame, grid px; large where the frames do not determine the maps, as for
        a shared camera that was never turned).
    links : `~astropy.table.QTable`
        A row per verified pair: ``i``, ``j``, ``n_matched``, ``log_odds``, ``rms_before`` (about
        the pair's own affine map, px of j), ``rms`` (after the joint solution, grid px), ``used``
        (False if it contradicts the others).
    """

    reference: int | None
    alignments: list[Alignment | None]
    table: QTable
    links: QTable
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        placed = sum(a is not None for a in self.alignments)
        return (
            f"<GroupAlignment of {placed} of {len(self.alignments)} frames, "
            f"{len(self.links)} links, reference {self.reference}>"
        )

    @property
    def _canvas(self) -> tuple[tuple[int, int], tuple[int, int]]:
        low, high = [], []
        for alignment, component in zip(self.alignments, self.table["component"], strict=True):
            if alignment is None or component != 0:
                continue
            if alignment.source_shape is None:
                xy = alignment.matches["x_source"], alignment.matches["y_source"]
                image = np.column_stack(alignment.transform(*xy))
            else:
                image = outline(alignment.transform, alignment.source_shape)
            low.append(image.min(axis=0))
            high.append(image.max(axis=0))
        if not low:
            raise ValueError("no two frames are connected: there is no common grid.")
        first = np.floor(np.min(low, axis=0) + 0.5).astype(int)
        last = np.ceil(np.max(high, axis=0) - 0.5).astype(int)
        nx, ny = (last - first + 1).tolist()
        return (ny, nx), (int(first[0]), int(first[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(ny, nx)`` of the canvas that holds all frames of the largest component."""
        return self._canvas[0]

    @property
    def offset(self) -> tuple[int, int]:
        """Position ``(x0, y0)`` of the canvas' pixel [0, 0] on the grid."""
        return self._canvas[1]

    @property
    def wcs(self) -> Any:
        """The FITS WCS of the canvas, if the reference has a WCS; else None."""
        if self.reference is None or (top := self.alignments[self.reference]) is None:
            return None
        shape, offset = self._canvas
        from spalipy_astro.wcs import carried_wcs  # gwcs comes in with it

        return carried_wcs(top.original_wcs, offset, shape, meta={}, for_fits=True)

    def between(self, i: int, j: int) -> Alignment:
        """
        Return the alignment of two frames.

        Parameters
        ----------
        i, j : int
            Frames of one component.

        Returns
        -------
        Alignment
            From pixels of i to pixels of j. Its error takes both maps for independent, so that it
            is too large where they share most of their way to the reference.

        Raises
        ------
        ValueError
            If they are not on one grid.
        """
        one, two = self.alignments[i], self.alignments[j]
        if one is None or two is None or self.table["component"][i] != self.table["component"][j]:
            raise ValueError(f"the frames {i} and {j} are not on one grid; see the table.")
        return one.then(two.inverse)

    @checked_call
    def coadd(
        self, images: Sequence[Any], *, combine: str = "mean", match_background: bool = True
    ) -> tuple[CCDData, NDArray[np.float64]]:
        """
        Combine the frames of the largest component on the canvas.

        Parameters
        ----------
        images : sequence of CCDData, NDData, array_like or path
            The images that were aligned, all of them, in the same order.
        combine : {"mean", "sum"}, optional
            What to make of pixels that several frames show.
        match_background : bool, optional
            Whether to subtract one number per frame so that frames agree where they overlap; the
            reference keeps its background.

        Returns
        -------
        `~astropy.nddata.CCDData`, shape ``self.shape``
            NaN and masked where there is no frame. With the WCS of the canvas, if there is one.
        footprint : ndarray, shape ``self.shape``
            Number of frames at each pixel.

        Raises
        ------
        ValueError
            If there is not one image per frame, or a frame was a catalog.
        """
        from spalipy_astro.groups._coadd import coadd

        images = list(images)
        if len(images) != len(self.alignments):
            raise ValueError(
                f"images: {len(images)} of them for {len(self.alignments)} frames; give all, in "
                "the order of align_group."
            )
        if combine not in ("mean", "sum"):
            raise ValueError(f"combine is 'mean' or 'sum'; got {combine!r}.")
        shape, offset = self._canvas
        placed = [
            (k, a)
            for k, a in enumerate(self.alignments)
            if a is not None and self.table["component"][k] == 0
        ]
        for k, alignment in placed:
            if alignment.source_shape is None:
                raise ValueError(f"images: frame {k} was aligned as a catalog and has no shape.")
        names = [k for k, _ in placed]
        total, footprint = coadd(
            [
                read_image(images[k]) if isinstance(images[k], str | os.PathLike) else images[k]
                for k in names
            ],
            [a for _, a in placed],
            shape,
            offset,
            combine=combine,
            match_background=match_background,
            first=0 if self.reference is None else names.index(self.reference),
        )
        total.wcs = self.wcs
        return total, footprint

    @checked_call
    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """
        Write the group to an ASDF file.

        Parameters
        ----------
        path : path
        overwrite : bool, optional
            Whether to replace a file of that name.
        """
        tree = {
            "reference": self.reference,
            "alignments": list(self.alignments),
            "table": self.table,
            "links": self.links,
            "provenance": dict(self.provenance),
        }
        # an open file: asdf takes a path for a URI
        with whole_file(path, overwrite=overwrite) as part, open(part, "wb") as stream:
            asdf.AsdfFile({"group": tree}).write_to(stream)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> GroupAlignment:
        """
        Read a group from a file that `write` has made.

        Raises
        ------
        FormatError
            If it is no such file.
        """
        require_file(path)
        name = repr(os.fspath(path))
        try:
            with (
                open(path, "rb") as stream,
                asdf.open(stream, lazy_load=False, lazy_tree=False, memmap=False) as file,
            ):
                tree = dict(file.tree["group"])
            return cls(
                tree["reference"],
                list(tree["alignments"]),
                tree["table"],
                tree["links"],
                dict(tree["provenance"]),
            )
        except Exception as error:
            raise FormatError(
                f"{name} cannot be read as a group ({type(error).__name__}: {error}). Files come "
                "from GroupAlignment.write."
            ) from error
