"""Whether a FITS WCS has a sky: its matrix may be singular, its numbers not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.wcs import WCS, SingularMatrixError

__all__ = ["flaw_of_wcs", "require_sound_wcs", "words_of_wcslib"]

_FLAT = 1e-10  # of two axes in the same direction: what rounding leaves between them


def flaw_of_wcs(wcs: Any) -> str:
    """
    Say what keeps a FITS WCS from mapping pixels to a world.

    Parameters
    ----------
    wcs : object
        Also as NDData keeps it; a WCS of another kind is not looked into.

    Returns
    -------
    str
        Empty if there is nothing. WCSLIB speaks of a line of its source there, or says nothing.
    """
    low = getattr(wcs, "low_level_wcs", wcs)
    if not isinstance(low, WCS):
        return ""
    w = low.wcs
    for card in ("crval", "crpix"):
        values = getattr(w, card)
        if not np.isfinite(values).all():
            return f"{card.upper()} is not finite, {values.tolist()}"
    if w.has_cd():
        cards, matrix = "the matrix of its CDi_j", np.array(w.cd)
    else:
        cards, matrix = "the matrix of its CDELTi and PCi_j", w.cdelt[:, np.newaxis] * _pc(w)
    told = f"{cards} is {{}}, {matrix.tolist()}"
    if not np.isfinite(matrix).all():
        return told.format("not finite")
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not lengths.all() or np.linalg.svd(matrix / lengths, compute_uv=False)[-1] < _FLAT:
        return told.format("singular")
    return ""


def require_sound_wcs(wcs: Any, name: str = "wcs") -> None:
    """Raise ValueError, with the argument's name, for a WCS with a flaw."""
    if flaw := flaw_of_wcs(wcs):
        raise ValueError(
            f"{name} maps no pixels to the sky: {flaw}. Give its pixel scale, such as "
            f"{name}.wcs.cdelt = (-2.8e-4, 2.8e-4) in deg per px, and the other cards as numbers."
        )


def words_of_wcslib(error: Exception) -> str:
    """Return what an error about a header's WCS says, in one line."""
    if isinstance(error, SingularMatrixError):
        return "the matrix of its CDi_j, or CDELTi and PCi_j, is singular: its pixel scale is 0"
    return " ".join(str(error).split()) or type(error).__name__


def _pc(w: Any) -> np.ndarray:
    """Return the matrix beside CDELT; the unit matrix where only rotations are given."""
    return np.array(w.pc) if w.has_pc() else np.eye(w.naxis)
