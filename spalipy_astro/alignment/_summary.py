"""Figures of merit of an alignment, and the mapping that prints them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from html import escape
from importlib.metadata import distribution
from string import Formatter
from typing import Any

import astropy
import numpy as np
import scipy
from astropy.modeling import Model
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro import _geometry
from spalipy_astro.fitting import fit_linear
from spalipy_astro.version import __version__

__all__ = [
    "NOMINAL",
    "Merits",
    "Summary",
    "box_of",
    "cards_of",
    "center_of",
    "derived_figures",
    "describe",
    "figures_of",
    "provenance",
    "scale_of",
]

FloatArray = NDArray[np.float64]
Shape = tuple[int, int]

NOMINAL = (1000, 1000)
"""Shape that a frame is looked at with where neither a shape nor a star is known."""


class Merits:
    """The figures that are asked for most, as attributes of an alignment."""

    _summary: Mapping[str, Any]

    @property
    def n_matched(self) -> int:
        """Number of matched stars."""
        return int(self._summary.get("n_matched", 0))

    @property
    def rms(self) -> float:
        """Root mean square distance of the fitted stars from where they should be, template px."""
        return float(self._summary.get("rms", np.nan))

    @property
    def scale(self) -> float:
        """Template px per source px."""
        return float(self._summary["scale"])

    @property
    def rotation(self) -> float:
        """Angle of the source's x axis in the template, degrees counter-clockwise, -180 to 180."""
        return float(self._summary["rotation"])

    @property
    def shift(self) -> tuple[float, float]:
        """Where the source's center lies, ``(x, y)`` from the template's center, template px."""
        return float(self._summary["shift_x"]), float(self._summary["shift_y"])


class Summary(Mapping[str, Any]):
    """
    Figures of merit of an alignment: a mapping that prints itself as a table.

    Figures that an alignment does not have are not in it: of pairs that were given matched, those
    of the search; of a transform that was given, those of the fit, too.

    Parameters
    ----------
    values : mapping
        The figures.
    """

    # of each line, the first form whose figures are there
    _LINES = (
        (("aligned to", "{error:.2g} px: the expected error of the transform (rms distance)"),),
        (
            ("matched stars", "{n_matched} of {n_expected} expected, {n_clipped} clipped"),
            ("matched pairs", "{n_matched} of {n_source} given, {n_clipped} clipped"),
        ),
        (("star scatter", "{rms_x:.3f} px in x, {rms_y:.3f} px in y (rms residuals)"),),
        (("chi-squared", "{chi2_x:.2f} in x, {chi2_y:.2f} in y (per degree of freedom)"),),
        (("log-odds", "{log_odds:.1f} (natural logarithm, against chance)"),),
        (("scale", "{scale:.6f} template px per source px"),),
        (("rotation", "{rotation:z.4f} deg counter-clockwise"),),
        (("parity", "{parity:+d}"),),
        (("shift", "{shift_x:.2f} px in x, {shift_y:.2f} px in y (of the center)"),),
        (
            ("distortion", "{distortion:.2f} px at most, {freedom:.1f} parameters per axis"),
            ("distortion", "{distortion:.2f} px at most"),
        ),
        (("coverage", "{coverage:.0%} of the overlap lies among matched stars"),),
    )

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _rows(self) -> list[tuple[str, str]]:
        rows = []
        for forms in self._LINES:
            for label, line in forms:
                if all(name in self._values for _, name, _, _ in Formatter().parse(line) if name):
                    rows.append((label, line.format(**self._values)))
                    break
        return rows

    def __str__(self) -> str:
        return "\n".join(f"{label:15s} {line}" for label, line in self._rows())

    def __repr__(self) -> str:
        return f"Summary({self._values!r})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(label)}</th><td>{escape(line)}</td></tr>"
            for label, line in self._rows()
        )
        return f"<table>{rows}</table>"


