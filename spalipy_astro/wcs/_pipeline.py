"""
World coordinates of an alignment: gwcs pipelines over the transform, with sky where there is any.

Points are ``(x, y)`` in pixels, 0-based, with pixel centers on integers.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, Optional

import astropy.units as u
import gwcs
import numpy as np
from astropy.modeling import Model
from astropy.modeling.models import (
    AffineTransformation2D,
    Identity,
    Multiply,
    Pix2Sky_ARC,
    Pix2Sky_SIN,
    Pix2Sky_STG,
    Pix2Sky_TAN,
    Pix2Sky_ZEA,
    RotateNative2Celestial,
    Shift,
)
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from gwcs.coordinate_frames import CelestialFrame, CoordinateFrame, Frame2D

from spalipy_astro.models import FITSWCSTransform
from spalipy_astro.wcs._unwrap import has_units, unwrap_wcs

__all__ = ["build_wcs", "pack_wcs", "sky_transform", "unpack_wcs"]

_ZENITHAL = {
    "ARC": Pix2Sky_ARC,
    "SIN": Pix2Sky_SIN,
    "STG": Pix2Sky_STG,
    "TAN": Pix2Sky_TAN,
    "ZEA": Pix2Sky_ZEA,
}
_EXACT = 1e-8  # px: native models that differ more from the FITS WCS are not used
_SHAPE = (2048, 2048)  # where a WCS is checked if nobody knows the shape of its image

Steps = list[tuple[CoordinateFrame, Optional[Model]]]  # noqa: UP045  (models define the | of classes)


def build_wcs(
    transform: Model,
    template_wcs: Any = None,
    *,
    source_shape: tuple[int, int] | None = None,
    template_shape: tuple[int, int] | None = None,
) -> tuple[gwcs.WCS, gwcs.WCS | WCS]:
    """
    Make the WCS of a source image from its transform onto a template.

    Parameters
    ----------
    transform : astropy.modeling.Model
        Mapping of source pixels to template pixels, with an inverse. It is copied.
    template_wcs : astropy.wcs.WCS, gwcs.WCS or None, optional
        The WCS of the template, also as NDData keeps it (wrapped or sliced). Without one, or with
        one that has no sky, the world is the pixels of the template.
    source_shape, template_shape : tuple of int, optional
        Shapes ``(ny, nx)`` of the two images, which the WCS remember as ``array_shape``.

    Returns
    -------
    wcs : gwcs.WCS
        From the frame ``source_detector`` over ``template_detector`` to the sky. Without sky it
        ends at ``template_detector``.
    template_wcs : gwcs.WCS or astropy.wcs.WCS
        The WCS of the template's own pixels with the same world, to give to reproject as output
        projection. For a FITS or gwcs template a copy of its WCS.

    Raises
    ------
    TypeError
        If ``template_wcs`` is some other kind of WCS.
    ValueError
        If ``template_wcs`` does not have two pixel axes, or ``transform`` no inverse.

    Warns
    -----
    AstropyUserWarning
        If the FITS WCS of the template has a sky that astropy knows no coordinate frame for; it is
        left out.

    Notes
    -----
    No bounding box is set, and that of a template's gwcs is left out: it would turn the pixels
    outside the template to NaN.

    Examples
    --------
    >>> from astropy.modeling.models import AffineTransformation2D
    >>> from spalipy_astro.wcs import build_wcs
    >>> shift = AffineTransformation2D(translation=[3, -2])
    >>> wcs, template_wcs = build_wcs(shift, source_shape=(60, 80))
    >>> wcs.available_frames
    ['source_detector', 'template_detector']
    >>> x, y = wcs(10.0, 20.0)
    >>> print(x, y)
    13.0 18.0
    """
    try:
        transform.inverse  # noqa: B018
    except NotImplementedError:
        raise ValueError(
            "transform has no inverse; set transform.inverse to a model of the inverse."
        ) from None
    source = Frame2D(name="source_detector", unit=(u.pix, u.pix))
    template = Frame2D(name="template_detector", unit=(u.pix, u.pix))
    template_wcs = unwrap_wcs(template_wcs)
    if template_shape is None and template_wcs is not None:
        template_shape = template_wcs.array_shape

    sky: Steps = []
    if isinstance(template_wcs, WCS):
        if template_wcs.has_celestial:
            sky = _steps_of_fits(template_wcs, template, template_shape)
    elif template_wcs is not None:
        sky = _steps_of_gwcs(template_wcs, template, taken={source.name, template.name})

    transform = transform.copy()
    if isinstance(template_wcs, gwcs.WCS) and has_units(template_wcs):
        # The transform strips the units that gwcs gives its inputs
        transform = transform | (Multiply(1 * u.pix) & Multiply(1 * u.pix))
    wcs = gwcs.WCS([(source, transform), *(copy.deepcopy(sky) or [(template, None)])])
    if not sky:
        pixels = Frame2D(name="template_pixels", unit=(u.pix, u.pix))
        template_wcs = gwcs.WCS([(pixels, Identity(2)), (copy.deepcopy(template), None)])
    elif isinstance(template_wcs, WCS):
        template_wcs = template_wcs.deepcopy()
    else:
        template_wcs = gwcs.WCS(sky)
    for built, shape in ((wcs, source_shape), (template_wcs, template_shape)):
        if shape is not None:
            built.array_shape = tuple(int(n) for n in shape)
    return wcs, template_wcs


def sky_transform(
    wcs: WCS, *, shape: tuple[int, int] | None = None
) -> tuple[Model, CelestialFrame]:
    """
    Express a celestial FITS WCS as an astropy model and a gwcs frame.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        A WCS of two celestial axes: any projection, distortion, axis order and reference system.
    shape : tuple of int, optional
        Shape ``(ny, nx)`` of the image; taken from ``wcs`` by default.

    Returns
    -------
    model : astropy.modeling.Model
        Pixels to longitude and latitude in degrees. It consists of models of astropy where these
        agree with ``wcs`` within 1e-8 pixels over the image and half as far again around it, in
        both directions (plain zenithal projections), and is a
        `~spalipy_astro.models.FITSWCSTransform` otherwise.
    frame : gwcs.coordinate_frames.CelestialFrame
        The frame of the sky, named after its reference system.

    Raises
    ------
    ValueError
        If the axes of ``wcs`` are not one longitude and one latitude, or astropy has no coordinate
        frame for them.

    Examples
    --------
    >>> from astropy.wcs import WCS
    >>> from spalipy_astro.wcs import sky_transform
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "GLON-TAN", "GLAT-TAN"
    >>> wcs.wcs.cdelt = -0.001, 0.001
    >>> model, frame = sky_transform(wcs)
    >>> frame.name, model.n_submodels
    ('galactic', 5)
    """
    exact = FITSWCSTransform(wcs)
    reference = wcs_to_celestial_frame(wcs)
    frame = CelestialFrame(
        name=reference.name,
        reference_frame=reference,
        unit=(u.deg, u.deg),
        axes_names=("lon", "lat"),
    )
    native = _native_model(wcs)
    if native is not None and _agree(native, exact, shape or wcs.array_shape or _SHAPE):
        return native, frame
    return exact, frame


def pack_wcs(wcs: Any) -> Any:
    """
    Make of the WCS of an image what ASDF keeps without losing a bit of it.

    Parameters
    ----------
    wcs : astropy.wcs.WCS, gwcs.WCS or None
        Also as NDData keeps it: wrapped or sliced.

    Returns
    -------
    FITSWCSTransform, gwcs.WCS, astropy.wcs.WCS or None
        A celestial FITS WCS is packed into the model, since a FITS header keeps 14 digits only.
    """
    wcs = unwrap_wcs(wcs)
    return FITSWCSTransform(wcs) if isinstance(wcs, WCS) and wcs.has_celestial else wcs


def unpack_wcs(packed: Any) -> Any:
    """
    Give back the WCS that was packed by `pack_wcs`.

    Parameters
    ----------
    packed : object
        What `pack_wcs` gave.

    Returns
    -------
    astropy.wcs.WCS, gwcs.WCS or None
        The WCS.
    """
    return packed.wcs if isinstance(packed, FITSWCSTransform) else packed


def _native_model(wcs: WCS) -> Model | None:
    """Make a chain of astropy's models for a plain zenithal WCS; None for any other kind."""
    projection = _ZENITHAL.get(wcs.wcs.ctype[0][5:8])
    if projection is None or wcs.has_distortion:
        return None
    wcs = wcs.deepcopy()
    wcs.wcs.set()
    order = [wcs.wcs.lng, wcs.wcs.lat]
    matrix = (wcs.wcs.get_cdelt()[:, np.newaxis] * wcs.wcs.get_pc())[order]
    angles = [_steady(angle) for angle in (*wcs.wcs.crval[order], wcs.wcs.lonpole)]
    x, y = wcs.wcs.crpix - 1
    return (
        (Shift(-x) & Shift(-y))
        | AffineTransformation2D(matrix)
        | projection()
        | RotateNative2Celestial(*angles)
    )


