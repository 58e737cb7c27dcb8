"""The exceptions of the package, with one base class, and its warning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spalipy_astro._late import late

if TYPE_CHECKING:
    from spalipy_astro.errors._warnings import NotCompiledWarning
else:
    # astropy comes in with it, which a command line that is not understood must not wait for
    __getattr__, __dir__ = late(__name__, {"_warnings": ("NotCompiledWarning",)})

__all__ = [
    "AlignmentError",
    "AmbiguousMatchError",
    "CatalogError",
    "ExportError",
    "FormatError",
    "ImageError",
    "NoMatchError",
    "NotCompiledWarning",
    "TooFewStarsError",
]


class AlignmentError(Exception):
    """
    Base class of everything that can go wrong with the data of an alignment.

    Attributes
    ----------
    details : dict
        Figures behind the message, for experts: names and numbers. Empty for most errors.
    """

    def __init__(self, *args: Any, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(*args)
        self.details = dict(details or {})


class ImageError(AlignmentError, ValueError):
    """
    An image that cannot be aligned: wrong dimensions, all bad pixels, constant.

    What it means and what to change: :ref:`image-error`.
    """


class TooFewStarsError(AlignmentError):
    """
    An image or catalog with fewer usable stars than an alignment needs.

    What it means and what to change: :ref:`too-few-stars`.
    """


class NoMatchError(AlignmentError):
    """
    Two star lists that no transform explains better than chance.

    What it means and what to change: :ref:`no-match`.

    Attributes
    ----------
    log_odds : float
        Natural logarithm of the odds of the best hypothesis; minus infinity if there was none.
    details : dict
        Of a search that found nothing: ``n_source`` and ``n_template`` (stars), ``hypotheses``
        (tested), ``log_odds`` and ``required``; of the best hypothesis, if one was worth a closer
        look, ``matched`` and ``expected`` (stars), ``best`` (the transform in words) and
        ``objection`` (why it is refused, None if its odds are too small).
    """

    def __init__(
        self,
        message: str = "",
        log_odds: float = float("-inf"),
        *,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, details=details)
        self.log_odds = log_odds


class AmbiguousMatchError(NoMatchError):
    """
    Two star lists that two different transforms explain about equally well.

    What it means and what to change: :ref:`ambiguous-match`.

    Attributes
    ----------
    log_odds, rival_log_odds : float
        Natural logarithms of the odds of both transforms against chance.
    """

    def __init__(
        self,
        message: str = "",
        log_odds: float = float("-inf"),
        rival_log_odds: float = float("-inf"),
        *,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, log_odds, details=details)
        self.rival_log_odds = rival_log_odds


class CatalogError(AlignmentError, ValueError):
    """
    A catalog that lacks required columns, rows or finite values.

    What it means and what to change: :ref:`catalog-error`.
    """


class FormatError(AlignmentError):
    """
    A file that cannot be read: of another format, truncated or from a newer version.

    What it means and what to change: :ref:`format-error`.
    """


class ExportError(AlignmentError):
    """
    A transform that a file format cannot describe within the requested tolerance.

    What it means and what to change: :ref:`export-error`.
    """
