"""What users give for options: numbers, quantities and ranges, checked and made plain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Real
from typing import Any

import astropy.units as u
import numpy as np

from spalipy_astro._checks._finders import check_finder

__all__ = [
    "check_names",
    "choice",
    "detection_options",
    "in_data_units",
    "number",
    "positive_number",
    "refuse_single_scale",
    "rotation_range",
    "scale_range",
    "whole_number",
]

_ONE = u.dimensionless_unscaled


def number(name: str, value: Any, meaning: str, *units: u.UnitBase) -> float:
    """
    Return a number as a plain one.

    Parameters
    ----------
    name : str
        What the argument is called.
    value : float or `~astropy.units.Quantity`
        What was given.
    meaning : str
        What the number is, for the error: "a positive distance in px".
    *units : `~astropy.units.UnitBase`
        The unit of plain numbers, to which quantities are converted, and other ways to write it;
        by default none.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it has another kind of unit.
    """
    found = [_plain(value, unit) for unit in units or (_ONE,)]
    plain = next((one for one in found if one is not None), None)
    if plain is None:
        kind = ValueError if isinstance(value, u.Quantity) else TypeError
        raise kind(f"{name} is {meaning}; got {value!r}.")
    return plain


def positive_number(name: str, value: Any, meaning: str, *units: u.UnitBase) -> float:
    """
    Return a positive number as a plain one.

    Parameters
    ----------
    name, value, meaning, *units
        As for `number`.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is not positive and finite, or has another kind of unit.
    """
    plain = number(name, value, meaning, *units)
    if not 0 < plain < np.inf:
        raise ValueError(f"{name} is {meaning}; got {value!r}.")
    return plain


def whole_number(name: str, value: Any, meaning: str, *, least: int, most: float = np.inf) -> int:
    """
    Return a whole number as a plain one.

    Parameters
    ----------
    name, value, meaning
        As for `number`.
    least, most : int
        Smallest and largest.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is not whole, or out of its range.
    """
    plain = number(name, value, meaning)
    if not (least <= plain <= most and plain % 1 == 0):
        raise ValueError(f"{name} is {meaning}; got {value!r}.")
    return int(plain)


def choice(name: str, value: Any, choices: Iterable[Any], meaning: str) -> Any:
    """
    Return that of some choices which is meant.

    Parameters
    ----------
    name, value, meaning
        As for `number`.
    choices : iterable
        What there is to choose from.

    Returns
    -------
    object
        The choice, of the type that it has among the choices.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    known = {one: one for one in choices}
    try:
        return known[value]
    except (KeyError, TypeError):  # lists and arrays cannot be looked up
        raise ValueError(f"{name} is {meaning}; got {value!r}.") from None


def detection_options(
    *,
    threshold: Any = 5.0,
    fwhm: Any = None,
    gain: Any = None,
    saturation: Any = None,
    finder: Any = "auto",
) -> dict[str, Any]:
    """
    Check the options of `~spalipy_astro.detect_stars`.

    Parameters
    ----------
    threshold, fwhm, gain, saturation, finder
        As for `~spalipy_astro.detect_stars`.

    Returns
    -------
    dict
        Plain numbers and None, and the finder as it is; a gain and a saturation with units keep
        them, for it takes an image to convert them: see `in_data_units`.

    Raises
    ------
    TypeError, ValueError
        If one makes no sense.
    """
    plain: dict[str, Any] = {"fwhm": None, "gain": gain, "saturation": saturation}
    plain["finder"] = check_finder(finder)
    plain["threshold"] = positive_number("threshold", threshold, "a positive ratio to the noise")
    if fwhm is not None:
        size = "the full width at half maximum of stars in px, 0.5 to 100, or None"
        plain["fwhm"] = positive_number("fwhm", fwhm, size, u.pix)
        if not 0.5 <= plain["fwhm"] <= 100:
            raise ValueError(f"fwhm is {size}; got {fwhm!r}.")
    if gain is not None:
        rate = "a positive number of electrons per data unit, or None"
        positive_number("gain", getattr(gain, "value", gain), rate)
    if saturation is not None:
        limit = getattr(saturation, "value", saturation)
        if np.isnan(number("saturation", limit, "a data value, or None")):
            raise ValueError(f"saturation is a data value, or None; got {saturation!r}.")
    return plain


def in_data_units(options: Mapping[str, Any], image: Any, *, name: str = "image") -> dict[str, Any]:
    """
    Convert a gain and a saturation to the unit of an image's data.

    Parameters
    ----------
    options : mapping
        From `detection_options`.
    image : object
        The image; its unit is its attribute ``unit``, if it has one.
    name : str, optional
        What to call it in error messages.

    Returns
    -------
    dict
        The options, but for the finder all of them plain numbers or None.

    Raises
    ------
    ValueError
        If the units are of different kinds.
    """
    unit = getattr(image, "unit", None)
    known = isinstance(unit, u.UnitBase)
    unit = unit if known else _ONE
    plain = dict(options)
    for option, wanted, meaning in (
        ("gain", u.electron / unit, "a number of electrons per data unit"),
        ("saturation", unit, "a data value"),
    ):
        if options[option] is None:
            continue
        value = _plain(options[option], wanted)
        if value is None:
            rule = f"in {wanted}" if known else "a plain number, as its data have no unit"
            raise ValueError(
                f"{option} is {meaning}, for the {name} {rule}; got {options[option]!r}."
            )
        plain[option] = value
    return plain


