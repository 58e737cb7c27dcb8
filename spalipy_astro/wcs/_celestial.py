"""Any celestial WCS as a grid: how it is given, and its pixels on the pixels of another one."""

from __future__ import annotations

import copy
from typing import Any

import astropy.units as u
import gwcs
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.modeling import Model
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS, HighLevelWCSWrapper
from gwcs.coordinate_frames import CelestialFrame
from numpy.typing import NDArray

from spalipy_astro._checks import flaw_of_wcs, require_sound_wcs, words_of_wcslib
from spalipy_astro.models import NumericalInverse2D
from spalipy_astro.wcs._pipeline import sky_transform
from spalipy_astro.wcs._unwrap import has_units, unwrap_wcs

__all__ = ["celestial_grid", "grid_to_grid", "invertible"]

Shape = tuple[int, int]

_KINDS = "an astropy.wcs.WCS, a gwcs.WCS, a FITS header, or (WCS, shape)"


def celestial_grid(given: Any) -> tuple[WCS | gwcs.WCS, Shape | None]:
    """
    Read a grid on the sky.

    Parameters
    ----------
    given : `~astropy.wcs.WCS`, `gwcs.WCS`, `~astropy.io.fits.Header` or (WCS, shape)
        A grid; of more than two axes its celestial ones count.

    Returns
    -------
    wcs : `~astropy.wcs.WCS` or `gwcs.WCS`
        Of two axes.
    shape : tuple of int or None
        ``(ny, nx)``, where it is known.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it has no two celestial axes, or its matrix is singular.
    """
    shape = None
    if isinstance(given, tuple):
        if len(given) != 2:
            raise TypeError(f"wcs is {_KINDS}; got {len(given)} things in a tuple.")
        given, shape = given
    if isinstance(given, Header):
        given = _of_header(given)
    wcs = given.low_level_wcs if isinstance(given, HighLevelWCSWrapper) else given
    if isinstance(wcs, WCS):
        require_sound_wcs(wcs)
        if not wcs.has_celestial:
            kinds = ", ".join(wcs.wcs.ctype)
            raise ValueError(f"wcs is a grid on the sky, with two celestial axes; got {kinds}.")
        if wcs.naxis > 2:
            whole = wcs.pixel_shape
            axes = sorted((wcs.wcs.lng, wcs.wcs.lat))
            wcs = wcs.sub([axis + 1 for axis in axes])
            if whole is not None:
                wcs.pixel_shape = tuple(whole[axis] for axis in axes)
    elif isinstance(wcs, BaseLowLevelWCS):
        try:
            wcs = unwrap_wcs(wcs)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("template_wcs must", "wcs must")) from error
        assert isinstance(wcs, gwcs.WCS)
        if not _has_sky(wcs):
            raise ValueError(
                "wcs is a grid on the sky; got a WCS whose world is "
                f"{', '.join(str(kind) for kind in wcs.world_axis_physical_types)}."
            )
    else:
        raise TypeError(f"wcs is {_KINDS}; got {type(given).__name__}.")
    if shape is None and wcs.array_shape is not None:
        shape = (int(wcs.array_shape[0]), int(wcs.array_shape[1]))
    return wcs, shape


def grid_to_grid(
    wcs: WCS | gwcs.WCS, shape: Shape, other: WCS | gwcs.WCS, other_shape: Shape | None
) -> Model:
    """
    Return the map of the pixels of one celestial WCS to those of another.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `gwcs.WCS`
    shape : tuple of int
        Shape ``(ny, nx)`` of its image.
    other : `~astropy.wcs.WCS` or `gwcs.WCS`
    other_shape : tuple of int or None

    Returns
    -------
    Model
        NaN where the other one does not show the sky.

    Raises
    ------
    ValueError
        If the other WCS cannot be inverted.
    """
    to_sky, frame = _to_sky(wcs, shape)
    of_other, its_frame = _to_sky(other, other_shape)
    try:
        from_sky = of_other.inverse
    except NotImplementedError:
        raise ValueError(
            "wcs= needs a template whose WCS goes both ways; its gwcs has no inverse. Give its "
            "transform an inverse, or a FITS WCS (gwcs.WCS.to_fits_sip)."
        ) from None
    turned = to_sky
    if not frame.is_equivalent_frame(its_frame):
        turned = to_sky | _Turned(frame, its_frame)
    return turned | _Seen(from_sky, of_other)


def invertible(backward: Model, shape: Shape) -> Model:
    """Return a map of a grid's pixels with an inverse, a numerical one where it has none."""
    try:
        backward.inverse  # noqa: B018
    except NotImplementedError:
        x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
        (x0, x1, x2), (y0, y1, y2) = backward(
            np.array([x, x + 1, x]), np.array([y, y, y + 1]), with_bounding_box=False
        )
        matrix = np.array([[x1 - x0, x2 - x0], [y1 - y0, y2 - y0]])
        if np.isfinite(matrix).all() and np.linalg.det(matrix):
            offset = np.array([x0, y0]) - matrix @ (x, y)
            backward.inverse = NumericalInverse2D(backward, matrix, offset)
    return backward


