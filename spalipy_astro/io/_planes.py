"""
Which extensions belong to an image: its uncertainty, mask, flags and weights.

Names of extensions are those of ccdproc, of HST, JWST and Roman, of LSST, of DECam and DES, and of
surveys that use ``IVAR``. Which bits of flags are bad is what each observatory says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    InverseVariance,
    NDUncertainty,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.nddata.bitmask import extend_bit_flag_map
from numpy.typing import NDArray

from spalipy_astro._checks import flag_bits, frame_of
from spalipy_astro._choices import OBSERVATORY
from spalipy_astro.io._headers import unit_of

__all__ = [
    "OBSERVATORY",
    "Companions",
    "Judge",
    "companions_of",
    "is_companion",
    "plane_cards",
    "without_impossible_unit",
]

log = logging.getLogger(__name__)

_UNCERTAINTIES: dict[str, type[NDUncertainty]] = {
    **dict.fromkeys(("UNCERT", "ERR", "ERROR", "STD", "STDDEV", "SIGMA", "UNC"), StdDevUncertainty),
    **dict.fromkeys(("UNCERTAINTY", "ERRS", "STDEV", "RMS", "NOISE"), StdDevUncertainty),
    **dict.fromkeys(("VARIANCE", "VAR", "STAT"), VarianceUncertainty),
    **dict.fromkeys(("IVAR", "INVVAR", "WTM", "WGT"), InverseVariance),
}
_MASKS = ("MASK", "BPM", "BADPIX", "BADPIXELS", "BADPIXMASK", "PIXMASK", "BAD_PIXEL_MASK")
_FLAGS = ("DQ", "DQM", "MSK", "FLAGS", "FLAG", "FLG", "QUAL", "QUALITY", "DATA_QUALITY")
_WEIGHTS = ("WHT", "WEIGHT", "CONF", "EXPMAP", "COVERAGE", "EXPOSURE", "GPM", "GOODPIX")
_OTHERS = (
    "PSFIMAGE",
    *("SAMP", "TIME", "CTX", "CON", "AREA", "ERR_PSF"),
    *("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"),
    *("WCSDVARR", "D2IMARR"),
)
_KINDS = {
    "std": StdDevUncertainty,
    "var": VarianceUncertainty,
    "ivar": InverseVariance,
    "stddevuncertainty": StdDevUncertainty,
    "varianceuncertainty": VarianceUncertainty,
    "inversevariance": InverseVariance,
    "wtmap": InverseVariance,  # of NOIRLab's archive, such as DECam's
}
# HDUCLAS2 and HDUCLAS3 of ESO's pipelines, whatever the extensions are called
_ESO_ROLES = {"ERROR": "uncertainty", "QUALITY": "flags"}
_ESO_KINDS = {
    "MSE": VarianceUncertainty,
    "RMSE": StdDevUncertainty,
    "INVMSE": InverseVariance,
}
_NUMBER = re.compile(r"^\d+ +")
_PLANE_CARD = "MP_"  # of the LSST pipelines: MP_NAME = number of the bit
_VALUE_NAME, _VALUE = "MSKNAM", "MSKVAL"  # of Pan-STARRS': MSKNAM00 = name, MSKVAL00 = bit
# Planes that say what is seen in a pixel, or was done to it, not that it is bad.
_HARMLESS = (
    *("DETECTED", "INTRP", "NOT_DEBLENDED", "CLIPPED", "REJECTED", "INEXACT_PSF", "CROSSTALK"),
    *("SUSPECT", "SOURCE", "OBJECT", "STAR", "PARENT", "FOOTPRINT", "ITL_DIP"),
    *("CONV.POOR", "BURNTOOL"),
)
_JWST = {
    **{"DO_NOT_USE": 1, "SATURATED": 2, "JUMP_DET": 4, "DROPOUT": 8, "OUTLIER": 16},
    **{"PERSISTENCE": 32, "AD_FLOOR": 64, "UNRELIABLE_ERROR": 2**24, "NON_SCIENCE": 2**9},
    **{"DEAD": 2**10, "HOT": 2**11, "WARM": 2**12, "LOW_QE": 2**13, "RC": 2**14},
}
_DES = {
    **{"BPM": 1, "SATURATE": 2, "INTERP": 4, "BADAMP": 8, "CRAY": 16, "STAR": 32, "TRAIL": 64},
    **{"EDGEBLEED": 128, "SSXTALK": 256, "EDGE": 512, "STREAK": 1024, "SUSPECT": 2048},
    **{"FIXED": 4096, "NEAREDGE": 8192, "TAPEBUMP": 16384},
}


class Companions(NamedTuple):
    """
    The HDUs that belong to one image.

    Attributes
    ----------
    uncertainty, mask, flags, weight : HDU or None
    """

    uncertainty: Any = None
    mask: Any = None
    flags: Any = None
    weight: Any = None

    def kind(self) -> type[NDUncertainty] | None:
        """Return what kind of uncertainty there is; None if that is not said."""
        hdu = self.uncertainty
        told = str(hdu.header.get("UTYPE", hdu.header.get("PRODTYPE"))).strip().lower()
        named = _ESO_KINDS.get(_card(hdu, "HDUCLAS3"), _UNCERTAINTIES.get(_name(hdu)))
        return _KINDS.get(told, named)

    def spread(self) -> NDUncertainty | None:
        """Return the uncertainty, in the unit that its header has."""
        hdu = self.uncertainty
        if hdu is None:
            return None
        kind = self.kind() or StdDevUncertainty
        text = str(hdu.header.get("BUNIT", "")).strip()
        return kind(_native(_plane(hdu)), unit=unit_of(text) if text else None)

    def bits(self) -> NDArray[Any] | None:
        """Return the flags, as integers; None where there are none."""
        return None if self.flags is None else _whole(self.flags)

    def masks(self) -> list[NDArray[np.bool_]]:
        """Return which pixels are bad by mask and by weights."""
        planes = [] if self.mask is None else [_plane(self.mask) != 0]
        if self.weight is not None:
            planes.append(~(_plane(self.weight) > 0))
        return planes

    @property
    def flags_tell(self) -> bool:
        """Whether flags say more of what is bad than the mask."""
        # flags that this package has written stand beside the mask that was made of them
        made = self.flags is not None and _name(self.flags) == "FLAGS" and self.mask is not None
        return self.flags is not None and not made


class Judge(NamedTuple):
    """
    Which bits of flags make a pixel bad.

    Attributes
    ----------
    ignore_flags : object
        As for `astropy.nddata.bitmask.bitfield_to_boolean_mask`.
    flag_name_map : object
        Likewise.
    """

    ignore_flags: Any = 0
    flag_name_map: Any = None

    @classmethod
    def of(
        cls,
        header: fits.Header,
        plane: fits.Header,
        ignore_flags: Any = OBSERVATORY,
        flag_name_map: Any = None,
    ) -> Judge:
        """
        Know the observatory of an image.

        Parameters
        ----------
        header : `~astropy.io.fits.Header`
            Of the image, with what it inherits.
        plane : `~astropy.io.fits.Header`
            Of the flags.
        ignore_flags, flag_name_map : optional
            What the user says in place of the observatory.
        """
        ignored, names = _of_observatory(header, plane)
        if flag_name_map is None and names:
            flag_name_map = extend_bit_flag_map("FlagsOfFile", **names)
        given = isinstance(ignore_flags, str) and ignore_flags == OBSERVATORY
        return cls(ignored if given else ignore_flags, flag_name_map)

    def bad(self, bits: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which pixels are bad; raises ValueError for bits that there are not."""
        ignored = flag_bits(self.ignore_flags, self.flag_name_map)
        if ignored is None:  # astropy's way to say that none is looked at
            return np.zeros(bits.shape, bool)
        unsigned = bits.view(f"u{bits.dtype.itemsize}")
        judged = ~ignored & int(np.iinfo(unsigned.dtype).max)
        return np.asarray((unsigned & unsigned.dtype.type(judged)) != 0)


