"""The whole method on one screen: detect, match, fit, wrap, resample."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.units import Quantity
from numpy.typing import ArrayLike

from spalipy_astro._blas import one_blas_thread
from spalipy_astro._checks import (
    check_names,
    check_pixels,
    check_room,
    checked_call,
    refuse_single_scale,
    shape_of,
)
from spalipy_astro.alignment import Alignment, check_grid, finer_shape, rescaled
from spalipy_astro.catalogs import as_stars, epoch_of, is_catalog, is_sky_catalog, project_catalog
from spalipy_astro.errors import NoMatchError
from spalipy_astro.fitting import fit_backward, fit_linear
from spalipy_astro.io import OBSERVATORY, is_file_like, open_image, open_mask
from spalipy_astro.matching import Priors, StarField
from spalipy_astro.registration._causes import in_words
from spalipy_astro.registration._findoptions import FindOptions
from spalipy_astro.registration._match import matched_frames
from spalipy_astro.registration._prepare import StarFrame, open_side, prepare
from spalipy_astro.registration._result import alignment_of
from spalipy_astro.registration._verify import verify
from spalipy_astro.typing import (
    CatalogLike,
    Finder,
    HDULike,
    ImageLike,
    MaskLike,
    PairOptions,
    Range,
)

if TYPE_CHECKING:
    from spalipy_astro.resampling import Kernel

__all__ = ["align", "find_alignment"]

_ALIGNED = 2.0  # px: max_shift that says that the frames show the same part of the sky


@checked_call
def align(
    source: ImageLike,
    template: ImageLike,
    *,
    method: str | Kernel = "lanczos3",
    conserve_flux: bool | None = None,
    fill_value: float = np.nan,
    output: str = "template",
    grid_scale: float = 1,
    wcs: Any = None,
    scale_flux: bool = False,
    match_background: bool = False,
    n_threads: int | None = None,
    pixfrac: float | None = None,
    kernel: str | None = None,
    weights: ArrayLike | str | None = None,
    return_weights: bool = False,
    **options: Unpack[PairOptions],
) -> Any:
    """
    Align an image to another one of the same sky.

    Parameters
    ----------
    source : path, HDU, HDUList, CCDData, NDData or array_like, shape (ny, nx)
        The image to resample: `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, an array, the
        path of a FITS file, or what `astropy.io.fits.open` gives.
    template : path, HDU, HDUList, CCDData, NDData or array_like, shape (my, mx)
        The image that defines the pixel grid. It cannot be a catalog, which has no grid. Both may
        be color images or cubes, (ny, nx, 3) or (k, ny, nx); see `find_alignment`.
    method, conserve_flux, fill_value, output, wcs, scale_flux, match_background, n_threads
        How to resample; see `Alignment.resample`.
    grid_scale : float, optional
        Output pixels per template pixel along each axis: 2 for a grid twice as fine. It is what
        `Alignment.resample` calls ``scale``; here ``scale`` narrows the search.
    pixfrac, kernel, weights, return_weights
        How to drizzle, with ``method="drizzle"``; see `Alignment.resample`.
    **options
        How to find the transform; see `find_alignment`.

    Returns
    -------
    CCDData, NDData or ndarray, shape (my, mx)
        The source on the template's grid, of the type of ``source`` (CCDData for a path, HDU or
        HDUList) and with its axes (of a color image each color is aligned: (my, mx, 3) or
        (k, my, mx)), with mask, uncertainty, unit and header; its WCS is the template's, or that
        of the grid that is asked for.
    weights : ndarray
        Only with ``return_weights``: the weight map of drizzle.

    Raises
    ------
    AlignmentError
        If no transform is found that can be trusted; see `find_alignment`.

    Examples
    --------
    >>> from spalipy_astro import align
    >>> from spalipy_astro.example import example_pair
    >>> source, template = example_pair()
    >>> aligned = align(source, template)
    >>> aligned.shape == template.shape
    True
    """
    from spalipy_astro.resampling import check_method, drops_of, require_uncertainty

    known = {*signature(align).parameters, *signature(find_alignment).parameters} - {"options"}
    check_names("align()", options, known)
    check_method(method, fill_value)
    finer = check_grid(output, grid_scale, wcs, names=("output", "grid_scale"))
    if len(size := shape_of(template)) > 1:
        check_room("grid_scale", finer_shape((size[-2], size[-1]), finer))
    refuse_single_scale(options)
    drops_of(method, pixfrac=pixfrac, kernel=kernel, weights=weights, return_weights=return_weights)
    hdu = options.get("hdu")
    flags = {name: options[name] for name in ("ignore_flags", "flag_name_map") if name in options}
    bad = open_mask(options.get("source_mask"), name="source_mask", hdu=hdu, **flags)
    options = {**options, "source_mask": bad}
    if is_file_like(source):
        source = open_image(source, name="source", hdu=hdu, **flags)
        if not is_file_like(template):
            options = {**options, "hdu": None}
    if is_catalog(source):
        check_pixels(source, name="source")
    if is_catalog(template):
        raise TypeError(
            f"template is an image, which gives the pixel grid; got a catalog, "
            f"{type(template).__name__}. Use find_alignment and alignment.resample(source, "
            "shape=(ny, nx))."
        )
    require_uncertainty(weights, getattr(source, "uncertainty", None))
    alignment = find_alignment(source, template, **options)
    return alignment.resample(
        source,
        mask=bad,
        method=method,
        conserve_flux=conserve_flux,
        fill_value=fill_value,
        output=output,
        scale=grid_scale,
        wcs=wcs,
        scale_flux=scale_flux,
        match_background=match_background,
        n_threads=n_threads,
        pixfrac=pixfrac,
        kernel=kernel,
        weights=weights,
        return_weights=return_weights,
    )


@checked_call
@one_blas_thread()
def find_alignment(
    source: ImageLike | CatalogLike,
    template: ImageLike | CatalogLike | SkyCoord,
    *,
    hdu: HDULike | None = None,
    source_mask: MaskLike | None = None,
    template_mask: MaskLike | None = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
    threshold: float = 5.0,
    fwhm: float | Quantity | None = None,
    gain: float | Quantity | None = None,
    saturation: float | Quantity | None = None,
    finder: Finder = "auto",
    select: Mapping[str, Any] | None = None,
    scale: Range | None = None,
    rotation: Range | None = None,
    parity: int | None = None,
    max_shift: float | Quantity | None = None,
    use_wcs: bool | str = "auto",
    source_pixels: tuple[float, float] | None = None,
    template_pixels: tuple[float, float] | None = None,
    affine: str = "auto",
    spline_order: int = 5,
    smoothing: float | None = None,
    polynomial: int | None = None,
    position: SkyCoord | None = None,
    radius: Any = None,
    pixel_scale: Any = None,
    epoch: Time | float | None = None,
) -> Alignment:
    """
    Find the transform from one image's pixels to another's.

    Parameters
    ----------
    source, template : path, HDU, HDUList, CCDData, NDData, array_like, or a catalog
        Two images of the same sky, shape (ny, nx): arrays of any kind, `~astropy.nddata.CCDData`,
        `~astropy.nddata.NDData`, paths of FITS files, or what `astropy.io.fits.open` gives. Or
        catalogs of their stars: a `~astropy.table.Table` with columns ``x`` and ``y`` (0-based
        pixels), optionally ``flux``, ``x_err``, ``y_err`` and ``flag``, an array of shape (N, 2),
        brightest stars first, or whatever `read_catalog` reads. No WCS is needed. The template
        may also be a catalog of sky positions, such as a
        Gaia table with columns ``ra`` and ``dec``, or a `~astropy.coordinates.SkyCoord`; the
        alignment then gives the source a WCS. See `spalipy_astro.catalogs.project_catalog`.
    hdu : int, str or (str, int), optional
        Which HDU of files and HDULists is the image, of source and template; by default the first
        image. For two different ones give the HDUs themselves.
    source_mask, template_mask : array_like of bool, path, HDU or HDUList, optional
        Bad pixels in addition to the images' own, of their shape or (ny, nx); of files all that
        are not zero, or have a flag of a known observatory that makes them bad. They are bad in
        what `align` returns, too.
    ignore_flags, flag_name_map : optional
        Which bits of flags in files do not make a pixel bad, as
        `astropy.nddata.bitmask.bitfield_to_boolean_mask` takes them; by default
        (``"observatory"``) those that are harmless in the images of the observatory.
    threshold : float, optional
        Smallest signal-to-noise ratio of a star.
    fwhm, gain, saturation : float or `~astropy.units.Quantity`, optional
        Known properties of the images, see `detect_stars`; measured by default.
    finder : {"auto", "stars", "sources"} or callable, optional
        What finds the stars, see `detect_stars`: a fit of the PSF, photutils' segmentation, a star
        finder of photutils, or a function. It is kept in ``provenance["options"]``.
    select : mapping, optional
        Which stars of both to leave out: ``bad_flags``, ``min_fwhm``, ``min_sep`` and
        ``brightest``, as for `read_catalog`. By default the method decides.
    scale : tuple of float or of `~astropy.units.Quantity`, optional
        Smallest and largest possible template px per source px; by default (0.1, 10). Lists in
        other units than pixels, as tells their width, are brought to like units for the default.
    rotation : tuple of float or of `~astropy.units.Quantity`, optional
        Smallest and largest possible angle, in degrees if they have no unit, from the source's x
        axis to its image in the template, counter-clockwise from +x to +y. Angles may exceed
        180: (170, 190) is 20 degrees wide, and so is (-190, -170), the same range.
    parity : {1, -1}, optional
        -1 if one of the images is mirrored, 1 if none is; unknown by default.
    max_shift : float or `~astropy.units.Quantity`, optional
        Largest distance in px that the center of the source can lie from the template's. Of
        catalogs, which have no frame, the largest distance by which positions differ, where they
        differ least.
    use_wcs : {"auto", True, False}, optional
        Whether celestial WCS of both images narrow the search. With "auto" they are ignored if no
        match is found with them.
    source_pixels, template_pixels : (width, height), optional
        Size of a pixel in any unit, the same for both: (1, 2) for frames binned 1 x 2, whose
        pixels are twice as high as wide. By default what the image's WCS says, or its cards on
        binning or pixel size. Where nothing matches so, square ones are tried, and those that the
        stars' own shape suggests.
    affine : {"auto", "shift", "rigid", "similarity", "affine"}, optional
        Kind of the linear part: a shift alone; with rotation; with rotation and scale; or with
        shear, too. Only with the last one is a distortion fitted. "auto" (default) takes a
        similarity for three to five matched stars, unless four or five show a shear beyond doubt,
        and an affine map for more. A shift or a rigid transform narrows the search, too.
    spline_order : int, optional
        Degree of the distortion spline, 1 to 5; 0 for only the linear part.
    smoothing : float, optional
        A fixed weight of the spline's roughness, instead of one determined by the data.
    polynomial : int, optional
        Fit polynomials of this degree, 1 to 5, instead of a penalized spline.
    position, radius, pixel_scale, epoch : optional
        For a catalog of sky positions: where the source points, a `~astropy.coordinates.SkyCoord`;
        how far around to look for stars, deg; the source's pixel scale within 20 %, arcsec (a
        `~astropy.units.Quantity` may also be per pixel); when it was taken, a
        `~astropy.time.Time` or Julian years, for proper motions. By default from the source's WCS
        and header; without these the whole catalog is searched, at any scale.

    Returns
    -------
    Alignment

    Raises
    ------
    ImageError
        If an image has the wrong dimensions, no good pixels, or no contrast.
    TooFewStarsError
        If an image has fewer than three usable stars.
    NoMatchError
        If no transform explains the stars better than chance, or the one that does cannot be
        trusted: it rests on a line or on sources that do not move, violates the priors, folds
        the image or is too uncertain.
    AmbiguousMatchError
        If two different transforms explain the stars.
    CatalogError
        If a catalog lacks required columns or values.
    TypeError, ValueError
        If an argument is invalid.

    Notes
    -----
    Color images and cubes: an array of three axes has its colors last, (ny, nx, 3) or (ny, nx, 4),
    where the last axis is 3 or 4 long and the first is not; the last of four is opacity. Otherwise
    its planes go first, (k, ny, nx). An axis of length one, (1, ny, nx) or (ny, nx, 1), does not
    count. Stars are sought in the mean of all planes that have good pixels, and pixels that are bad
    in one of these are bad.

    References
    ----------
    .. [1] Lang, D. et al. 2010, AJ, 139, 1782, doi:10.1088/0004-6256/139/5/1782

    Examples
    --------
    >>> from spalipy_astro import find_alignment
    >>> from spalipy_astro.example import example_pair
    >>> source, template = example_pair()
    >>> alignment = find_alignment(source, template)
    >>> x, y = alignment.transform(500.0, 300.0)
    >>> print(f"{x:.1f} {y:.1f}")  # doctest: +SKIP
    """
    given = FindOptions(
        threshold=threshold,
        fwhm=fwhm,
        gain=gain,
        saturation=saturation,
        finder=finder,
        select=select,
        scale=scale,
        rotation=rotation,
        parity=parity,
        max_shift=max_shift,
        use_wcs=use_wcs,
        source_pixels=source_pixels,
        template_pixels=template_pixels,
        affine=affine,
        spline_order=spline_order,
        smoothing=smoothing,
        polynomial=polynomial,
        position=position,
        radius=radius,
        pixel_scale=pixel_scale,
        epoch=epoch,
    )
    if hdu is not None and not (is_file_like(source) or is_file_like(template)):
        raise ValueError(f"hdu is for files and HDULists, and neither image is one; got {hdu!r}.")
    flags = {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    one_hdu, other_hdu = (hdu if is_file_like(side) else None for side in (source, template))
    source_mask = open_mask(source_mask, name="source_mask", hdu=one_hdu, **flags)
    template_mask = open_mask(template_mask, name="template_mask", hdu=other_hdu, **flags)
    source = open_side(source, name="source", hdu=one_hdu, **flags)
    template = open_side(template, name="template", hdu=other_hdu, **flags)
    sky, on_sky = given.sky, is_sky_catalog(template)
    if on_sky and given.affine in ("shift", "rigid"):
        raise ValueError(
            f"affine={given.affine!r} is for two lists of one scale, and a catalog of sky "
            "positions has none in px; affine='similarity' fits the scale, too."
        )
    named = " and ".join(name for name, option in sky.items() if option is not None)
    if named and not on_sky:
        raise ValueError(f"{named}: only for catalogs of sky positions; the template is not one.")
    start = time.perf_counter()
    one = prepare(source, name="source", mask=source_mask, **given.detection)
    priors, guessed = given.priors, None
    if on_sky:
        sky["epoch"] = epoch_of(source) if given.epoch is None else given.epoch
        two, priors, guessed = _sky_frame(template, one, priors, given.scale, sky, given.select)
    else:
        two = prepare(template, name="template", mask=template_mask, **given.detection)
    detected = time.perf_counter()
    try:
        one, two, match = matched_frames(one, two, priors, given)
    except NoMatchError as error:
        has_position = sky["position"] is not None or one.wcs is not None
        raise in_words(
            error,
            one,
            two,
            priors,
            threshold=given.threshold,
            on_sky=on_sky,
            has_position=has_position,
        ) from error
    if guessed is not None:
        # once more on pixels of the size of the source's: guessed ones may be far too coarse
        matrix, _ = fit_linear(
            one.stars.xy[match.source], two.stars.xy[match.template], kind="similarity"
        )
        sky["pixel_scale"] = guessed * np.sqrt(abs(np.linalg.det(matrix)))
        two, priors, _ = _sky_frame(template, one, priors, None, sky, given.select)
        one, two, match = matched_frames(one, two, priors, given)
    matched = time.perf_counter()
    s, t = one.stars.take(match.source), two.stars.take(match.template)
    fit = fit_backward(
        s.xy,
        t.xy,
        source_err=s.err,
        template_err=t.err,
        parity=match.parity,
        pixels=(one.pixels, two.pixels),
        **given.fit,
    )
    boxes = None if one.box is None or two.box is None else (one.box, two.box)
    aligned_already = priors.max_shift is not None and priors.max_shift <= _ALIGNED
    verify(
        fit,
        s.xy,
        t.xy,
        source_shape=one.shape,
        template_shape=two.shape,
        boxes=None if aligned_already else boxes,
        log_odds=match.log_odds,
        rigid=given.rigid,
    )
    times = {"detect": detected - start, "match": matched - detected}
    times["fit"] = time.perf_counter() - matched
    found = alignment_of(fit, match, one, two, times=times, options=given.recorded)
    if one.unit == two.unit == 1:
        return found
    return rescaled(found, source=one.unit, template=two.unit)


def _sky_frame(
    catalog: Any,
    source: StarFrame,
    priors: Priors,
    scale: tuple[float, float] | None,
    sky: Mapping[str, Any],
    select: Mapping[str, Any] | None,
) -> tuple[StarFrame, Priors, float | None]:
    """Prepare a catalog of sky positions; tell its pixel scale where that was guessed."""
    shape = source.shape
    size = tuple(np.ptp(source.stars.xy, axis=0) + 1) if shape is None else shape[::-1]
    plane = project_catalog(catalog, source_wcs=source.wcs, source_size=size, **sky)
    stars = as_stars(plane.table, name="template", select=select)
    frame = StarFrame(
        replace(stars, row=plane.row[stars.row]),
        StarField(stars.xy, stars.search_err),
        None,
        plane.wcs,
        len(plane.table),
    )
    if sky["pixel_scale"] is not None and scale is None:
        priors = replace(priors, scale=(1 / 1.2, 1.2))
    return frame, priors, plane.pixel_scale if plane.guessed else None