def _of_header(header: Header) -> WCS:
    """Read the WCS of a header."""
    try:
        flaw = flaw_of_wcs(WCS(header, fix=False))  # zeros are put right to 1 deg per px
        if not flaw:
            return WCS(header)
    except Exception as error:  # wcslib and astropy raise all sorts of things here
        told = words_of_wcslib(error)
        raise ValueError(f"wcs: the header has no WCS that can be read: {told}") from error
    raise ValueError(f"wcs: the header maps no pixels to the sky: {flaw}. Give its pixel scale.")


def _has_sky(wcs: gwcs.WCS) -> bool:
    frame = wcs.output_frame
    return isinstance(frame, CelestialFrame) and frame.reference_frame is not None


def _to_sky(wcs: WCS | gwcs.WCS, shape: Shape | None) -> tuple[Model, Any]:
    """Return the map of pixels to longitude and latitude, degrees, and their frame."""
    if isinstance(wcs, WCS):
        model, frame = sky_transform(wcs, shape=shape)
        return model, frame.reference_frame
    frame = wcs.output_frame
    plain = not has_units(wcs) and frame.unit == (u.deg, u.deg) and frame.axes_order == (0, 1)
    model = wcs.forward_transform if plain else _ByWCS(wcs)
    return model, frame.reference_frame


class _Plane(Model):
    """A map of the plane that has no parameters."""

    n_inputs = 2
    n_outputs = 2
    fittable = False
    standard_broadcasting = False
    _separable = False


class _Turned(_Plane):
    """Longitude and latitude from one celestial frame to another, degrees."""

    def __init__(self, old: Any, new: Any) -> None:
        self._old, self._new = old, new
        super().__init__()

    # astropy takes annotations of ``evaluate`` for units
    def evaluate(self, lon, lat):
        """Turn positions."""
        return _degrees(SkyCoord(lon, lat, unit="deg", frame=self._old).transform_to(self._new))

    @property
    def inverse(self) -> Model:
        """The way back."""
        return _Turned(self._new, self._old)


class _Seen(_Plane):
    """
    Longitude and latitude to the pixels of a WCS; NaN where it does not show them.

    Many projections give the far side of the sky the pixels of the near one. A position that does
    not come back to itself is none.
    """

    def __init__(self, from_sky: Model, to_sky: Model) -> None:
        self._from_sky, self._to_sky = from_sky, to_sky
        super().__init__()

    def evaluate(self, lon, lat):
        """Project positions."""
        x, y = (
            np.array(np.broadcast_to(t, np.shape(lon)), float) for t in self._from_sky(lon, lat)
        )
        back_lon, back_lat = self._to_sky(x, y)
        cosine = np.cos(np.radians(lat))
        off = np.hypot(((back_lon - lon + 180) % 360 - 180) * cosine, back_lat - lat)
        with np.errstate(invalid="ignore"):
            unseen = ~(off < 1.0)  # deg; images of the far side are 180 deg off
        x[unseen], y[unseen] = np.nan, np.nan
        return x, y

    @property
    def inverse(self) -> Model:
        """The way back."""
        return self._to_sky


class _ByWCS(_Plane):
    """Pixels of a gwcs of any form to longitude and latitude, degrees."""

    def __init__(self, wcs: gwcs.WCS) -> None:
        self._wcs = copy.deepcopy(wcs)
        self._wcs.bounding_box = None  # it would turn what lies outside to NaN
        super().__init__()

    def evaluate(self, x, y):
        """Ask the WCS."""
        return _degrees(self._wcs.pixel_to_world(x, y))

    @property
    def inverse(self) -> Model:
        """The way back."""
        self._wcs.backward_transform  # noqa: B018  # raises NotImplementedError if there is none
        return _ToPixels(self._wcs)


class _ToPixels(_Plane):
    """Longitude and latitude, degrees, to the pixels of a gwcs of any form."""

    def __init__(self, wcs: gwcs.WCS) -> None:
        self._wcs = wcs
        super().__init__()

    def evaluate(self, lon, lat):
        """Ask the WCS."""
        sky = SkyCoord(lon, lat, unit="deg", frame=self._wcs.output_frame.reference_frame)
        return tuple(np.asarray(getattr(t, "value", t)) for t in self._wcs.world_to_pixel(sky))

    @property
    def inverse(self) -> Model:
        """The way back."""
        return _ByWCS(self._wcs)


def _degrees(sky: SkyCoord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitude and latitude."""
    return sky.spherical.lon.deg, sky.spherical.lat.deg