def derived_figures(
    known: Mapping[str, Any],
    transform: Model,
    matches: QTable,
    source_shape: Shape | None,
    template_shape: Shape | None,
) -> dict[str, Any]:
    """
    Collect the figures of a transform that was derived from others, or given.

    Where `known` has the ``freedom`` of a fit, all of them; otherwise those of the transform alone.
    """
    boxes = tuple(
        shape or _box_of_side(matches, side)
        for side, shape in (("source", source_shape), ("template", template_shape))
    )
    points = np.vstack((np.column_stack(_geometry.spread(boxes[0], 17)), center_of(boxes[0])))
    images = np.column_stack(transform(*points.T))
    good = np.isfinite(images[:-1]).all(axis=1)
    forward, offset = fit_linear(points[:-1][good], images[:-1][good])
    if "freedom" not in known:
        off = images[:-1][good] - points[:-1][good] @ forward.T - offset
        bend = float(np.hypot(*off.T).max())
        counts = {"n_matched": 0, "n_used": 0, "n_clipped": 0}
        return {**known, **counts, **_geometry_of(forward, images[-1], boxes[1], bend)}
    at_stars = np.column_stack((matches["x_source"], matches["y_source"])) @ forward.T + offset
    freedom = float(known["freedom"])
    return {
        **known,
        **figures_of(transform, matches, forward, images[-1], at_stars, boxes, freedom),
    }


def _box_of_side(matches: QTable, side: str) -> tuple[float, ...]:
    """Return the shape of the smallest frame that shows all matched stars of one side."""
    if not len(matches):
        return NOMINAL
    return box_of(np.column_stack((matches[f"x_{side}"], matches[f"y_{side}"])))


def figures_of(
    transform: Model,
    matches: QTable,
    forward: NDArray[Any],
    middle: FloatArray,
    affine_xy: FloatArray,
    boxes: tuple[Any, ...],
    freedom: float,
) -> dict[str, Any]:
    """
    Collect the figures that follow from a transform and its matches.

    Parameters
    ----------
    transform : `~astropy.modeling.Model`
        Source px -> template px.
    matches : `~astropy.table.QTable`
        As `Alignment.matches`.
    forward : ndarray, shape (2, 2)
        Its linear part.
    middle : ndarray, shape (2,)
        Where the transform sends the source's center, template px.
    affine_xy : ndarray, shape (N, 2)
        Where its linear part sends the stars.
    boxes : tuple of tuple of float
        Shapes ``(ny, nx)`` of source and template.
    freedom : float
        Parameters that the fit made effective use of, for each axis.

    Returns
    -------
    dict
    """
    return {
        **_scatter(matches, freedom),
        **_describe(transform, matches, forward, middle, affine_xy, boxes, freedom),
    }


def _scatter(matches: QTable, freedom: float) -> dict[str, Any]:
    """Count the matched stars, and tell how far they lie from where they should."""
    used = np.asarray(matches["used"], dtype=bool)
    n_used = int(np.count_nonzero(used))
    values: dict[str, Any] = {
        "n_matched": len(matches),
        "n_used": n_used,
        "n_clipped": len(matches) - n_used,
    }
    rms, chi2 = np.full(2, np.nan), np.full(2, np.nan)
    if n_used:
        d = np.column_stack((matches["dx"], matches["dy"]))[used]
        rms = np.sqrt(np.mean(d**2, axis=0))
        if n_used > freedom:
            sigma = np.asarray(matches["sigma"])[used, np.newaxis]
            chi2 = np.sum((d / sigma) ** 2, axis=0) / (n_used - freedom)
    values |= {"rms_x": float(rms[0]), "rms_y": float(rms[1]), "rms": float(np.hypot(*rms))}
    return values | {"chi2_x": float(chi2[0]), "chi2_y": float(chi2[1])}