def is_companion(hdu: Any) -> bool:
    """Tell whether an HDU has the name of a plane that belongs to an image before it."""
    if isinstance(hdu, fits.PrimaryHDU):
        return False
    named = (_UNCERTAINTIES, _MASKS, _FLAGS, _WEIGHTS, _OTHERS)
    name = _name(hdu)
    known = any(name in names for names in named) or name.startswith("FLAGS_")
    return known or _role_by_class(hdu) is not None


def companions_of(hdus: Any, index: int, shape: tuple[int, ...]) -> Companions:
    """
    Find what belongs to an image.

    Parameters
    ----------
    hdus : HDUList
    index : int
        Number of the image.
    shape : tuple of int
        Its shape; what has another, and not that of a plane of it, does not belong to it.

    Returns
    -------
    Companions
    """
    found: dict[str, Any] = {}
    shapes = (shape, frame_of(shape))
    for hdu in _belonging(hdus, index):
        role = _role(hdu)
        if role is not None and role not in found and _long(hdu.shape) in shapes:
            found[role] = hdu
    return Companions(**found)


def plane_cards(flags: Any) -> list[tuple[str, Any, str]]:
    """Return those cards of a plane of flags that say what its bits mean."""
    if flags is None:
        return []
    prefixes = (_PLANE_CARD, _VALUE_NAME, _VALUE)
    cards = [card for card in flags.header.cards if card.keyword.startswith(prefixes)]
    return [
        (card.keyword if len(card.keyword) <= 8 else f"HIERARCH {card.keyword}", *card[1:])
        for card in cards
    ]


