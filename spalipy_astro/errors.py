"""The exceptions of the package, with one base class, and its warning."""

from typing import Any

from astropy.utils.exceptions import AstropyUserWarning

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
    """Base class of everything that can go wrong with the data of an alignment."""


class ImageError(AlignmentError, ValueError):
    """An image that cannot be aligned: wrong dimensions, all bad pixels, constant."""


class TooFewStarsError(AlignmentError):
    """An image or catalog with fewer usable stars than an alignment needs."""


class NoMatchError(AlignmentError):
    """
    Two star lists that no transform explains better than chance.

    Attributes
    ----------
    log_odds : float
        Natural logarithm of the odds of the best hypothesis; minus infinity if there was none.
    """

    def __init__(self, message: str = "", log_odds: float = float("-inf")) -> None:
        super().__init__(message)
        self.log_odds = log_odds

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (str(self), self.log_odds)


class AmbiguousMatchError(NoMatchError):
    """
    Two star lists that two different transforms explain about equally well.

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
    ) -> None:
        super().__init__(message, log_odds)
        self.rival_log_odds = rival_log_odds

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (str(self), self.log_odds, self.rival_log_odds)


class CatalogError(AlignmentError, ValueError):
    """A catalog that lacks required columns, rows or finite values."""


class FormatError(AlignmentError):
    """A file that cannot be read: of another format, truncated or from a newer version."""


class ExportError(AlignmentError):
    """A transform that a file format cannot describe within the requested tolerance."""


class NotCompiledWarning(AstropyUserWarning):
    """The pixel loops were not compiled when the package was installed, so they are slower."""
