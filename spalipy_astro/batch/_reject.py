"""Which frames of a night are bad, judged by the columns of its table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from spalipy_astro._checks import number
from spalipy_astro.batch._figures import FIGURES

__all__ = ["Reject", "check_reject", "rejected"]

Reject: TypeAlias = Mapping[str, float | str] | Callable[[QTable], Any]
"""What is bad: a limit for each column, or a function of the table."""

_LOW_IS_BAD = ("n_matched", "n_stars", "flux_ratio", "log_odds", "exptime")
_HIGH_IS_BAD = (
    "fwhm",
    "fwhm_arcsec",
    "ellipticity",
    "background",
    "noise",
    "depth",
    "rms",
    "flux_ratio_err",
)
_UNITS = {"fwhm": (u.pix,), "rms": (u.pix,), "fwhm_arcsec": (u.arcsec,), "exptime": (u.s,)}
_COUNTS = ("n_matched", "n_stars")
_SHARES = (*_COUNTS, "flux_ratio")  # of which a number up to 1 is a share of the median
# what a longer exposure changes: frames are compared with those of the same one
_BY_EXPOSURE = (*_SHARES, "background", "noise", "depth", "flux_ratio_err")
_SAME_EXPOSURE = 0.02  # relative difference
_RULE = re.compile(
    r"\s*(?P<number>[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?|[0-9]+\.)"
    r"(?:[\s-]*(?P<kind>sigmas?|σ|(?:(?:x|times|of)\s+)?(?:the\s+)?median|%|percent))?\s*",
    re.IGNORECASE,
)
_KINDS = {"a": "sigma", "s": "sigma", "σ": "sigma", "n": "median", "%": "%", "t": "%"}
"""By the last letter of sigma, sigmas, median and percent."""
_NORMAL = 1.4826
_ROUNDS = 10
_FLOOR = 0.01  # of the median: a night that does not vary has no outliers
_LEAST_CHANGE = {"ellipticity": 0.03}  # that is seen: noise makes round stars that elliptical
_LEAST = 3  # frames from which a median and a scatter are taken


@dataclass(frozen=True)
class _Rule:
    """A limit for one column."""

    column: str
    number: float
    kind: str  # "sigma", "median", "%" or "" for a limit as it is

    @property
    def low_is_bad(self) -> bool:
        return self.column in _LOW_IS_BAD

    def judge(self, values: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
        """Return which values are bad, and the limit; NaN is neither bad nor counted."""
        known = values[np.isfinite(values)]
        if self.kind and len(known) < _LEAST:
            return np.zeros(len(values), bool), np.nan
        if self.kind == "sigma":
            floor = _LEAST_CHANGE.get(self.column, 0.0)
            limit = _clipped(known, self.number, -1 if self.low_is_bad else 1, floor)
        elif self.kind == "median":
            limit = self.number * float(np.median(known))
        elif self.kind == "%":
            share = self.number / 100
            limit = float(np.quantile(known, 1 - share if self.low_is_bad else share))
        else:
            limit = self.number
        with np.errstate(invalid="ignore"):
            return (values < limit if self.low_is_bad else values > limit), limit

    def words(self, value: float, limit: float, middle: float, night: str) -> str:
        """Say why a value is bad; ``night`` is what it was compared with."""
        side = "below" if self.low_is_bad else "above"
        how = {
            "sigma": f"{self.number:g} sigma from the median of {night}, {middle:.4g}",
            "median": f"{self.number:g} of the median of {night}, {middle:.4g}",
            "%": f"the best {self.number:g} % of {night}",
            "": "as asked for",
        }[self.kind]
        return f"{self.column} is {value:.4g}, {side} the limit of {limit:.4g} ({how})"


def check_reject(reject: Any) -> None:
    """Raise TypeError or ValueError for rules that make no sense."""
    _rules(reject)


def rejected(reject: Reject | None, table: QTable) -> dict[int, str]:
    """
    Judge the frames of a night.

    Parameters
    ----------
    reject : mapping or callable or None
        As the argument of `align_many`.
    table : `~astropy.table.QTable`
        Of all frames; those whose status is not "ok" have no vote.

    Returns
    -------
    dict
        Row -> reason, of those that are bad.

    Raises
    ------
    ValueError
        If a callable does not return one truth value for each row.
    """
    rules = _rules(reject)
    good = np.asarray(table["status"]) == "ok"
    if callable(reject):
        bad = np.asarray(reject(table.copy()))
        if bad.shape != (len(table),) or bad.dtype != bool:
            raise ValueError(
                f"reject: a function returns True or False for each of {len(table)} rows; got "
                f"{bad.dtype} of shape {bad.shape}."
            )
        name = getattr(reject, "__name__", type(reject).__name__)
        return {int(row): f"rejected by {name}" for row in np.flatnonzero(bad & good)}
    reasons: dict[int, list[str]] = {}
    for rule in rules:
        for night, part in _nights(rule, table):
            values = np.where(good & part, np.asarray(table[rule.column], float), np.nan)
            bad, limit = rule.judge(values)
            for row in np.flatnonzero(bad):
                middle = float(np.nanmedian(values))
                words = rule.words(values[row], limit, middle, night)
                reasons.setdefault(int(row), []).append(words)
    return {row: "; ".join(words) for row, words in sorted(reasons.items())}


def _nights(rule: _Rule, table: QTable) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return which frames are compared with each other, and what to call them."""
    whole = np.ones(len(table), bool)
    if not rule.kind or rule.column not in _BY_EXPOSURE or "exptime" not in table.colnames:
        return [("the night", whole)]
    exposure = np.asarray(table["exptime"], float)
    known = np.unique(exposure[exposure > 0])
    steps = np.flatnonzero(np.diff(known) > _SAME_EXPOSURE * known[:-1]) + 1
    groups = [group for group in np.split(known, steps) if len(group)]
    likes = [(exposure >= group[0]) & (exposure <= group[-1]) for group in groups]
    parts = [(f"the frames of {np.median(exposure[like]):g} s", like) for like in likes]
    judged = sum(int(like.sum()) for like in likes if like.sum() >= _LEAST)
    if len(parts) < 2 or 2 * judged < len(table):
        return [("the night", whole)]  # each frame has an exposure of its own
    return [*parts, ("the frames of unknown exposure", ~(exposure > 0))]