def _belonging(hdus: Any, index: int) -> Iterator[Any]:
    """Yield the planes of an image: those of its EXTVER, or that follow it in the file."""
    chosen = hdus[index]
    images = [k for k, hdu in enumerate(hdus) if hdu.is_image and hdu.shape]
    images = [k for k in images if not is_companion(hdus[k])]
    versions = [hdus[k].ver for k in images]
    numbered = len(set(versions)) == len(versions)
    for k, hdu in enumerate(hdus):
        if k == index or index not in images or not hdu.is_image or not is_companion(hdu):
            continue
        before = [image for image in images if image < k]
        if (image := _card(hdu, "SCIDATA")) in {hdus[k].name for k in images}:  # ESO's way
            belongs = image == chosen.name
        elif numbered and hdu.ver in versions:
            belongs = hdu.ver == chosen.ver
        else:
            belongs = bool(before) and before[-1] == index
        if belongs:
            yield hdu


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without leading axes of length one."""
    shape = tuple(shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _plane(hdu: Any) -> NDArray[Any]:
    """Return the pixels of a plane, without leading axes of length one."""
    return np.asarray(hdu.data).reshape(_long(hdu.shape))


def _name(hdu: Any) -> str:
    """
    Return the name of a plane without that of its chip.

    As in Euclid's ``1-1.RMS`` and in ``CAMERA.CCD 1.1 UNCERT`` of TESS.
    """
    last = str(hdu.name).strip().rpartition(".")[2]
    return _NUMBER.sub("", last).replace(" ", "_")


def _card(hdu: Any, keyword: str) -> str:
    """Return the text of a card, in capitals."""
    return str(hdu.header.get(keyword, "")).strip().upper()


def _role(hdu: Any) -> str | None:
    """Return what a plane is to its image."""
    name = _name(hdu)
    if name in _UNCERTAINTIES:
        return "uncertainty"
    if name in _FLAGS:
        return "flags"
    if name in _MASKS:
        return "flags" if _named_bits(hdu.header) else "mask"
    return "weight" if name in _WEIGHTS else _role_by_class(hdu)


def _role_by_class(hdu: Any) -> str | None:
    """Return what a plane is to its image by the cards of ESO's pipelines."""
    return _ESO_ROLES.get(_card(hdu, "HDUCLAS2")) if _card(hdu, "HDUCLASS") == "ESO" else None


def _named_bits(plane: fits.Header) -> dict[str, int]:
    """Return the names of bits that the cards of a plane tell: as LSST, or as Pan-STARRS has it."""
    told: dict[str, Any] = {}
    for keyword, value in plane.items():
        if keyword.startswith(_PLANE_CARD):
            with suppress(TypeError, ValueError):  # of a damaged card
                told[keyword.removeprefix(_PLANE_CARD)] = 1 << int(value)
        elif keyword.startswith(_VALUE_NAME):
            told[str(value).strip()] = plane.get(f"{_VALUE}{keyword.removeprefix(_VALUE_NAME)}")
    return {
        name: bit
        for name, bit in told.items()
        if isinstance(bit, int) and 0 < bit < 2**63 and bit & (bit - 1) == 0
    }


def _of_observatory(header: fits.Header, plane: fits.Header) -> tuple[Any, dict[str, int]]:
    """Return the bits that are harmless, and the names of bits."""
    planes = _named_bits(plane)
    if planes:
        seen = [bit for name, bit in planes.items() if any(h in name for h in _HARMLESS)]
        return sum(seen), planes
    telescope = str(header.get("TELESCOP", "")).upper().strip()
    instrument = str(header.get("INSTRUME", "")).upper().strip()
    if telescope in ("JWST", "ROMAN"):
        return ~1, _JWST  # DO_NOT_USE alone is what its name says
    if telescope == "HST":
        # unstable and warm pixels and charge traps are calibrated; of WFC3/IR also blobs, and what
        # the fit of the ramp has put right
        infrared = instrument == "WFC3" and str(header.get("DETECTOR", "")).strip() == "IR"
        return (64 + 512 + 2048 + 8192 if infrared else 32 + 64 + 1024), {}
    if instrument.startswith("ZTF"):
        return 2 + 2048, {}  # what SExtractor has detected, and positions of PSF photometry
    if plane.get("EXTNAME", "").strip().upper() == "MSK":
        harmless = ("INTERP", "STAR", "SUSPECT", "FIXED", "NEAREDGE", "TAPEBUMP")
        return sum(_DES[name] for name in harmless), _DES
    return 0, {}


def _native(data: Any) -> NDArray[Any]:
    """Return pixels in the machine's byte order."""
    data = np.asarray(data)
    return data if data.dtype.isnative else data.astype(data.dtype.newbyteorder("="))


def _whole(hdu: Any) -> NDArray[Any]:
    """Return flags as integers."""
    bits = _native(_plane(hdu))
    if bits.dtype.kind == "b":
        return bits.astype(np.uint8)
    return bits if bits.dtype.kind in "iu" else np.nan_to_num(bits).astype(np.int64)


def without_impossible_unit(spread: NDUncertainty, unit: u.UnitBase) -> NDUncertainty:
    """
    Leave out the unit of an uncertainty that cannot be one of the data.

    Files are not careful with it: variances, for instance, often have the unit of the data.
    """
    if spread.unit is None:
        return spread
    expected = {"std": unit, "var": unit**2, "ivar": unit**-2}[spread.uncertainty_type]
    if spread.unit.is_equivalent(expected):
        return spread
    log.info("the unit %s of an uncertainty is not that of the data, %s", spread.unit, unit)
    return type(spread)(spread.array, copy=False)
