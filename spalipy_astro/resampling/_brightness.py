"""Units of surface brightness, which keep their value on pixels of any size, and of flux."""

from __future__ import annotations

from typing import Any

from astropy import units as u

__all__ = ["conserves_flux"]

_BEAM = u.Unit("beam")
_LENGTHS_OF_THE_SKY = (u.pc, u.kpc, u.Mpc, u.lyr)  # others are those of detectors and telescopes


def conserves_flux(data: Any) -> bool:
    """
    Tell from the unit of an image whether its pixels add up to a flux.

    Parameters
    ----------
    data : NDData, Quantity or array_like

    Returns
    -------
    bool
        False for what is per solid angle, per square parsec or per beam, for temperatures (also
        integrated over velocities), for velocities, and for magnitudes and other logarithms; True
        otherwise, also without a unit.
    """
    unit = getattr(data, "unit", None)
    if unit is None:
        return True
    if not isinstance(unit, u.UnitBase):  # a logarithm, whose values do not add
        return False
    parts = u.Unit(unit).decompose()
    powers = dict(zip(parts.bases, parts.powers, strict=True))
    per_solid_angle = powers.get(u.rad, 0) <= -2
    lengths = dict(zip(unit.bases, unit.powers, strict=True))
    per_area = any(lengths.get(length, 0) <= -2 for length in _LENGTHS_OF_THE_SKY)
    does_not_add = powers.get(u.K, 0) > 0 or parts.is_equivalent(u.mag)
    does_not_add = does_not_add or parts.is_equivalent(u.km / u.s)
    return not (per_solid_angle or per_area or powers.get(_BEAM, 0) < 0 or does_not_add)