def _describe(
    transform: Model,
    matches: QTable,
    forward: NDArray[Any],
    middle: FloatArray,
    affine_xy: FloatArray,
    boxes: tuple[Any, ...],
    freedom: float,
) -> dict[str, Any]:
    """
    Describe the transform: its linear part, its distortion, and where stars vouch for it.

    It sends the source's center to ``middle``; its linear part sends the stars to ``affine_xy``.
    """
    used = np.asarray(matches["used"], dtype=bool)
    xy = np.column_stack((matches["x_template"], matches["y_template"]))[used]
    bend = 0.0
    if freedom > 3.01 and used.any():
        # where the transform puts the stars is known from their residuals
        images = xy - np.column_stack((matches["dx"], matches["dy"]))[used]
        bend = np.hypot(*(images - affine_xy[used]).T).max()
    coverage = _geometry.covered_fraction(transform.inverse, xy, *boxes)
    return {**_geometry_of(forward, middle, boxes[1], float(bend)), "coverage": coverage}


def _geometry_of(
    forward: NDArray[Any], middle: FloatArray, box: tuple[float, ...], bend: float
) -> dict[str, Any]:
    """Describe a transform by its linear part and where it sends the source's center."""
    shift = middle - center_of(box)
    return {
        "scale": scale_of(forward),
        "rotation": float(np.degrees(np.arctan2(forward[1, 0], forward[0, 0]))),
        "parity": 1 if np.linalg.det(forward) > 0 else -1,
        "shift_x": float(shift[0]),
        "shift_y": float(shift[1]),
        "distortion": bend,
    }


def scale_of(forward: NDArray[Any]) -> float:
    """Return the scale of a linear map."""
    return float(np.sqrt(abs(np.linalg.det(forward))))


def center_of(box: tuple[float, ...]) -> FloatArray:
    """Return the center of a frame of that shape."""
    return (np.array(box[::-1]) - 1) / 2


def box_of(xy: FloatArray) -> tuple[float, ...]:
    """Return the shape of the smallest frame from pixel (0, 0) that shows all positions."""
    return tuple(xy.max(axis=0)[::-1] + 1)


def describe(summary: Mapping[str, Any]) -> str:
    """Return the figures of an alignment in a few words."""
    what = "a given transform"
    if "freedom" in summary:
        stars = "stars" if "log_odds" in summary else "pairs"
        to = f" to {summary['error']:.2g} px" if "error" in summary else ""
        what = f"{summary['n_used']} {stars}{to}, rms {summary['rms']:.3f} px"
    odds = f", log-odds {summary['log_odds']:.0f}" if "log_odds" in summary else ""
    return f"{what}, scale {summary['scale']:.5f}, rotation {summary['rotation']:z.3f} deg{odds}"


def cards_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance cards of an image that was aligned."""
    cards: dict[str, Any] = {"ALGNVERS": (__version__, "version of spalipy_astro")}
    if "freedom" in summary:
        cards["ALGNNUM"] = (int(summary["n_used"]), "stars that the transform was fitted to")
        rms = round(float(summary["rms"]), 5)
        cards["ALGNRMS"] = (rms, "[px] rms distance of these stars")
    if np.isfinite(summary.get("error", np.nan)):
        error = round(float(summary["error"]), 5)
        cards["ALGNERR"] = (error, "[px] expected error of the transform")
    if "log_odds" in summary:
        cards["ALGNODDS"] = (round(float(summary["log_odds"]), 2), "ln odds against chance")
    return cards


def provenance(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of what made the transform, and the options that were given."""
    given = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None
    }
    return {**_versions(), "options": given}


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Return the versions of what makes transforms; to look one up takes some ms."""
    return {
        "spalipy_astro": __version__,
        "astropy": astropy.__version__,
        "gwcs": _version_of("gwcs"),
        "numpy": np.__version__,
        "photutils": _version_of("photutils"),
        "scipy": scipy.__version__,
    }


def _version_of(package: str) -> str:
    """Return the version of an installed package, without an import of it."""
    found = distribution(package)
    # all of the metadata would be parsed as an email, by modules that take long to import
    for line in (found.read_text("METADATA") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "Version":
            return value.strip()
    return found.version  # another kind of metadata
