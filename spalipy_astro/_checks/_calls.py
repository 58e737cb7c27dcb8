"""Calls of public functions: options that there are not, truth values and flags that are none."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from numbers import Integral
from typing import Any, ParamSpec, TypeVar

import numpy as np

from spalipy_astro._checks._flags import check_flags
from spalipy_astro._checks._options import check_names

__all__ = ["checked_call"]

P = ParamSpec("P")
R = TypeVar("R")


def checked_call(function: Callable[P, R]) -> Callable[P, R]:
    """
    Let a function refuse misspelled options, and words such as "no" where True or False belongs.

    Parameters
    ----------
    function : callable
        Its options of which the annotation is ``bool`` or ``bool | None`` are truth values. A
        function with ``**options`` checks their names itself.

    Returns
    -------
    callable
        The same function. It raises TypeError with the nearest name, or the name of the option, and
        ValueError for ``ignore_flags`` that no file can have.
    """
    parameters = signature(function).parameters
    any_name = any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())
    truths = {
        name: one.annotation.endswith("None")
        for name, one in parameters.items()
        if one.annotation in ("bool", "bool | None")
    }

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        if not any_name:
            check_names(f"{function.__name__}()", options, parameters)
        for name in truths.keys() & options.keys():
            _check_truth(name, options[name], or_none=truths[name])
        if "ignore_flags" in options:
            check_flags(options["ignore_flags"], options.get("flag_name_map"))
        return function(*args, **options)

    return call


def _check_truth(name: str, value: Any, *, or_none: bool) -> None:
    """Raise TypeError for what is neither True nor False, in one of the types that have them."""
    if value is None and or_none:
        return
    if not (isinstance(value, Integral | np.bool_) and value in (0, 1)):
        rule = "True, False or None" if or_none else "True or False"
        raise TypeError(f"{name} is {rule}; got {value!r}.")
