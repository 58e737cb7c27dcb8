"""The options of `find_alignment`, checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spalipy_astro._checks import (
    choice,
    detection_options,
    name_of_finder,
    positive_number,
    whole_number,
)
from spalipy_astro.catalogs import as_filters, sky_options
from spalipy_astro.matching import Priors

__all__ = ["FindOptions"]


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
    affine: str = "affine"
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
        kinds = "'affine' or 'similarity'"
        plain["affine"] = choice("affine", self.affine, ("affine", "similarity"), kinds)
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
