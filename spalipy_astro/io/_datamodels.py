"""
Data models of JWST and Roman, as objects and as ASDF trees in files, and the gwcs beside images.

Such a model has ``data``, ``err``, ``dq`` and, in ``meta``, what a header has, and a gwcs. Packages
that define these models are not needed: a model is known by its parts, and what reads ASDF knows
the rest as plain mappings.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.time import Time
from astropy.units import Quantity, UnitBase, adu
from numpy.typing import NDArray

from spalipy_astro._checks import mask_like
from spalipy_astro.errors import FormatError
from spalipy_astro.io._headers import as_header, unit_of
from spalipy_astro.io._planes import OBSERVATORY, Judge, without_impossible_unit
from spalipy_astro.wcs import carried_wcs

__all__ = ["as_nddata", "is_datamodel", "is_datamodel_file", "read_datamodel", "wcs_beside"]

log = logging.getLogger(__name__)

MAGIC = b"#ASDF"
_UNKNOWN = ("?", "NONE", "", -999999)
_UNITS = {"ImageModel": "DN/s", "MosaicModel": "MJy/sr"}  # of Roman's, which do not tell it
# cards of the exposure, and where in ``meta`` they are: first of JWST, then of Roman
_CARDS = {
    "TELESCOP": ("telescope",),
    "INSTRUME": ("instrument.name",),
    "DETECTOR": ("instrument.detector",),
    "FILTER": ("instrument.filter", "instrument.optical_element"),
    "PUPIL": ("instrument.pupil",),
    "OBS_ID": ("observation.obs_id", "observation.observation_id"),
    "PROGRAM": ("observation.program_number", "observation.program"),
    "TARGNAME": ("target.catalog_name",),
    "DATE-OBS": ("observation.date",),
    "TIME-OBS": ("observation.time",),
    "DATE-BEG": ("observation.date_beg", "exposure.start_time"),
    "DATE-AVG": ("exposure.mid_time",),
    "DATE-END": ("observation.date_end", "exposure.end_time"),
    "MJD-BEG": ("exposure.start_time_mjd", "exposure.start_time"),
    "MJD-AVG": ("exposure.mid_time_mjd", "exposure.mid_time"),
    "MJD-END": ("exposure.end_time_mjd", "exposure.end_time"),
    "EFFEXPTM": ("exposure.exposure_time", "exposure.effective_exposure_time"),
    "FILENAME": ("filename",),
}


def is_datamodel(thing: Any) -> bool:
    """Tell whether something is a data model: data with error, flags or metadata, no array."""
    if isinstance(thing, NDData | np.ndarray) or hasattr(thing, "__array__"):
        return False
    if isinstance(thing, type) or not (hasattr(thing, "data") and hasattr(thing, "meta")):
        return False
    return hasattr(thing, "dq") or hasattr(thing, "err")


def is_datamodel_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins like an ASDF file; False for what is no file."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def as_nddata(
    model: Any,
    *,
    mask: Any = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
    name: str = "data model",
) -> NDData:
    """
    Take the planes out of a data model.

    Parameters
    ----------
    model : object or mapping
        With ``data`` and, where there are any, ``err`` (standard deviations), ``dq`` (flags) and
        ``meta`` as attributes or entries.
    mask : array_like of bool, optional
        Bad pixels in addition to those of the flags.
    ignore_flags, flag_name_map : optional
        As for `read_image`; by default pixels with ``DO_NOT_USE`` alone are bad.
    name : str, optional
        What to call it in messages.

    Returns
    -------
    `~astropy.nddata.NDData`
        With the model's gwcs, its flags as ``flags``, and a header of the exposure as ``meta``.

    Raises
    ------
    FormatError
        If it has no data.
    """
    data = _part(model, "data")
    if data is None or np.ndim(data) < 2:
        raise FormatError(f"the {name} has no image: its data are {_short(data)}.")
    meta = _part(model, "meta")
    unit = _unit(data, meta, name)
    pixels, error, flags = (_plain(_part(model, part)) for part in ("data", "err", "dq"))
    assert pixels is not None  # it has dimensions
    header = _header(meta, name)
    if unit is not None:
        header["BUNIT"] = unit.to_string()
    masks = [] if mask is None else [mask_like(mask, pixels.shape)]
    spread = None
    if error is not None and error.shape == pixels.shape:
        spread = StdDevUncertainty(error, unit=getattr(_part(model, "err"), "unit", None))
        if unit is not None:
            spread = without_impossible_unit(spread, unit)
    if flags is not None and (flags.shape != pixels.shape or flags.dtype.kind not in "iu"):
        flags = None
    if flags is not None:
        header.setdefault("TELESCOP", "JWST")  # whose flags Roman has, too
        masks.append(Judge.of(header, fits.Header(), ignore_flags, flag_name_map).bad(flags))
    image = NDData(
        pixels,
        unit=unit,
        mask=np.logical_or.reduce(masks) if masks else None,
        uncertainty=spread,
        wcs=_gwcs(meta),
        meta=header,
    )
    if flags is not None:
        image.flags = flags  # as those of CCDData
    return image


def read_datamodel(
    path: str | os.PathLike[str],
    *,
    mask: Any = None,
    ignore_flags: Any = OBSERVATORY,
    flag_name_map: Any = None,
) -> CCDData:
    """
    Read an ASDF file with a data model, such as those of Roman.

    Parameters
    ----------
    path : path-like
    mask, ignore_flags, flag_name_map : optional
        As for `read_image`.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Its gwcs becomes a FITS WCS that is right to 0.01 px, or is left out with a warning.

    Raises
    ------
    FileNotFoundError, FormatError
        If it cannot be read, or holds something else, such as an alignment.
    """
    from spalipy_astro.io._asdf_file import read_tree  # asdf takes a while

    name = os.fspath(path)
    tree = read_tree(path, what="an image", maker="the pipelines of Roman and JWST", strict=False)
    model = tree.get("roman", tree)
    if _part(model, "data") is None:
        known = "an alignment" if "alignment" in tree else ", ".join(map(str, list(tree)[:8]))
        raise FormatError(f"{name!r} holds no image, but {known or 'nothing'}.")
    image = as_nddata(
        model, mask=mask, ignore_flags=ignore_flags, flag_name_map=flag_name_map, name=repr(name)
    )
    out = CCDData(
        image.data,
        unit=image.unit or adu,
        mask=image.mask,
        uncertainty=image.uncertainty,
        wcs=_for_fits(image.wcs, image.data.shape[-2:], name),
        meta=image.meta,
    )
    out.flags = getattr(image, "flags", None)
    return out


def wcs_beside(hdus: Any, shape: tuple[int, ...], name: str) -> Any:
    """
    Return the WCS that an ASDF extension of a FITS file has for its image.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        With an extension ``ASDF``, whose tree has a gwcs as ``meta.wcs``, as the files of JWST.
    shape : tuple of int
        Of the image.
    name : str
        What to call the file in warnings.

    Returns
    -------
    `~astropy.wcs.WCS` or None
        Right to 0.01 px; None, with a warning if there is one that cannot be used.
    """
    if "ASDF" not in hdus:
        return None
    from spalipy_astro.io._asdf_file import look_into

    data = hdus["ASDF"].data
    if data is None or not len(data):
        return None
    raw = data[0][0] if data.dtype.names else data
    try:
        found = look_into(BytesIO(np.asarray(raw).tobytes()), lambda tree: _part(tree, "meta.wcs"))
    except Exception as error:  # a stranger's extension, which is not the image
        log.warning("%s: its ASDF extension cannot be read: %s", name, _short(error))
        return None
    if found is not None and not _is_gwcs(found):
        log.warning(
            "%s: the gwcs in its ASDF extension is not understood; install the package of its "
            "observatory, such as stdatamodels, to have its sky",
            name,
        )
        return None
    return _for_fits(found, shape[-2:], name)


def _for_fits(wcs: Any, shape: tuple[int, ...], name: str) -> Any:
    """Return a gwcs as a FITS WCS; None, with a warning, where it has no sky or is too bent."""
    if wcs is None:
        return None
    try:
        return carried_wcs(wcs, (0, 0), (shape[0], shape[1]), meta={}, for_fits=True)
    except Exception as error:  # whatever a stranger's transform raises
        log.warning("%s: its gwcs is left out, it has no sky: %s", name, _short(error))
        return None


def _part(thing: Any, path: str) -> Any:
    """Return what an object, or a mapping, has under a dotted name; None where it has nothing."""
    for step in path.split("."):
        if thing is None:
            return None
        if isinstance(thing, Mapping):
            thing = thing.get(step)
        else:
            thing = getattr(thing, step, None)
    return thing


def _plain(plane: Any) -> NDArray[Any] | None:
    """Return a plane as an array of the machine's byte order, of single precision at least."""
    if plane is None:
        return None
    array = np.asarray(getattr(plane, "value", plane))
    if array.dtype == np.float16:  # in which Roman stores its errors
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _unit(data: Any, meta: Any, name: str) -> UnitBase | None:
    """Return the unit of the pixels, as far as it is told."""
    if isinstance(data, Quantity):
        return data.unit
    text = _part(meta, "bunit_data") or _part(meta, "bunit")
    if text is None and str(_part(meta, "telescope")).upper() == "ROMAN":
        text = _UNITS.get(str(_part(meta, "model_type")))
    if text is None:
        return None
    unit = unit_of(str(text))
    if unit is None:
        log.warning("%s: the unit %r is unknown", name, text)
    return unit


