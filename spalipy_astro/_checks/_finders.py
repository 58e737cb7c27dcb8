"""What finds the stars of an image: a word, or a function of the user's."""

from __future__ import annotations

from inspect import signature
from typing import Any

__all__ = ["check_finder", "name_of_finder"]

_WORDS = ("auto", "stars", "sources")
_RULE = (
    "'auto', 'stars', 'sources', a star finder of photutils such as "
    "DAOStarFinder(threshold=50, fwhm=3), or a function of (data, mask=...) that returns a table"
)


def check_finder(finder: Any) -> Any:
    """
    Check what is to find the stars.

    Parameters
    ----------
    finder : str or callable
        As for `~spalipy_astro.detect_stars`.

    Returns
    -------
    str or callable

    Raises
    ------
    TypeError
        If it is neither a word nor callable, a class instead of one of its objects, or a function
        that cannot be called as ``finder(data, mask=mask)``.
    ValueError
        If it is an unknown word.
    """
    if isinstance(finder, str):
        if finder not in _WORDS:
            raise ValueError(f"finder is {_RULE}; got {finder!r}.")
    elif isinstance(finder, type):
        raise TypeError(
            f"finder is {_RULE}; got the class {finder.__name__}. Give one of its objects: "
            f"{finder.__name__}(...)."
        )
    elif not callable(finder):
        raise TypeError(f"finder is {_RULE}; got {finder!r}.")
    else:
        try:
            takes = signature(finder)
        except ValueError:  # compiled functions do not tell what they take
            return finder
        try:
            takes.bind(None, mask=None)
        except TypeError:
            raise TypeError(
                f"finder is called as finder(data, mask=mask); got {name_of_finder(finder)}{takes}."
            ) from None
    return finder


def name_of_finder(finder: Any) -> str:
    """
    Write a finder as a word that is the same in every run.

    Parameters
    ----------
    finder : str or callable
        From `check_finder`.

    Returns
    -------
    str
        The word; the name of a function with its module; or the class of an object with those of
        its attributes that are numbers or words.
    """
    if isinstance(finder, str):
        return finder
    owner = finder if hasattr(finder, "__qualname__") else type(finder)
    name = f"{owner.__module__}.{owner.__qualname__}"
    if owner is finder:
        return name
    given = {
        key: value.item() if hasattr(value, "item") else value
        for key, value in sorted(getattr(finder, "__dict__", {}).items())
        if isinstance(value, bool | int | float | str) and not key.startswith("_")
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
