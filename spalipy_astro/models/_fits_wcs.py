"""A celestial FITS WCS as an astropy model, and as plain values that lose not a bit of it."""

from __future__ import annotations

import pickle
import threading
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.modeling import Model
from astropy.units import Quantity
from astropy.wcs import WCS, DistortionLookupTable, Sip
from numpy.typing import NDArray

from spalipy_astro.models._inversion import invert_mapping

__all__ = ["FITSWCSTransform", "InverseFITSWCSTransform", "wcs_from_tree", "wcs_to_tree"]

FloatArray = NDArray[np.float64]

_COPYING = threading.Lock()  # even a copy changes the original for a moment
_EXACT = ("crpix", "crval", "lonpole", "latpole")
_LOOKUPS = ("cpdis1", "cpdis2", "det2im1", "det2im2")


class FITSWCSTransform(Model):
    """
    Pixel to sky, as `astropy.wcs.WCS` computes it.

    The model serves where a chain of native models would not be exact: any projection, distortions
    (SIP, TPV, TPD, lookup tables) and coordinate lookup tables (-TAB).

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        A WCS of two celestial axes, in either order. It is copied.
    **kwargs
        Keyword arguments of `astropy.modeling.Model`, as ``name`` and ``meta``.

    Raises
    ------
    TypeError
        If ``wcs`` is no `astropy.wcs.WCS`.
    ValueError
        If its axes are not one longitude and one latitude.

    Notes
    -----
    The outputs are longitude and latitude in degrees, in this order whatever that of the FITS axes.
    Pixels are 0-based. Pixels that do not lie on the sky are NaN.

    Threads may share the model, as they may not share an `astropy.wcs.WCS`.

    The inverse is `InverseFITSWCSTransform`; it undoes distortions to 1e-9 pixels.

    Examples
    --------
    >>> from astropy.wcs import WCS
    >>> from spalipy_astro.models import FITSWCSTransform
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "RA---CAR", "DEC--CAR"
    >>> wcs.wcs.crval = 30.0, 0.0
    >>> wcs.wcs.cdelt = -0.5, 0.5
    >>> model = FITSWCSTransform(wcs)
    >>> lon, lat = model(1.0, 3.0)
    >>> print(round(lon, 9), round(lat, 9))
    29.0 2.0
    """

    n_inputs = 2
    n_outputs = 2
    fittable = False
    _separable = False

    def __init__(self, wcs: WCS, **kwargs: Any) -> None:
        if not isinstance(wcs, WCS):
            raise TypeError(f"wcs must be an astropy.wcs.WCS, got {type(wcs).__name__}.")
        if wcs.naxis != 2 or not wcs.has_celestial:
            raise ValueError(
                "wcs must have two axes, longitude and latitude, got "
                f"{', '.join(wcs.wcs.ctype) or 'none'}; take its celestial part, wcs.celestial."
            )
        # Through the plain values, so that what is read from a file is the same bit by bit.
        self._tree = wcs_to_tree(wcs)
        self._local = threading.local()
        self._local.wcs = _put_together(self._tree)
        super().__init__(**kwargs)
        self.inputs = ("x", "y")
        self.outputs = ("lon", "lat")

    @property
    def wcs(self) -> WCS:
        """A copy of the WCS."""
        return _put_together(self._tree)

    @property
    def tree(self) -> dict[str, Any]:
        """The WCS as strings, numbers and arrays: what is written to files; not to be changed."""
        return self._tree

    @property
    def _own_wcs(self) -> WCS:
        """The copy of this thread: threads that share one spoil each other's coordinates."""
        if not hasattr(self._local, "wcs"):
            self._local.wcs = _put_together(self._tree)
        return self._local.wcs

    @property
    def inverse(self) -> InverseFITSWCSTransform:
        """The mapping from sky to pixels; its own inverse is this very model."""
        return InverseFITSWCSTransform(self)

    # astropy takes annotations of ``evaluate`` for units
    def evaluate(self, x, y):
        """Compute longitude and latitude in degrees; units are stripped."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        wcs = self._own_wcs
        world = wcs.all_pix2world(x.ravel(), y.ravel(), 0)
        return world[wcs.wcs.lng].reshape(x.shape), world[wcs.wcs.lat].reshape(x.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the WCS: pickling one loses digits, and its lookup tables."""
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Have the WCS put together again where it is needed."""
        self.__dict__.update(state | {"_local": threading.local()})

    def __repr__(self) -> str:
        """Give the axes and the distortions."""
        has = [name for name in ("sip", *_LOOKUPS) if name in self._tree]
        extra = f" with {', '.join(has)}" if has else ""
        return f"<FITSWCSTransform({', '.join(self._own_wcs.wcs.ctype)}{extra})>"


class InverseFITSWCSTransform(Model):
    """
    Sky to pixel, the inverse of a `FITSWCSTransform`.

    Parameters
    ----------
    transform : FITSWCSTransform
        The model to invert; ``inverse`` gives it back.
    **kwargs
        Keyword arguments of `astropy.modeling.Model`, as ``name`` and ``meta``.

    Raises
    ------
    TypeError
        If ``transform`` is another kind of model.

    Notes
    -----
    The inputs are longitude and latitude in degrees. The projection is inverted by
    `astropy.wcs.WCS.wcs_world2pix`, the distortion by Newton's method to 1e-9 pixels. Positions
    that no pixel shows, or only one where the distortion folds the image over, are NaN.
    """

    n_inputs = 2
    n_outputs = 2
    fittable = False
    _separable = False

    def __init__(self, transform: FITSWCSTransform, **kwargs: Any) -> None:
        if not isinstance(transform, FITSWCSTransform):
            raise TypeError(
                f"transform must be a FITSWCSTransform, got {type(transform).__name__}."
            )
        self._transform = transform
        super().__init__(**kwargs)
        self.inputs = ("lon", "lat")
        self.outputs = ("x", "y")

    @property
    def transform(self) -> FITSWCSTransform:
        """The model that this one inverts."""
        return self._transform

    @property
    def inverse(self) -> FITSWCSTransform:
        """The model that this one inverts, the object itself."""
        return self._transform

    # astropy takes annotations of ``evaluate`` for units
    def evaluate(self, lon, lat):
        """Solve for the pixels; NaN where there is none."""
        lon, lat = np.broadcast_arrays(*(_in_degrees(angle) for angle in (lon, lat)))
        wcs = self._transform._own_wcs
        world = np.empty((2, lon.size))
        world[wcs.wcs.lng], world[wcs.wcs.lat] = lon.ravel(), lat.ravel()
        pixels = np.stack(wcs.wcs_world2pix(*world, 0))
        if _is_inverted_iteratively(wcs):
            pixels += _correction(wcs, pixels, world)
        if any(getattr(wcs, name) is not None for name in ("sip", *_LOOKUPS)):

            def undistort(points: FloatArray) -> FloatArray:
                return np.stack(wcs.pix2foc(*points, 0))

            pixels = invert_mapping(undistort, _derivatives(undistort), pixels)
        return pixels[0].reshape(lon.shape), pixels[1].reshape(lon.shape)

    def __repr__(self) -> str:
        """Give the model that this one inverts."""
        return f"<InverseFITSWCSTransform({self._transform!r})>"


def _in_degrees(angle: Any) -> FloatArray:
    """Strip the unit, after a conversion to degrees where it is an angle."""
    if isinstance(angle, Quantity) and angle.unit.is_equivalent("deg"):
        return angle.to_value("deg")
    return np.asarray(angle, dtype=float)


def _is_inverted_iteratively(wcs: WCS) -> bool:
    """Tell whether WCSLIB finds pixels by an iteration, which it ends at a millionth of a pixel."""
    return wcs.wcs.ctype[0][5:8] in ("TAB", "ZPN", "MOL", "BON", "PCO")


def _correction(wcs: WCS, pixels: FloatArray, world: FloatArray) -> FloatArray:
    """Make a last Newton step on the sky, in pixels; zero where there is none to make."""

    def relative(points: FloatArray) -> FloatArray:
        difference = np.stack(wcs.wcs_pix2world(*points, 0)) - world
        difference[wcs.wcs.lng] = np.remainder(difference[wcs.wcs.lng] + 180.0, 360.0) - 180.0
        return difference

    matrix = _derivatives(relative)(pixels)
    step = np.zeros_like(pixels)
    regular = np.isfinite(matrix).all(axis=(1, 2)) & (np.abs(np.linalg.det(matrix)) > 0)
    misses = relative(pixels)[:, regular].T
    step[:, regular] = -np.linalg.solve(matrix[regular], misses[..., np.newaxis])[..., 0].T
    return np.where(np.abs(step) < 1e-3, step, 0.0)


def _derivatives(mapping: Any) -> Any:
    """Make the Jacobian of a mapping of points (2, N), by differences over one pixel."""

    def jacobian(points: FloatArray) -> FloatArray:
        along = [
            mapping(points + step) - mapping(points - step)
            for step in (np.array([[0.5], [0.0]]), np.array([[0.0], [0.5]]))
        ]
        return np.stack(along, axis=-1).transpose(1, 0, 2)

    return jacobian


def _put_together(tree: dict[str, Any]) -> WCS:
    """Make a WCS of its tree; of trees that are seen again, as in a night, it is a copy."""
    original = _original(pickle.dumps(tree))
    with _COPYING:
        return original.deepcopy()


@lru_cache(maxsize=8)
def _original(tree: bytes) -> WCS:
    """Make a WCS of its tree."""
    return wcs_from_tree(pickle.loads(tree))


def wcs_to_tree(wcs: WCS) -> dict[str, Any]:
    """
    Take a FITS WCS apart into strings, numbers and arrays.

    A FITS header keeps 14 digits only, and pixel positions may need more: 3e-7 px were lost at
    0.03 arcsec per pixel. So the numbers that matter stand beside the header.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Any FITS WCS.

    Returns
    -------
    dict
        What `wcs_from_tree` needs; every value can be written to ASDF.

    Raises
    ------
    ValueError
        If it has several lookup tables (-TAB).
    """
    # to_header must not complain about keywords of the lookup tables, which are kept apart
    bare = wcs.deepcopy()
    bare.wcs.set()
    for name in _LOOKUPS:
        setattr(bare, name, None)
    tree: dict[str, Any] = {
        "header": [str(card).rstrip() for card in bare.to_header(relax=True).cards],
        "cdelt": wcs.wcs.get_cdelt().tolist(),
        "pc": wcs.wcs.get_pc().tolist(),
        "pv": [[int(i), int(m), float(value)] for i, m, value in wcs.wcs.get_pv()],
    }
    for name in _EXACT:
        tree[name] = np.asarray(getattr(bare.wcs, name)).tolist()
    for name in ("pixel_shape", "pixel_bounds"):
        if getattr(wcs, name) is not None:
            tree[name] = np.array(getattr(wcs, name)).tolist()
    if wcs.sip is not None:
        tree["sip"] = {
            key: getattr(wcs.sip, key).tolist()
            for key in ("a", "b", "ap", "bp", "crpix")
            if getattr(wcs.sip, key) is not None
        }
    for name in _LOOKUPS:
        table = getattr(wcs, name)
        if table is not None:
            tree[name] = {
                "data": np.array(table.data),
                **{key: [float(v) for v in getattr(table, key)] for key in _TABLE_KEYS},
            }
    arrays = _tabular_arrays(bare)
    if arrays:
        tree["arrays"] = arrays
    return tree


_TABLE_KEYS = ("crpix", "crval", "cdelt")


def _tabular_arrays(wcs: WCS) -> list[dict[str, Any]]:
    """Give the arrays of a -TAB WCS, with the names of the table columns that they stand in."""
    if not wcs.wcs.tab:
        return []
    if len(wcs.wcs.tab) > 1:
        raise ValueError(
            "wcs looks its two coordinates up in separate tables; only -TAB axes that share one "
            f"table are supported, got {len(wcs.wcs.tab)} tables."
        )
    (table,) = wcs.wcs.tab
    names = {(axis, number): name for axis, number, name in wcs.wcs.get_ps()}
    numbers = {(axis, number): int(value) for axis, number, value in wcs.wcs.get_pv()}
    axes = [int(axis) for axis in table.map]  # FITS axis, 0-based, of each axis of the table
    first = axes[0] + 1
    extension = [names[first, 0], numbers.get((first, 1), 1), numbers.get((first, 2), 1)]
    arrays = [{"extension": extension, "column": names[first, 1], "data": np.array(table.coord)}]
    for m, axis in enumerate(axes):
        if (axis + 1, 2) not in names:
            continue  # no index: the table is indexed by 1, 2, 3...
        # astropy keeps the index to itself; it is found where the nodes of the table come to lie.
        nodes = np.moveaxis(table.coord, -2 - m, 0)
        nodes = nodes.reshape(nodes.shape[0], -1, len(axes))[:, 0]
        world = np.empty_like(nodes)
        world[:, axes] = nodes
        offset = wcs.wcs.s2p(world, 1)["pixcrd"] - wcs.wcs.crpix
        index = wcs.wcs.crval[axis] + wcs.wcs.get_cdelt()[axis] * (offset @ wcs.wcs.get_pc()[axis])
        arrays.append({"extension": extension, "column": names[axis + 1, 2], "data": index})
    return arrays


def wcs_from_tree(tree: dict[str, Any]) -> WCS:
    """
    Put a FITS WCS together again.

    Parameters
    ----------
    tree : dict
        What `wcs_to_tree` gave.

    Returns
    -------
    astropy.wcs.WCS
        A WCS that computes the same coordinates, bit by bit, as any other one from ``tree``.
    """
    header = fits.Header([fits.Card.fromstring(card) for card in tree["header"]])
    hdus = fits.HDUList([fits.PrimaryHDU(), *_table_hdus(tree.get("arrays", []))])
    wcs = WCS(header, fobj=hdus, fix=False)
    wcs.wcs.set()
    if "sip" in tree:
        sip = {key: np.array(value, dtype=float) for key, value in tree["sip"].items()}
        wcs.sip = Sip(*(sip.get(key) for key in ("a", "b", "ap", "bp", "crpix")))
    for name in _LOOKUPS:
        if name in tree:
            table = tree[name]
            data = np.array(table["data"], dtype=np.float32)
            setattr(wcs, name, DistortionLookupTable(data, *(tuple(table[k]) for k in _TABLE_KEYS)))
    wcs.wcs.cdelt = np.array(tree["cdelt"], dtype=float)
    wcs.wcs.pc = np.array(tree["pc"], dtype=float)
    if tree["pv"]:
        wcs.wcs.set_pv([(int(i), int(m), float(value)) for i, m, value in tree["pv"]])
    for name in _EXACT:
        setattr(wcs.wcs, name, tree[name])
    wcs.wcs.set()
    if "pixel_shape" in tree:
        wcs.pixel_shape = tuple(tree["pixel_shape"])
    if "pixel_bounds" in tree:
        wcs.pixel_bounds = [tuple(pair) for pair in tree["pixel_bounds"]]
    return wcs


def _table_hdus(arrays: list[dict[str, Any]]) -> list[fits.BinTableHDU]:
    """Make the binary tables that a -TAB WCS is read with."""
    hdus = []

    def extension(entry: dict[str, Any]) -> tuple[str, int, int]:
        name, version, level = entry["extension"]
        return str(name), int(version), int(level)

    for (name, version, level), entries in groupby(sorted(arrays, key=extension), key=extension):
        columns = []
        for entry in entries:
            data = np.array(entry["data"], dtype=float)
            dim = f"({','.join(str(n) for n in data.shape[::-1])})" if data.ndim > 1 else None
            columns.append(
                fits.Column(entry["column"], f"{data.size}D", dim=dim, array=data[np.newaxis])
            )
        hdu = fits.BinTableHDU.from_columns(columns, name=name, ver=version)
        hdu.header["EXTLEVEL"] = level
        hdus.append(hdu)
    return hdus