def _header(meta: Any, name: str) -> fits.Header:
    """Return the cards of the exposure."""
    cards: dict[str, Any] = {}
    for card, places in _CARDS.items():
        values = [_told(card, _part(meta, place)) for place in places]
        if any(value is not None for value in values):
            cards[card] = next(value for value in values if value is not None)
    return as_header(cards, name)


def _told(card: str, value: Any) -> str | int | float | None:
    """Return the value of a card; None for one of another kind, or that means unknown."""
    if isinstance(value, Time):
        value = value.mjd if card.startswith("MJD") else value.isot
    kinds: Any = str | int | float
    if card.startswith(("DATE", "TIME")):
        kinds = str
    elif card.startswith("MJD") or card == "EFFEXPTM":
        kinds = int | float
    return value if isinstance(value, kinds) and value not in _UNKNOWN else None


def _gwcs(meta: Any) -> Any:
    """Return the gwcs of a model, if it is one."""
    wcs = _part(meta, "wcs")
    return wcs if _is_gwcs(wcs) else None


def _is_gwcs(thing: Any) -> bool:
    return hasattr(thing, "forward_transform") and hasattr(thing, "pixel_to_world_values")


def _short(thing: Any) -> str:
    """Say what something is in a few words."""
    if isinstance(thing, Exception):
        lines = str(thing).splitlines() or [""]
        return f"{type(thing).__name__}: {lines[0]}"
    return "missing" if thing is None else f"of shape {np.shape(thing)}"
