"""What the columns of a catalog are called: a dialect, as a program or a user describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spalipy_astro.catalogs._flags import StarFlag

__all__ = ["Dialect", "Position"]


@dataclass(frozen=True)
class Position:
    """
    Two columns of positions, and those that may hold their errors.

    Attributes
    ----------
    x, y : str
        Columns of positions, px.
    axes : tuple of str
        Standard deviations along x and y.
    variances : tuple of str
        Variances along x and y.
    ellipse : tuple of str
        Standard deviations along the axes of the error ellipse, and the angle in degrees of its
        major axis.
    """

    x: str
    y: str
    axes: tuple[str, ...] = ()
    variances: tuple[str, ...] = ()
    ellipse: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """
    The columns of one program; of each tuple the first that a catalog has is taken.

    Names of columns are compared without regard to case.

    Attributes
    ----------
    name : str
        What ``meta["dialect"]`` of a catalog says.
    origin : {0, 1}
        Number of the first pixel.
    positions : tuple of Position
        Columns of positions, the best ones first.
    key : tuple of str
        Columns without which it is not this dialect.
    signs : tuple of str
        Entries of the table's ``meta`` without which it is not this dialect.
    cased : bool
        Whether the key must have upper and lower case as given.
    flux : tuple of (str, str)
        Columns of flux and of its error.
    magnitude : tuple of str
        Columns of magnitudes, used if there is no flux.
    fwhm : tuple of str
        Columns of the full width at half maximum, px.
    half_light_radius : tuple of str
        Twice this is the FWHM of a Gaussian.
    moments : tuple of str
        Standard deviations along both axes of the profile.
    flag : tuple of str
        Columns of flags.
    bits : dict
        The dialect's flag bits in ours; empty if they are the same.
    marks : dict
        Columns of true and false, and the bits of ours that true stands for.

    Raises
    ------
    ValueError
        If the origin is neither 0 nor 1, or there are no positions.
    """

    name: str
    origin: int
    positions: tuple[Position, ...]
    key: tuple[str, ...] = ()
    flux: tuple[tuple[str, str], ...] = ()
    magnitude: tuple[str, ...] = ()
    fwhm: tuple[str, ...] = ()
    half_light_radius: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    flag: tuple[str, ...] = ()
    bits: Mapping[int, StarFlag] = field(default_factory=dict)
    marks: Mapping[str, StarFlag] = field(default_factory=dict)
    signs: tuple[str, ...] = ()
    cased: bool = False

    def __post_init__(self) -> None:
        if self.origin not in (0, 1):
            raise ValueError(
                f"origin is the number of the first pixel, 0 or 1; got {self.origin!r}."
            )
        if not self.positions or not all(isinstance(one, Position) for one in self.positions):
            raise ValueError(
                f"positions is a tuple of at least one Position; got {self.positions!r}."
            )
