"""What users give for options: numbers, quantities and ranges, checked and made plain."""

from __future__ import annotations

from numbers import Real
from typing import Any

import astropy.units as u
import numpy as np

__all__ = ["positive_number", "rotation_range", "scale_range"]


def positive_number(name: str, value: Any, meaning: str, unit: u.UnitBase) -> float:
    """
    Return a positive number as a plain one.

    Parameters
    ----------
    name : str
        What the argument is called.
    value : float or `~astropy.units.Quantity`
        What was given.
    meaning : str
        What the number is, for the error: "a positive distance in px".
    unit : `~astropy.units.UnitBase`
        The unit of plain numbers, to which quantities are converted.

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
    number = _plain(value, unit)
    if number is None:
        kind = ValueError if isinstance(value, u.Quantity) else TypeError
        raise kind(f"{name} is {meaning}; got {value!r}.")
    if not 0 < number < np.inf:
        raise ValueError(f"{name} is {meaning}; got {value!r}.")
    return number


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
    one = u.dimensionless_unscaled
    numbers = _pair(value, one)
    middle = _plain(value, one)
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
        raise ValueError(f"{rule}, such as {example}; got {value!r}, in which no scale lies.")
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
        raise ValueError(f"{rule}, such as {example}; got {value!r}, in which no angle lies.")
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
