"""The result: a transform, the evidence for it, and its methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy.modeling import Model
from astropy.nddata import NDUncertainty
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from spalipy_astro._checks import check_image, check_pixels, checked_call
from spalipy_astro.alignment import _derive, _given, _points, _supplied
from spalipy_astro.alignment._coverage import coverage_of
from spalipy_astro.alignment._error import ErrorTerm, error_at, error_over
from spalipy_astro.alignment._flux import flux_ratio, profile_error
from spalipy_astro.alignment._output import output_of, resampled
from spalipy_astro.alignment._summary import Merits, Summary, cards_of, describe
from spalipy_astro.typing import HDULike, ImageLike, MaskLike

if TYPE_CHECKING:
    from spalipy_astro.resampling import Kernel
    from spalipy_astro.wcs import FITSExport

__all__ = ["Alignment", "Summary"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Merits):
    """
    The transform from a source's pixels to a template's, and the evidence for it.

    Use `find_alignment` to make one, `fit_alignment` where the stars are matched already,
    `Alignment.from_transform` where the transform is known, and `Alignment.read` for a file.
    Like a model of astropy, one equals only itself; copies send pixels to the same places.

    Attributes
    ----------
    transform : `~astropy.modeling.Model`
        Source px -> template px, ``transform(x, y)``; ``transform.inverse`` goes back. Positions
        are 0-based, with pixel centers on integers. ``transform_points`` takes them as one array.
    matches : `~astropy.table.QTable`
        The matched stars, brightest first: ``x_source``, ``y_source``, ``x_template``,
        ``y_template`` (px), ``flux_source``, ``flux_template``, ``source_row``, ``template_row``
        (rows of the catalogs), ``dx``, ``dy`` (residuals: template position minus transformed
        source position, template px), ``sigma`` (their expected scatter along each axis), ``used``
        (False where clipped). It has no rows where the transform was given.
    source_shape, template_shape : tuple of int or None
        Shapes ``(ny, nx)`` of the images; None if there was only a catalog.
    original_wcs : `astropy.wcs.WCS`, `gwcs.WCS` or None
        The template's own WCS.
    provenance : dict
        Versions of the packages and the options that made the transform, and the ``steps`` by which
        it was derived from others; ``quality`` of the ``source`` and the ``template``: ``fwhm``
        (px), ``fwhm_arcsec``, ``ellipticity`` and ``orientation`` (deg), ``background`` and
        ``noise`` (per pixel), ``n_stars``, ``depth`` (flux at a signal-to-noise ratio of 5),
        ``aperture_correction`` (a factor, which the fluxes contain) with
        ``aperture_correction_err``, ``wings`` (share of the light that the PSF has beyond the
        apertures) and ``exptime`` (s), where they were images.
    times : dict
        Seconds that detection, matching and fitting took.
    """

    transform: Model
    matches: QTable
    source_shape: tuple[int, int] | None
    template_shape: tuple[int, int] | None
    original_wcs: Any
    _summary: Mapping[str, Any]
    _errors: tuple[ErrorTerm, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def _wcs_pair(self) -> tuple[Any, Any]:
        from spalipy_astro.wcs import build_wcs

        return build_wcs(
            self.transform,
            self.original_wcs,
            source_shape=self.source_shape,
            template_shape=self.template_shape,
        )

    @property
    def wcs(self) -> Any:
        """The source's `gwcs.WCS`: source_detector -> template_detector, and on to any sky."""
        return self._wcs_pair[0]

    @property
    def template_wcs(self) -> Any:
        """The WCS of the template's pixels with the same world, for reproject's output."""
        return self._wcs_pair[1]

    @cached_property
    def flux_ratio(self) -> tuple[float, float]:
        """
        How much brighter the stars are in the source than in the template, and its error.

        A robust mean over the matched stars, which variable ones do not move; NaN if less than
        three have fluxes. ``aligned / ratio`` has the fluxes of the template where flux is
        conserved. The error includes that of different shapes of stars, trailed ones say.
        """
        ratio, error = flux_ratio(self.matches)
        common = ratio * profile_error(self.provenance.get("quality", {}))
        return ratio, float(np.hypot(error, common))

    def summary(self) -> Summary:
        """
        Return the figures of merit.

        Returns
        -------
        Summary
            A mapping that prints as a table.
        """
        return Summary(self._figures)

    @cached_property
    def _figures(self) -> Mapping[str, Any]:
        if not self._errors:
            return self._summary
        stars = np.asarray(self.matches["x_source"]), np.asarray(self.matches["y_source"])
        shapes = self.source_shape, self.template_shape
        error = error_over(self._errors, self.transform, *shapes, stars)
        return {**self._summary, "error": error}

    def _noted(self, notes: Mapping[str, Any]) -> Alignment:
        """Return the same with more entries in `provenance`, on which nothing else depends."""
        new = replace(self, provenance={**self.provenance, **notes})
        known = ("_figures", "_wcs_pair", "flux_ratio")
        vars(new).update({name: vars(self)[name] for name in known if name in vars(self)})
        return new

    def __repr__(self) -> str:
        return f"<Alignment of {describe(self._figures)}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{self.summary()._repr_html_()}{_supplied.picture(self)}"

    def error(self, x: ArrayLike, y: ArrayLike) -> Any:
        """
        Return the 1-sigma error of the transform.

        Parameters
        ----------
        x, y : array_like
            Source px.

        Returns
        -------
        ndarray or float
            Standard deviation along each axis, template px. It grows with the distance from the
            matched stars. It does not include a star's own position error.

        Notes
        -----
        From the Bayesian covariance of the penalized fit (Wahba 1983, J. R. Stat. Soc. B, 45, 133),
        which allows for the bias of smoothing, and from the distortion that the stars cannot
        exclude where the fit has none: between few stars, and beyond them. Of true errors, 68 % are
        smaller.
        """
        if not self._errors:
            raise ValueError("this alignment was made without a fit and has no error estimate.")
        x, y = _points.pair_of(x, y)
        error = error_at(self._errors, x, y)
        return error if x.ndim else float(error)

    @checked_call
    def resample(
        self,
        data: ImageLike,
        *,
        method: str | Kernel = "lanczos3",
        conserve_flux: bool | None = None,
        fill_value: float = np.nan,
        shape: tuple[int, int] | None = None,
        offset: tuple[int, int] = (0, 0),
        output: str = "template",
        scale: float = 1,
        wcs: Any = None,
        min_weight: float = 0.75,
        mask: MaskLike | None = None,
        uncertainty: NDUncertainty | None = None,
        flags_method: str = "nearest",
        scale_flux: bool = False,
        match_background: bool = False,
        return_footprint: bool = False,
        n_threads: int | None = None,
        hdu: HDULike | None = None,
        ignore_flags: Any = "observatory",
        flag_name_map: Any = None,
        pixfrac: float | None = None,
        kernel: str | None = None,
        weights: ArrayLike | str | None = None,
        return_weights: bool = False,
    ) -> Any:
        """
        Resample an image with the source's geometry onto the template's grid.

        Parameters
        ----------
        data : path, HDU, HDUList, CCDData, NDData or array_like, shape (..., ny, nx) or (ny, nx, 3)
            The image, of the source's shape. Leading axes are planes that share the geometry, such
            as colors; a last axis of length 1, 3 or 4 after (ny, nx) has colors, too. For a part
            of the source, or binned pixels, see `cropped` and `binned`.
        method : str or `~spalipy_astro.resampling.Kernel`, optional
            ``"lanczos3"`` (default), ``"bicubic"``, ``"bilinear"``, ``"nearest"``,
            ``"adaptive"``, ``"exact"`` or ``"drizzle"``.
        conserve_flux : bool, optional
            Whether to conserve flux or surface brightness; by default the unit of ``data`` says.
        shape : tuple of int, optional
            Shape ``(ny, nx)`` of the output; by default that of the template.
        offset : (x0, y0), optional
            Template pixel that is the output's pixel ``[0, 0]``, whole numbers; default (0, 0).
        output : {"template", "union", "intersection"}, optional
            The template's grid, that grid enlarged to contain both full frames, or its largest
            rectangle in which every pixel lies on both.
        scale : float, optional
            Output pixels per template pixel along each axis: 2 for a grid twice as fine. ``shape``
            and ``offset`` stay in template px.
        wcs : `astropy.wcs.WCS`, `gwcs.WCS`, `~astropy.io.fits.Header` or (WCS, shape), optional
            Any grid on the sky instead of the template's, if that has a celestial WCS.
        mask : array_like of bool, path, HDU or HDUList, optional
            Bad pixels in addition to those of ``data``, of its shape or (ny, nx).
        uncertainty : `~astropy.nddata.NDUncertainty`, optional
            For plain arrays: as that of CCDData.
        scale_flux : bool, optional
            Whether to multiply by 1 / `flux_ratio`, so that stars have the flux that they have in
            the template. Uncertainties are multiplied, too.
        match_background : bool, optional
            Whether to subtract a constant, so that the sky is that of the template. Both take the
            image that the alignment was found for to be the one that is resampled.
        fill_value, min_weight, flags_method, return_footprint, n_threads : optional
            As for `spalipy_astro.resampling.resample`.
        hdu : int, str or (str, int), optional
            Which HDU of a file or HDUList is the image; by default the first image.
        ignore_flags, flag_name_map : optional
            Which flags in a file do not make a pixel bad, as for `find_alignment`.
        pixfrac, kernel, weights, return_weights : optional
            For ``method="drizzle"``: size and shape of the drops, weights of the pixels, and
            whether to also return the weight map; see there.

        Returns
        -------
        CCDData, NDData or ndarray
            Of the type of ``data``, CCDData for a path, HDU or HDUList; its axes in the same order.
            Pixels without data are masked and have ``fill_value``.
        footprint, weights : ndarray, shape (ny, nx)
            Only if ``return_footprint``, and if ``return_weights``.

        Raises
        ------
        ValueError
            If ``data`` does not have the source's shape, there is no shape to resample to, or an
            option is unknown or not a whole number.
        """
        flags = {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
        mask = _supplied.opened_mask(mask, hdu=hdu, **flags)
        data = _supplied.opened(data, name="data", hdu=hdu, **flags)
        check_pixels(data, name="data")
        check_image(data, self.source_shape, name="data", frame="source", planes=True)
        grid = output_of(self, output=output, shape=shape, offset=offset, scale=scale, wcs=wcs)
        return resampled(
            self,
            data,
            grid,
            scale_flux=scale_flux,
            match_background=match_background,
            method=method,
            conserve_flux=conserve_flux,
            fill_value=fill_value,
            min_weight=min_weight,
            mask=mask,
            uncertainty=uncertainty,
            flags_method=flags_method,
            return_footprint=return_footprint,
            n_threads=n_threads,
            pixfrac=pixfrac,
            kernel=kernel,
            weights=weights,
            return_weights=return_weights,
        )

    def coverage(self, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """
        Mark the template pixels that the source covers, and where the transform is extrapolated.

        Parameters
        ----------
        shape : tuple of int, optional
            Shape ``(ny, nx)``; by default that of the template.

        Returns
        -------
        ndarray of uint8, shape (ny, nx)
            `Coverage` bits: 0 inside the source frame and among matched stars.
        """
        return coverage_of(self, shape)

    pixel_to_sky = _points.pixel_to_sky
    sky_to_pixel = _points.sky_to_pixel
    transform_points = _points.transform_points
    transform_polygon = _points.transform_polygon
    transform_table = _points.transform_table
    then = _derive.then
    binned = _derive.binned
    cropped = _derive.cropped
    shifted = _derive.shifted
    plot = _supplied.plot
    report = _supplied.report
    write = _supplied.write
    read = classmethod(_supplied.read)
    from_transform = classmethod(_given.from_transform)

    def to_fits_header(
        self, *, kind: Literal["sip", "tpv", "tab"] = "sip", tolerance: float = 0.01
    ) -> FITSExport:
        """
        Describe the sky of the source image by a FITS header.

        Parameters
        ----------
        kind : {"sip", "tpv", "tab"}, optional
            How distortions are written: see `spalipy_astro.wcs.to_fits_header`.
        tolerance : float, optional
            Largest error allowed anywhere on the source, in source px.

        Returns
        -------
        FITSExport
            ``header``, ``tables`` (extensions that belong to it; for ``"tab"`` only) and ``error``
            in source px, which is also in the card ``ALGNWERR``.

        Raises
        ------
        ExportError
            If the template has no celestial WCS, or no header of this kind is accurate enough.
        ValueError
            If the source was a catalog, or an option is invalid.
        """
        from spalipy_astro.wcs import to_fits_header

        if self.source_shape is None:
            raise ValueError("the source was a catalog, so it has no header.")
        return to_fits_header(
            self.transform.inverse,
            self.original_wcs,
            self.source_shape,
            kind=kind,
            tolerance=tolerance,
        )

    @cached_property
    def inverse(self) -> Alignment:
        """
        The alignment of the template with the source; its own inverse is this very object.

        If there is a celestial WCS, it is that of the template, carried through the transform.
        """
        inverse = _derive.inverted(self)
        inverse.__dict__["inverse"] = self
        return inverse

    def _cards(self) -> dict[str, Any]:
        """Return the provenance cards of an aligned image."""
        return cards_of(self._figures)
