"""The result of a group: an alignment a frame, and what holds them together."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro._checks import checked_call, number, positive_number, whole_number
from spalipy_astro.alignment import Alignment
from spalipy_astro.groups import _stored
from spalipy_astro.groups._alignments import between
from spalipy_astro.groups._exposures import write_images
from spalipy_astro.groups._joint import JointErrors
from spalipy_astro.groups._photometry import with_fluxes
from spalipy_astro.groups._sources import Sheet, each_sheet, image_of
from spalipy_astro.groups._tiles import canvas_of, window_of
from spalipy_astro.io import Extension
from spalipy_astro.wcs import carried_wcs

if TYPE_CHECKING:
    from spalipy_astro.resampling import Kernel

__all__ = ["Canvas", "GroupAlignment"]


class Canvas(NamedTuple):
    """
    The grid that holds all frames of a component.

    Attributes
    ----------
    shape : (ny, nx)
    offset : (x0, y0)
        Position of its pixel [0, 0] on the grid of the component.
    wcs : `astropy.wcs.WCS` or None
    """

    shape: tuple[int, int]
    offset: tuple[int, int]
    wcs: Any


@dataclass(frozen=True, eq=False, repr=False)
class GroupAlignment:
    """
    Frames that overlap each other, on common grids. Use `align_group` to make one.

    Attributes
    ----------
    reference : int or None
        Index of the frame whose pixels are the grid of component 0, the largest unless another
        one has the reference that was asked for; None if no two frames are connected. Where a
        camera's distortion was solved, the grid is that frame's without the distortion.
    alignments : list of Alignment or None
        For each frame, from its pixels to the grid of its component; None where it is connected
        with no other.
    table : `~astropy.table.QTable`
        A row per frame: ``source`` (name or index), ``status`` ("ok" or "failed"), ``reason``
        (empty if ok, but for chips without stars in common with others, which were placed by the
        geometry of the chips), ``component`` (0 is that of the reference, 1 the largest other one;
        -1 if failed), ``links`` (pairs that were verified), ``n_matched`` (stars that other frames
        show, too), ``rms`` (their distances from where the other frames have them, grid px),
        ``error`` (rms error of the transform that is expected over the whole frame, grid px; large
        where the frames do not determine the maps, as for a shared camera that was never turned;
        `Alignment.summary` has it over the part that lies on the reference, if one does); and the
        quality of the frame, as in the table of `align_many`: ``n_stars``, ``fwhm``,
        ``fwhm_arcsec``, ``ellipticity``, ``orientation``, ``background``, ``noise``, ``depth``,
        ``flux_ratio`` (its stars' fluxes over those in the reference of its component) with
        ``flux_ratio_err``, and ``exptime``. With ``hdu="all"`` ``hdu`` tells which image of the
        source it is.
    links : `~astropy.table.QTable`
        A row per verified pair: ``i``, ``j``, ``n_matched``, ``log_odds``, ``rms_before`` (about
        the pair's own affine map, px of j), ``rms`` (after the joint solution, grid px), ``used``
        (False if it contradicts the others).
    cameras : dict
        For each camera whose distortion was solved for, by its label ("shared", that of ``camera``,
        or that of ``chips``), an `Alignment` of its frame with the same frame made flat: it can be
        plotted and written, has an ``error``, and is what ``camera=`` takes in later calls.
    undetermined : dict
        Of the other ones what the frames do not determine.
    """

    reference: int | None
    alignments: list[Alignment | None]
    table: QTable
    links: QTable
    provenance: Mapping[str, Any] = field(default_factory=dict)
    cameras: Mapping[Hashable, Alignment] = field(default_factory=dict)
    undetermined: Mapping[Hashable, str] = field(default_factory=dict)
    _joint: Sequence[JointErrors] = ()

    def __repr__(self) -> str:
        placed = sum(a is not None for a in self.alignments)
        return (
            f"<GroupAlignment of {placed} of {len(self.alignments)} frames, "
            f"{len(self.links)} links, reference {self.reference}>"
        )

    def canvas(self, component: int = 0) -> Canvas:
        """
        Return the grid that holds all frames of a component.

        Parameters
        ----------
        component : int, optional
            As in the table; 0, the largest one, by default.

        Returns
        -------
        Canvas
            ``shape`` (ny, nx), ``offset`` (x0, y0) of its pixel [0, 0] on the component's grid, and
            ``wcs``, a FITS WCS or None: as `Alignment.resample` takes them.

        Raises
        ------
        ValueError
            If there is no such component.
        """
        members = self._members(component)
        shape, offset = self._window(component)
        top = members[0][1].original_wcs
        wcs = carried_wcs(top, offset, shape, meta={}, for_fits=True)
        return Canvas(shape, offset, wcs)

    @cached_property
    def _windows(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Shape and offset of each component's canvas."""
        n_parts = int(np.max(self.table["component"], initial=-1)) + 1
        return [canvas_of(a for _, a in self._members(part)) for part in range(n_parts)]

    def _window(self, component: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return shape and offset of a canvas; raise where there is no such component."""
        self._members(component)
        return self._windows[component]

    def window(self, k: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """
        Return the part of the canvas of its component on which a frame lies.

        Parameters
        ----------
        k : int
            The frame.

        Returns
        -------
        shape : (ny, nx)
        offset : (x0, y0)
            As `Alignment.resample` takes them.

        Raises
        ------
        ValueError
            If the frame is not connected, or was a catalog.
        """
        n = len(self.alignments)
        k = whole_number("k", k, f"a frame's number, 0 to {n - 1}", least=0, most=n - 1)
        alignment = self.alignments[k]
        if alignment is None or alignment.source_shape is None:
            raise ValueError(f"the frame {k} has no place on a canvas; see the table.")
        shape, (x0, y0) = self._window(int(self.table["component"][k]))
        rows, columns = window_of(alignment, shape, (x0, y0))
        size = rows.stop - rows.start, columns.stop - columns.start
        return size, (x0 + columns.start, y0 + rows.start)

    def _members(self, component: int) -> list[tuple[int, Alignment]]:
        """Return the frames of a component."""
        labels = np.asarray(self.table["component"])
        if not (labels >= 0).any():
            raise ValueError(
                "no two frames are connected: there is no common grid. The column 'reason' of "
                f"the table tells why; of image 0: {self.table['reason'][0]}"
            )
        if isinstance(component, bool) or component not in set(labels[labels >= 0].tolist()):
            raise ValueError(
                f"component is a number from 0 to {labels.max()}, as in the table; got "
                f"{component!r}."
            )
        return [(int(k), self.alignments[k]) for k in np.flatnonzero(labels == component)]  # type: ignore[misc]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(ny, nx)`` of the canvas that holds all frames of the largest component."""
        return self._window(0)[0]

    @property
    def offset(self) -> tuple[int, int]:
        """Position ``(x0, y0)`` of the canvas' pixel [0, 0] on the grid."""
        return self._window(0)[1]

    @property
    def wcs(self) -> Any:
        """The FITS WCS of the canvas, if the reference has a WCS, or is a catalog; else None."""
        return self.canvas().wcs if any(a is not None for a in self.alignments) else None

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
            From pixels of i to pixels of j. Its ``error`` is that of both maps together: what they
            have in common, such as the way to the reference, does not count.

        Raises
        ------
        ValueError
            If they are not on one grid.
        """
        n = len(self.alignments)
        i, j = (
            whole_number(name, k, f"a frame's number, 0 to {n - 1}", least=0, most=n - 1)
            for name, k in (("i", i), ("j", j))
        )
        one, two = self.alignments[i], self.alignments[j]
        part = int(self.table["component"][i])
        if one is None or two is None or part != self.table["component"][j]:
            raise ValueError(f"the frames {i} and {j} are not on one grid; see the table.")
        if not self._joint:  # a group that was put together from alignments
            return one.then(two.inverse)
        return between(one, two, self._joint[part], i, j)

    @checked_call
    def coadd(
        self,
        images: Iterable[Any],
        *,
        combine: str = "mean",
        match_background: bool | str = True,
        scale_flux: bool = False,
        component: int = 0,
        hdu: Extension | None = None,
        method: str | Kernel = "lanczos3",
        conserve_flux: bool | None = None,
        feather: float | None = None,
        mem_limit: float = 1e9,
    ) -> tuple[CCDData, NDArray[np.float64]]:
        """
        Combine the frames of a component on its canvas.

        Parameters
        ----------
        images : iterable of path, HDU, HDUList, CCDData, NDData or array_like, folder or pattern
            The images that were aligned, all of them, in the same order. Color images, of shape
            (k, ny, nx) or (ny, nx, 3), keep their layout.
        combine : {"mean", "median", "sum", "min", "max", "first", "last"}, optional
            What to make of pixels that several frames show; "first" and "last" in the order of the
            images. Bad pixels do not count.
        match_background : bool or "plane", optional
            Whether to subtract one number (or a plane, for gradients of the sky) per frame and
            color, so that frames agree where they overlap; the reference keeps its background.
        scale_flux : bool, optional
            Whether to bring all frames to the fluxes of the reference, by the stars that they
            share; for exposures of different length, and clouds. Chips without are left out.
        component : int, optional
            Which component, as in the table; the largest one by default.
        hdu : int, str or (str, int), optional
            Extension of files, as for `align_group`; by default the first image, or all images
            where the group is of those.
        method, conserve_flux : optional
            How to resample; see `Alignment.resample`. By default surface brightness is kept where
            the unit is per solid angle, and flux otherwise.
        feather : float, optional
            Over how many px from its edge the weight of a frame in a mean, and in a median of two,
            rises to 1, so that frames of different seeing pass into each other smoothly; by default
            a quarter of its shorter side, 64 at most. 0 gives all pixels the same weight.
        mem_limit : float, optional
            Bytes of aligned frames that are kept in memory; more go to temporary files. The
            canvas, and one frame, come to that.

        Returns
        -------
        `~astropy.nddata.CCDData`, shape ``self.canvas(component).shape``
            NaN and masked where there is no good pixel; with the WCS of the canvas, if there is
            one, and the cards that all frames agree on. Where all frames have an uncertainty it has
            one, a standard deviation: for independent pixels, that of a median of three or more
            as for normal errors.
        footprint : ndarray, shape ``self.canvas(component).shape``
            Number of frames with a good pixel there.

        Raises
        ------
        ValueError
            If there is not one image per frame, an image is not of its frame's shape, a frame was a
            catalog, or units or numbers of colors differ.

        Notes
        -----
        Backgrounds are matched by the medians of the differences in all overlaps (of planes in 16
        cells of each), by least squares. Pixels within 3 px of a frame's edge, where the kernel is
        incomplete, count only where no other frame has a better one. For
        `reproject.mosaicking.reproject_and_coadd` see ``coadd_inputs``.
        """
        from spalipy_astro.groups._coadd import COMBINE, coadd

        if combine not in COMBINE:
            raise ValueError(f"combine is one of {', '.join(COMBINE)}; got {combine!r}.")
        mem_limit = positive_number("mem_limit", mem_limit, "a number of bytes")
        if feather is not None:
            given, meaning = feather, "a number of px, 0 or more"
            feather = number("feather", given, meaning, u.pix)
            if not 0 <= feather < np.inf:
                raise ValueError(f"feather is {meaning}; got {given!r}.")
        placed = self._images(images, component, hdu)
        placed = with_fluxes(placed) if scale_flux else placed
        canvas = self.canvas(component)
        names = [k for k, _, _ in placed]
        total, footprint = coadd(
            placed,
            canvas.shape,
            canvas.offset,
            combine=combine,
            match_background=match_background,
            first=names.index(self.reference) if self.reference in names else 0,
            mem_limit=mem_limit,
            feather=feather,
            method=method,
            conserve_flux=conserve_flux,
            scale_flux=scale_flux,
        )
        total.wcs = canvas.wcs
        return total, footprint

    def _sheets(self, images: Any, hdu: Extension | None) -> list[Sheet]:
        """Return where the image of each frame is."""
        from spalipy_astro.batch import list_sources

        if hdu is None:
            hdu = self.provenance.get("hdu")
            hdu = tuple(hdu) if isinstance(hdu, list) else hdu
        flags = self.provenance.get("flags")
        sheets = list(each_sheet(list_sources(images, name="images"), hdu, flags))
        if len(sheets) != len(self.alignments):
            raise ValueError(
                f"images: {len(sheets)} of them for {len(self.alignments)} frames; give all, in "
                "the order of align_group."
            )
        return sheets

    def _images(
        self, images: Any, component: int, hdu: Extension | None
    ) -> list[tuple[int, Sheet, Alignment]]:
        """Return number, place and alignment of each frame of a component."""
        sheets = self._sheets(images, hdu)
        members = self._members(component)
        for k, alignment in members:
            if alignment.source_shape is None:
                raise ValueError(f"images: frame {k} was aligned as a catalog and has no shape.")
        return [(k, sheets[k], alignment) for k, alignment in members]

    write_images = write_images
    write = _stored.write
    read = classmethod(_stored.read)
    to_tree = _stored.to_tree
    from_tree = classmethod(_stored.from_tree)

    def coadd_inputs(
        self, images: Iterable[Any], *, component: int = 0, hdu: Extension | None = None
    ) -> tuple[Sequence[tuple[NDArray[Any], Any]], Any, tuple[int, int]]:
        """
        Return inputs for `reproject.mosaicking.reproject_and_coadd`.

        Parameters
        ----------
        images : iterable of path, HDU, HDUList, CCDData, NDData or array_like, folder or pattern
            The images that were aligned, all of them, in the same order.
        component : int, optional
            Which component, as in the table; the largest one by default.
        hdu : int, str or (str, int), optional
            Extension of files, as for `coadd`.

        Returns
        -------
        inputs : sequence of (ndarray, `gwcs.WCS`)
            An image is read when it is asked for, and not kept; its bad pixels are NaN.
        output_projection : WCS
            That of the canvas, to the sky or, where there is none, to the grid.
        shape_out : (ny, nx)
            Of the canvas.

        Raises
        ------
        ValueError
            As for `coadd`.

        Examples
        --------
        >>> from reproject import reproject_interp
        >>> from reproject.mosaicking import reproject_and_coadd
        >>> from spalipy_astro import align_group
        >>> from spalipy_astro.example import example_pair
        >>> frames = example_pair()
        >>> inputs, projection, shape = align_group(frames).coadd_inputs(frames)
        >>> mosaic, footprint = reproject_and_coadd(
        ...     inputs, projection, shape_out=shape, reproject_function=reproject_interp
        ... )
        >>> mosaic.shape == shape
        True
        """
        from spalipy_astro.groups._coadd import Inputs

        placed = self._images(images, component, hdu)
        canvas = self.canvas(component)
        x0, y0 = canvas.offset
        onto = placed[0][2].shifted(template=(-x0, -y0), template_shape=canvas.shape)
        return Inputs(placed), onto.template_wcs, canvas.shape

    @checked_call
    def report(
        self,
        path: str | os.PathLike[str],
        *,
        images: Iterable[Any] | None = None,
        hdu: Extension | None = None,
        title: str = "Report of a group",
        overwrite: bool = False,
    ) -> None:
        """
        Write an HTML page about the group, which needs no other file and no network.

        Parameters
        ----------
        path : path-like
            The file. It is written whole or not at all.
        images : iterable, folder or pattern, optional
            The images that were aligned, all of them, in the same order: the page then has viewers
            that blink them where they overlap.
        hdu : int, str or (str, int), optional
            Extension of files, as for `coadd`.
        title : str, optional
            What to write above.
        overwrite : bool, optional
            Replace a file that exists.

        Raises
        ------
        FileExistsError
            If the file exists and may not be replaced.
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is not one image per frame, or one is not of the shape of its frame.
        """
        from spalipy_astro.report import report_group

        shown = None
        if images is not None:
            sheets = self._sheets(images, hdu)

            def shown(k: int) -> Any:
                alignment = self.alignments[k]
                assert alignment is not None  # what is shown has been placed
                return image_of(k, sheets[k], alignment)

        report_group(self, path, image=shown, title=title, overwrite=overwrite)

    @checked_call
    def plot(self, ax: Any = None, *, component: int = 0) -> Any:
        """
        Map the frames and the links between them.

        Parameters
        ----------
        ax, component : optional
            As for `spalipy_astro.visualization.plot_group`.

        Returns
        -------
        `~matplotlib.axes.Axes`

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such component.
        """
        from spalipy_astro.visualization import plot_group

        return plot_group(self, ax, component=component)