def _rules(reject: Any) -> list[_Rule]:
    """Read the limits."""
    if reject is None or callable(reject):
        return []
    if not isinstance(reject, Mapping):
        raise TypeError(
            "reject is a mapping such as {'fwhm': '3 sigma', 'n_stars': 0.5}, or a function of the "
            f"table; got {reject!r}."
        )
    rules = []
    for column, what in reject.items():
        if column not in (*_LOW_IS_BAD, *_HIGH_IS_BAD):
            known = ", ".join(name for name in FIGURES if name in (*_LOW_IS_BAD, *_HIGH_IS_BAD))
            raise ValueError(f"reject: there is no quality {column!r}; there are {known}.")
        plain = what if isinstance(what, str) else _number(column, what)
        found = None if plain is None else _RULE.fullmatch(plain)
        if found is None:
            raise ValueError(
                f"reject: {column} takes a number, '3 sigma', '1.5 median' or '80 %' (the best "
                f"ones, which are kept); got {what!r}."
            )
        value, kind = float(found["number"]), _KINDS.get((found["kind"] or "")[-1:].lower(), "")
        if kind == "%" and not 0 < value <= 100:
            raise ValueError(f"reject: {column}: a share is from 0 to 100 %; got {what!r}.")
        if not kind and column in _SHARES and value <= 1:
            kind = "median"
        elif not kind and column == "flux_ratio":
            raise ValueError(
                "reject: flux_ratio takes a share of the night's median, up to 1, such as 0.5; got "
                f"{what!r}."
            )
        rules.append(_Rule(column, value, kind))
    return rules


def _number(column: str, what: Any) -> str | None:
    """Write a number of any kind, in the unit of its column; None if it is something else."""
    try:
        return repr(number(column, what, "", *_UNITS.get(column, ())))
    except (TypeError, ValueError):
        return None


def _clipped(values: NDArray[np.float64], sigmas: float, side: int, floor: float) -> float:
    """Return the limit on one side of the median, by iterated clipping."""
    kept = values
    for _ in range(_ROUNDS):
        middle = float(np.median(kept))
        scatter = _NORMAL * float(np.median(np.abs(kept - middle)))
        limit = middle + side * max(sigmas * scatter, _FLOOR * abs(middle), floor)
        inner = values[values <= limit] if side > 0 else values[values >= limit]
        if len(inner) == len(kept):
            break
        kept = inner
    return limit