def _steady(angle: float) -> float:
    """Round an angle so that the model, which keeps radians, is read from a file as it was."""
    while np.deg2rad(np.rad2deg(np.deg2rad(angle))) != np.deg2rad(angle):
        angle = float(np.rad2deg(np.deg2rad(angle)))
    return angle


def _agree(model: Model, exact: FITSWCSTransform, shape: tuple[int, int]) -> bool:
    """Compare a model with the WCS that it stands for, there and back, in pixels."""
    ny, nx = shape
    x, y = np.meshgrid(np.linspace(-nx / 2, 1.5 * nx, 17), np.linspace(-ny / 2, 1.5 * ny, 17))
    for there, back in ((exact, model.inverse), (model, exact.inverse)):
        miss = np.hypot(*np.subtract(back(*there(x, y)), (x, y)))
        if not np.all(miss <= _EXACT):  # also where it is NaN
            return False
    return True


def _steps_of_fits(wcs: WCS, template: CoordinateFrame, shape: tuple[int, int] | None) -> Steps:
    """Give the steps of a pipeline from template pixels to the sky of a FITS WCS."""
    try:
        wcs_to_celestial_frame(wcs)
    except (TypeError, ValueError) as error:  # astropy multiplies the radius of a body, or None
        known = isinstance(error, ValueError)
        reason = str(error) if known else "it is that of a body whose radii are not told."
        warnings.warn(
            f"The sky of the template is left out: {reason} The alignment ends at the pixels of "
            "the template.",
            AstropyUserWarning,
            stacklevel=3,
        )
        return []
    model, frame = sky_transform(wcs, shape=shape)
    return [(template, model), (frame, None)]


def _steps_of_gwcs(wcs: gwcs.WCS, template: CoordinateFrame, taken: set[str]) -> Steps:
    """Give the steps of a pipeline from template pixels to the world of a gwcs."""
    steps: Steps = []
    taken = taken.copy()
    for step in wcs.pipeline:
        frame, model = copy.deepcopy(step.frame), copy.deepcopy(step.transform)
        if steps:
            frame.name = _free_name(frame.name, taken)
            taken.add(frame.name)
        else:
            frame = template
            if model is not None:
                model.bounding_box = None
        steps.append((frame, model))
    return steps


def _free_name(name: str, taken: set[str]) -> str:
    """Append a number to a name that is taken."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
