"""The options of `find_alignment`, checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import astropy.units as u
import numpy as np

from spalipy_astro._checks import (
    choice,
    detection_options,
    name_of_finder,
    positive_number,
    whole_number,
)
from spalipy_astro.catalogs import as_filters, sky_options
from spalipy_astro.fitting import KINDS
from spalipy_astro.matching import Priors

__all__ = ["FindOptions"]

# What a transform of some kinds is beforehand: a telescope comes back to nearly the same angle.
_IMPLIED: dict[str, dict[str, Any]] = {
    "shift": {"scale": (0.99, 1.01), "rotation": (-1.0, 1.0), "parity": 1},
    "rigid": {"scale": (0.99, 1.01)},
}
_UNCHANGED = {"scale": 1.0, "rotation": 0.0}


@dataclass(frozen=True)
class FindOptions:
    """
    What a user says of the stars, the transform, the fit and the sky.

    The attributes are the arguments of `~spalipy_astro.find_alignment` of the same names; angles,
    lengths and scales with units become plain numbers.

    Raises
    ------
    TypeError, ValueError
        If one makes no sense. The message begins with its name.
    """

    threshold: Any = 5.0
    fwhm: Any = None
    gain: Any = None
    saturation: Any = None
    finder: Any = "auto"
    select: Mapping[str, Any] | None = None
    scale: Any = None
    rotation: Any = None
    parity: int | None = None
    max_shift: Any = None
    use_wcs: bool | str = "auto"
    source_pixels: Any = None
    template_pixels: Any = None
    affine: str = "auto"
    spline_order: int = 5
    smoothing: Any = None
    polynomial: int | None = None
    position: Any = None
    radius: Any = None
    pixel_scale: Any = None
    epoch: Any = None
    priors: Priors = field(init=False)

    def __post_init__(self) -> None:
        scale = Priors.scale if self.scale is None else self.scale
        priors = Priors(scale, self.rotation, self.parity, self.max_shift)
        plain: dict[str, Any] = {
            "priors": priors,
            "scale": None if self.scale is None else priors.scale,
            "rotation": priors.rotation,
            "parity": priors.parity,
            "max_shift": priors.max_shift,
            **detection_options(
                threshold=self.threshold,
                fwhm=self.fwhm,
                gain=self.gain,
                saturation=self.saturation,
                finder=self.finder,
            ),
            **sky_options(self.position, self.radius, self.pixel_scale, self.epoch),
        }
        if self.select is not None:
            plain["select"] = as_filters(self.select, prefix="select: ")
        plain["use_wcs"] = choice(
            "use_wcs", self.use_wcs, ("auto", True, False), "'auto', True or False"
        )
        kinds = "'auto', 'shift', 'rigid', 'similarity' or 'affine'"
        plain["affine"] = choice("affine", self.affine, ("auto", *KINDS), kinds)
        plain["priors"] = self._implied(priors, plain["affine"])
        for name in ("source_pixels", "template_pixels"):
            if getattr(self, name) is not None:
                plain[name] = _size(name, getattr(self, name))
        plain["spline_order"] = whole_number(
            "spline_order", self.spline_order, "0 to 5", least=0, most=5
        )
        if self.smoothing is not None:
            plain["smoothing"] = positive_number(
                "smoothing", self.smoothing, "positive, or None for the best"
            )
        if self.polynomial is not None:
            plain["polynomial"] = whole_number(
                "polynomial", self.polynomial, "a degree from 1 to 5, or None", least=1, most=5
            )
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def _implied(self, priors: Priors, affine: str) -> Priors:
        """Add to the priors what the kind of the transform says of it."""
        if affine not in _IMPLIED:
            return priors
        known = {}
        for name, value in _IMPLIED[affine].items():
            given = getattr(priors, name)
            if getattr(self, name) is None:
                known[name] = value
            elif name == "parity" and given != 1:
                raise ValueError(f"affine={affine!r} mirrors nothing; got parity={given}.")
            elif name != "parity":
                low, high = given
                turns = 360.0 * np.round((low + high) / 720) if name == "rotation" else 0.0
                one = _UNCHANGED[name] + turns
                if not low <= one <= high:
                    raise ValueError(
                        f"affine={affine!r} has {name} {_UNCHANGED[name]:g}, which is outside "
                        f"{name}=({low:g}, {high:g}); leave one of the two options out."
                    )
        return replace(priors, **known)

    @property
    def rigid(self) -> bool:
        """Whether the user knows that the transform cannot shear or bend."""
        return self.affine in ("shift", "rigid", "similarity")

    @property
    def detection(self) -> dict[str, Any]:
        """How to find and choose stars: keyword arguments of `prepare`."""
        return self._named("select", "threshold", "fwhm", "gain", "saturation", "finder")

    @property
    def fit(self) -> dict[str, Any]:
        """Keyword arguments of `fit_backward`."""
        return self._named("affine", "spline_order", "smoothing", "polynomial")

    @property
    def sky(self) -> dict[str, Any]:
        """Keyword arguments of `project_catalog`."""
        return self._named("position", "radius", "pixel_scale", "epoch")

    @property
    def recorded(self) -> dict[str, Any]:
        """What is kept with the transform as its provenance."""
        known = self._named("threshold", "scale", "rotation", "parity", "max_shift", "use_wcs")
        return {"finder": name_of_finder(self.finder), **known, **self.fit}

    def _named(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}


def _size(name: str, value: Any) -> tuple[float, float]:
    """Return a width and a height as plain numbers."""
    rule = f"{name} is (width, height) of a pixel in any unit, such as (1, 2)"
    if not isinstance(value, tuple | list | np.ndarray) or np.shape(value) != (2,):
        raise ValueError(f"{rule}; got {value!r}.")
    try:
        sizes = np.array(u.Quantity(value).value, dtype=float)
    except (TypeError, ValueError, u.UnitsError):
        raise ValueError(f"{rule}; got {value!r}.") from None
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"{rule}, both positive; got {value!r}.")
    return float(sizes[0]), float(sizes[1])
