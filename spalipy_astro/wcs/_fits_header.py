"""
FITS headers for programs that read no gwcs: SIP, TPV and -TAB.

Points are ``(x, y)`` in pixels, 0-based, with pixel centers on integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import astropy.units as u
import gwcs
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.modeling import Model
from astropy.wcs import WCS
from astropy.wcs.utils import celestial_frame_to_wcs
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from spalipy_astro._checks import positive_number
from spalipy_astro.errors import ExportError
from spalipy_astro.wcs._pipeline import build_wcs

__all__ = ["FITSExport", "to_fits_header"]

FloatArray = NDArray[np.float64]
Terms = dict[tuple[int, int], FloatArray]  # coefficients of x**p * y**q by (p, q)

_N_FIT, _N_CHECK = 36, 53  # points along an axis to fit to, and others to check at
_MAX_ORDER = {"sip": 9, "tpv": 7}
_TAB_STEPS = (256, 128, 64, 32, 16, 8, 4)  # px


class FITSExport(NamedTuple):
    """A FITS WCS of a source image: header, tables that belong to it, and how exact it is."""

    header: fits.Header
    """The cards of the WCS, to be merged into the header of the source image."""
    tables: list[fits.BinTableHDU]
    """Extensions that must stand in the same file: one for -TAB, none otherwise."""
    error: float
    """Largest error over the image, in source pixels."""


@dataclass(frozen=True)
class _Source:
    """What is exported: the sky of a source image, seen on a tangential plane."""

    sky: Callable[[FloatArray, FloatArray], SkyCoord]
    """Sky at source pixels."""
    plane: WCS
    """Gnomonic projection at the center of the image: pixels 1-based are degrees."""
    shape: tuple[int, int]

    def grid(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Give points that cover the image, to the outer edges of its pixels."""
        ny, nx = self.shape
        x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, n), np.linspace(-0.5, ny - 0.5, n))
        return x.ravel(), y.ravel()

    def on_plane(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Give the points of the plane, shape (2, N), at source pixels."""
        return self.project(*_lon_lat(self.sky(x, y)))

    def project(self, lon: FloatArray, lat: FloatArray) -> FloatArray:
        """Give the points of the plane, shape (2, N), at positions in degrees."""
        return np.stack(self.plane.wcs_world2pix(lon, lat, 1))

    @cached_property
    def truth(self) -> tuple[FloatArray, FloatArray]:
        """Give the points of the plane to check at, and the pixels per degree there."""
        x, y = self.grid(_N_CHECK)
        derivatives = np.stack(
            [
                self.on_plane(x + 0.5, y) - self.on_plane(x - 0.5, y),
                self.on_plane(x, y + 0.5) - self.on_plane(x, y - 0.5),
            ],
            axis=-1,
        )
        inverse: FloatArray = np.linalg.inv(derivatives.transpose(1, 0, 2)).astype(float)
        return self.on_plane(x, y), inverse

    def error(self, header: fits.Header, tables: list[fits.BinTableHDU]) -> float:
        """Read a header back and give its largest error, in source pixels."""
        wcs = WCS(header, fits.HDUList([fits.PrimaryHDU(), *tables]))
        world = wcs.all_pix2world(*self.grid(_N_CHECK), 0)
        plane, pixels_per_degree = self.truth
        miss = self.project(world[wcs.wcs.lng], world[wcs.wcs.lat]) - plane
        return float(np.max(np.hypot(*np.einsum("nij,jn->in", pixels_per_degree, miss))))


def to_fits_header(
    backward: Model,
    template_wcs: Any,
    shape_source: tuple[int, int],
    *,
    kind: Literal["sip", "tpv", "tab"] = "sip",
    tolerance: float = 0.01,
) -> FITSExport:
    """
    Describe the sky of an aligned source image by a FITS header.

    Parameters
    ----------
    backward : astropy.modeling.Model
        Mapping of template pixels to source pixels, with an inverse.
    template_wcs : astropy.wcs.WCS or gwcs.WCS
        The WCS of the template, with sky.
    shape_source : tuple of int
        Shape ``(ny, nx)`` of the source image.
    kind : {"sip", "tpv", "tab"}, optional
        How the distortion is written: as polynomials of pixels (SIP, the default; astropy,
        astrometry.net, DS9), as polynomials of the tangential plane (TPV; SCAMP, SWarp, astropy),
        or as a table of coordinates that are interpolated linearly (-TAB; astropy and all else that
        WCSLIB reads for). SIP and TPV are gnomonic projections.
    tolerance : float, optional
        Largest error allowed anywhere in the image, in source pixels.

    Returns
    -------
    FITSExport
        ``header``, ``tables`` and ``error``. The header carries the error, too: ``ALGNWERR``.

    Raises
    ------
    ExportError
        If the template has no sky, or no header of this kind is as exact as ``tolerance`` demands.
    ValueError
        If ``kind`` or ``tolerance`` are none.

    Notes
    -----
    The lowest order of the polynomials, or the widest step of the table, is chosen that makes a
    tenth of the error allowed; failing that, the best one there is. The error is what astropy.wcs
    makes of the header, against the alignment, on a grid of points that takes no part in the fit.

    References
    ----------
    .. [1] Shupe, D. L. et al. 2005, ASP Conf. Ser. 347, 491 (SIP)
    .. [2] Calabretta, M. R. & Greisen, E. W. 2002, A&A, 395, 1077,
       doi:10.1051/0004-6361:20021327 (gnomonic projection)
    .. [3] Greisen, E. W. et al. 2006, A&A, 446, 747, doi:10.1051/0004-6361:20053818 (-TAB)

    Examples
    --------
    >>> from astropy.modeling.models import AffineTransformation2D
    >>> from astropy.wcs import WCS
    >>> from spalipy_astro.wcs import to_fits_header
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    >>> wcs.wcs.cdelt = -1e-4, 1e-4
    >>> shift = AffineTransformation2D(translation=[3, -2])
    >>> export = to_fits_header(shift, wcs, (60, 80))
    >>> export.header["CTYPE1"], export.error < 1e-6
    ('RA---TAN', True)
    """
    writers = {"sip": _polynomials, "tpv": _polynomials, "tab": _tables}
    if kind not in writers:
        raise ValueError(f"kind must be one of 'sip', 'tpv' and 'tab', got {kind!r}.")
    tolerance = positive_number("tolerance", tolerance, "a positive number of px", u.pix)
    source = _make_source(backward, template_wcs, shape_source)
    best: FITSExport | None = None
    for export in writers[kind](source, kind):
        if best is None or export.error < best.error:
            best = export
        if best.error <= 0.1 * tolerance:
            break
    if best is None or not best.error <= tolerance:
        raise ExportError(_refusal(kind, best, tolerance))
    best.header["ALGNWERR"] = (float(f"{best.error:.2g}"), "[px] largest error of this WCS")
    return best


def _refusal(kind: str, best: FITSExport | None, tolerance: float) -> str:
    """Say why there is no header, and what there is instead."""
    if best is None:
        return (
            f"kind={kind!r} cannot describe an image that shows a celestial pole or longitude 0, "
            "since tables are interpolated between longitudes; use kind='sip'."
        )
    instead = {
        "sip": "use kind='tab', or save the alignment as ASDF",
        "tpv": "use kind='tab', or save the alignment as ASDF",
        "tab": "use kind='sip', or save the alignment as ASDF",
    }[kind]
    return (
        f"kind={kind!r} describes the alignment to {best.error:.2g} px at best, which is more than "
        f"tolerance={tolerance:g}; {instead}, or raise the tolerance."
    )


def _make_source(backward: Model, template_wcs: Any, shape: tuple[int, int]) -> _Source:
    """Put a tangential plane on the sky of the source image."""
    wcs, template_wcs = build_wcs(backward.inverse, template_wcs)

    def sky(x: FloatArray, y: FloatArray) -> SkyCoord:
        return wcs.pixel_to_world(x, y)

    ny, nx = shape
    center = sky(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
    if not isinstance(center, SkyCoord):
        raise ExportError(
            "the template has no celestial WCS, so there are no sky coordinates to export; "
            "save the alignment as ASDF, which does not need them."
        )
    source = _Source(sky, _tangential_plane(template_wcs, center), (ny, nx))
    if not all(np.isfinite(values).all() for values in source.truth):
        raise ExportError(
            "some pixels of the source have no position on the sky, or lie 90 degrees from its "
            "center; save the alignment as ASDF."
        )
    return source


def _tangential_plane(template_wcs: WCS | gwcs.WCS, center: SkyCoord) -> WCS:
    """Make a gnomonic WCS of the template's reference system around a position."""
    if isinstance(template_wcs, WCS):
        wcs = WCS(naxis=2)
        old = template_wcs.wcs
        wcs.wcs.ctype = [f"{old.ctype[i][:5].ljust(5, '-')}TAN" for i in (old.lng, old.lat)]
        wcs.wcs.radesys, wcs.wcs.equinox = old.radesys, old.equinox
    else:
        wcs = celestial_frame_to_wcs(center.frame.replicate_without_data(), projection="TAN")
    wcs.wcs.crval = [float(angle[0]) for angle in _lon_lat(center)]
    wcs.wcs.crpix = 0.0, 0.0
    wcs.wcs.cdelt = 1.0, 1.0
    wcs.wcs.cunit = "deg", "deg"
    wcs.wcs.set()
    return wcs


def _lon_lat(sky: SkyCoord) -> tuple[FloatArray, FloatArray]:
    """Give longitude and latitude in degrees."""
    return sky.spherical.lon.deg, sky.spherical.lat.deg


# --- polynomials ---------------------------------------------------------------------------------


def _polynomials(source: _Source, kind: str) -> Iterator[FITSExport]:
    """Make headers with polynomials of rising order."""
    pixels = np.stack(source.grid(_N_FIT))
    plane = source.on_plane(*pixels)
    for order in range(1, _MAX_ORDER[kind] + 1):
        crpix, coeff = _fit_centered(pixels, plane, order)
        header = _header(source, crpix + 1, _linear(coeff), order, kind)
        if order > 1:
            add = _add_sip if kind == "sip" else _add_tpv
            add(header, coeff, pixels - crpix[:, np.newaxis], plane, order)
        yield FITSExport(header, [], source.error(header, []))


def _powers(order: int) -> list[tuple[int, int]]:
    """List the exponents ``(p, q)`` of a polynomial, by rising order."""
    return [(n - q, q) for n in range(order + 1) for q in range(n + 1)]


def _fit_polynomial(points: FloatArray, values: FloatArray, order: int) -> Terms:
    """Fit polynomials to values of shape (2, N) at points of shape (2, N) by least squares."""
    # Chebyshev polynomials of the scaled coordinates: the normal equations are well-conditioned
    scale = np.abs(points).max(axis=1)
    along_x, along_y = (
        chebyshev.chebvander(t / s, order) for t, s in zip(points, scale, strict=True)
    )
    powers = _powers(order)
    design = np.stack([along_x[:, p] * along_y[:, q] for p, q in powers], axis=-1)
    fitted = np.linalg.solve(design.T @ design, design.T @ values.T)
    grid = np.zeros((order + 1, order + 1, 2))
    for (p, q), coeff in zip(powers, fitted, strict=True):
        grid[p, q] = coeff
    to_monomials = np.zeros((order + 1, order + 1))
    for n in range(order + 1):
        to_monomials[: n + 1, n] = chebyshev.cheb2poly(np.eye(order + 1)[n])[: n + 1]
    grid = np.einsum("pm,qn,mni->pqi", to_monomials, to_monomials, grid)
    return {(p, q): grid[p, q] / (scale[0] ** p * scale[1] ** q) for p, q in powers}


def _fit_centered(pixels: FloatArray, plane: FloatArray, order: int) -> tuple[FloatArray, Terms]:
    """Fit polynomials of the distance from the pixel where they vanish, and give this pixel."""
    center = pixels.mean(axis=1)
    coeff = _fit_polynomial(pixels - center[:, np.newaxis], plane, order)
    offset = np.zeros(2)
    for _ in range(5):  # Newton's method, with one matrix: the root is a small step away
        value = sum(c * offset[0] ** p * offset[1] ** q for (p, q), c in coeff.items())
        offset = offset - np.linalg.solve(_linear(coeff), value)
    crpix = center + offset
    return crpix, _fit_polynomial(pixels - crpix[:, np.newaxis], plane, order)


def _linear(coeff: Terms) -> FloatArray:
    """Give the matrix of the linear terms: CD."""
    return np.stack([coeff[1, 0], coeff[0, 1]], axis=-1)


def _header(
    source: _Source, crpix: FloatArray, matrix: FloatArray, order: int, kind: str
) -> fits.Header:
    """Write the cards that all gnomonic projections have."""
    plane = source.plane.wcs
    header = fits.Header()
    header["WCSAXES"] = 2
    suffix = {"sip": "TAN-SIP", "tpv": "TPV"}[kind] if order > 1 else "TAN"
    for i in range(2):
        header[f"CTYPE{i + 1}"] = plane.ctype[i][:5] + suffix
        header[f"CUNIT{i + 1}"] = "deg"
        header[f"CRVAL{i + 1}"] = plane.crval[i]
        header[f"CRPIX{i + 1}"] = crpix[i]
        for j in range(2):
            header[f"CD{i + 1}_{j + 1}"] = matrix[i, j]
    header.update(_system_cards(source.plane))
    return header


def _system_cards(wcs: WCS) -> dict[str, Any]:
    """Give the cards of the reference system."""
    cards = {"RADESYS": wcs.wcs.radesys, "EQUINOX": float(wcs.wcs.equinox)}
    return {key: value for key, value in cards.items() if value and value == value}


def _add_sip(
    header: fits.Header, coeff: Terms, offsets: FloatArray, plane: FloatArray, order: int
) -> None:
    """Write Simple Imaging Polynomials and, for programs that want them, their inverse."""
    inverse = np.linalg.inv(_linear(coeff))
    undistorted = inverse @ plane
    forth = {pq: inverse @ c for pq, c in coeff.items() if sum(pq) > 1}
    back_order = min(order + 1, _MAX_ORDER["sip"])
    back = _fit_polynomial(undistorted, offsets - undistorted, back_order)
    for names, terms, top in ((("A", "B"), forth, order), (("AP", "BP"), back, back_order)):
        for i, name in enumerate(names):
            header[f"{name}_ORDER"] = top
            for (p, q), values in terms.items():
                header[f"{name}_{p}_{q}"] = values[i]


def _add_tpv(
    header: fits.Header, coeff: Terms, offsets: FloatArray, plane: FloatArray, order: int
) -> None:
    """Write polynomials of the plane; for the second axis, its coordinates change places."""
    linear = _linear(coeff) @ offsets
    correction = _fit_polynomial(linear, plane - linear, order)
    numbers = _tpv_numbers(order)
    for i in range(2):
        for p, q in _powers(order):
            value = correction[p, q][i] + ((p, q) == ((1, 0), (0, 1))[i])
            header[f"PV{i + 1}_{numbers[(p, q) if i == 0 else (q, p)]}"] = value


def _tpv_numbers(order: int) -> dict[tuple[int, int], int]:
    """Give the numbers of TPV to terms; after those of an odd order comes a radial one."""
    # n // 2 radial terms stand before those of order n
    return {(p, q): i + (p + q) // 2 for i, (p, q) in enumerate(_powers(order))}


# --- tables --------------------------------------------------------------------------------------


def _tables(source: _Source, kind: str) -> Iterator[FITSExport]:
    """Make headers with tables of falling step; none around a pole and longitude 0."""
    lon, lat = _lon_lat(source.sky(*source.grid(_N_CHECK)))
    if np.ptp(lon) > 180 or np.abs(lat).max() > 89.9:
        return
    for step in _TAB_STEPS:
        header, table = _table(source, step)
        yield FITSExport(header, [table], source.error(header, [table]))


def _table(source: _Source, step: int) -> tuple[fits.Header, fits.BinTableHDU]:
    """Tabulate longitude and latitude on a grid, and write the header that refers to it."""
    nodes = [
        np.linspace(-0.5, n - 0.5, max(2, 1 + int(np.ceil(n / step)))) for n in source.shape[::-1]
    ]
    coord = np.stack(_lon_lat(source.sky(*np.meshgrid(*nodes))), axis=-1)
    dim = f"(2,{nodes[0].size},{nodes[1].size})"
    columns = [fits.Column("COORD", f"{coord.size}D", dim=dim, array=coord[np.newaxis], unit="deg")]
    columns += [
        fits.Column(name, f"{axis.size}D", array=axis[np.newaxis] + 1)  # FITS counts from 1
        for name, axis in zip(("INDEX1", "INDEX2"), nodes, strict=True)
    ]
    table = fits.BinTableHDU.from_columns(columns, name="WCS-TAB")
    header = fits.Header()
    header["WCSAXES"] = 2
    for i in (1, 2):
        header[f"CTYPE{i}"] = source.plane.wcs.ctype[i - 1][:5] + "TAB"
        header[f"CUNIT{i}"] = "deg"
        header[f"CRPIX{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = 0.0, 0.0, 1.0
        header[f"PS{i}_0"], header[f"PS{i}_1"], header[f"PS{i}_2"] = "WCS-TAB", "COORD", f"INDEX{i}"
        header[f"PV{i}_1"], header[f"PV{i}_2"], header[f"PV{i}_3"] = 1, 1, i
    header.update(_system_cards(source.plane))
    return header, table