def check_names(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """
    Raise TypeError for options that there are not, with the nearest that there is.

    Parameters
    ----------
    owner : str
        What has the options: "align()".
    given : iterable of str
        Names of options.
    known : iterable of str
        Names of those that there are.
    """
    names = sorted(set(known))
    for name in sorted(set(given) - set(names)):
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}."
        raise TypeError(f"{owner} has no option {name!r}; {hint}")


def refuse_single_scale(options: Mapping[str, Any]) -> None:
    """
    Raise for one number as the range of scales, where it may be meant for the grid.

    Parameters
    ----------
    options : mapping
        Options of `~spalipy_astro.find_alignment`.

    Raises
    ------
    ValueError
        If ``scale`` is a number.
    """
    value = options.get("scale")
    if value is not None and (number := _plain(value, _ONE)) is not None:
        raise ValueError(
            f"scale is (smallest, largest) template px per source px, for the search, such as "
            f"{_shown(0.9 * number, 1.1 * number)}; got {value!r}. For output pixels of another "
            f"size write grid_scale={number:g}."
        )


def scale_range(value: Any, *, name: str = "scale") -> tuple[float, float]:
    """
    Return a range of scales as two plain numbers.

    Parameters
    ----------
    value : pair of float or of `~astropy.units.Quantity`
        Smallest and largest scale; quantities have no dimension.
    name : str, optional
        What the argument is called.

    Returns
    -------
    tuple of float

    Raises
    ------
    ValueError
        If it is no range of positive numbers. The error shows one.
    """
    numbers = _pair(value, _ONE)
    middle = _plain(value, _ONE)
    about = 1.0 if middle is None or not 0 < middle < np.inf else middle
    rule = f"{name} is (smallest, largest), both positive"
    if numbers is None or not 0 < numbers[0] < np.inf or not 0 < numbers[1] < np.inf:
        example = _shown(0.9 * about, 1.1 * about)
        raise ValueError(f"{rule}, such as {example}; got {value!r}.")
    low, high = numbers
    if low > high:
        raise ValueError(f"{rule}; got {value!r}, the larger first. Write {_shown(high, low)}.")
    if low == high:
        example = _shown(0.99 * low, 1.01 * low)
        raise ValueError(f"{rule}, such as {example}; got {value!r}, which contains no scale.")
    return numbers


def rotation_range(value: Any, *, name: str = "rotation") -> tuple[float, float]:
    """
    Return a range of angles as two plain numbers.

    Parameters
    ----------
    value : pair of float or of `~astropy.units.Quantity`
        Smallest and largest angle; numbers are degrees. Angles count on beyond 180 and 360, so
        that (170, 190) and (-190, -170) are one range.
    name : str, optional
        What the argument is called.

    Returns
    -------
    tuple of float
        Degrees, as they were given: not brought to one turn.

    Raises
    ------
    ValueError
        If it is no range of angles. The error shows one.
    """
    numbers = _pair(value, u.deg)
    middle = _plain(value, u.deg)
    about = 0.0 if middle is None or not np.isfinite(middle) else middle
    rule = f"{name} is (smallest, largest) in degrees"
    if numbers is None or not np.all(np.isfinite(numbers)):
        raise ValueError(f"{rule}, such as {_shown(about - 5, about + 5)}; got {value!r}.")
    low, high = numbers
    if low > high:
        # (350, 10) may mean the way through 0 or the rest of the circle: the shorter one first
        turns = 360.0 * np.ceil((low - high) / 360)
        ways = sorted(((high, low), (low, high + turns)), key=lambda way: way[1] - way[0])
        raise ValueError(
            f"{rule}; got {value!r}, the larger first. Write {_shown(*ways[0])}, or "
            f"{_shown(*ways[1])} if the rest of the circle is meant."
        )
    if low == high:
        example = _shown(low - 5, high + 5)
        raise ValueError(f"{rule}, such as {example}; got {value!r}, which contains no angle.")
    return numbers


def _pair(value: Any, unit: u.UnitBase) -> tuple[float, float] | None:
    """Return two numbers in a unit; None if it is anything else."""
    array = isinstance(value, np.ndarray) and value.ndim == 1
    if not (array or isinstance(value, tuple | list)) or len(value) != 2:
        return None
    low, high = (_plain(number, unit) for number in value)
    return None if low is None or high is None else (low, high)


def _plain(value: Any, unit: u.UnitBase) -> float | None:
    """Return a number in a unit, to which quantities are converted; None if it is none."""
    if isinstance(value, u.Quantity):
        try:
            value = value.to_value(unit)
        except u.UnitConversionError:
            return None
    if isinstance(value, np.ndarray):  # of one number, as functions of arrays return it
        value = None if value.ndim or np.ma.is_masked(value) else value[()]
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return float(value) if is_number else None


def _shown(low: float, high: float) -> str:
    """Write a range as a user would."""
    return f"({low:.6g}, {high:.6g})"
