"""What a page tells of the making of a transform, without what only programs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["told_of"]

_FOR_PROGRAMS = ("batch", "figures", "source", "union")
"""What a batch notes for a later run; the figures are in the tables."""


def told_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what is worth telling of an alignment's provenance.

    Parameters
    ----------
    provenance : mapping
        As `Alignment.provenance`.

    Returns
    -------
    dict
        The quality of both frames in words; functions by their names.
    """
    told: dict[str, Any] = {}
    for name, value in provenance.items():
        if name in _FOR_PROGRAMS:
            continue
        if name == "quality":
            for side, quality in value.items():
                known = [(what, number) for what, number in quality.items() if np.isfinite(number)]
                words = ", ".join(
                    f"{what.replace('_', ' ')} {number:.4g}" for what, number in known
                )
                if words:
                    told[f"quality of the {side}"] = words
        elif name == "options":
            told[name] = {key: _named(given) for key, given in value.items()}
        else:
            told[name] = value
    return told


def _named(given: Any) -> str:
    """Return an option in words; of a function or an object of a class the name."""
    if callable(given) and not isinstance(given, type):
        return str(getattr(given, "__qualname__", type(given).__name__))
    return str(given)
