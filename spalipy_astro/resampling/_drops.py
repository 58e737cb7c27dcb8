"""How drizzle spreads the pixels of the source: their size, their shape, their weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spalipy_astro._checks import choice, number
from spalipy_astro._choices import DRIZZLE_KERNELS
from spalipy_astro.resampling._tiles import Planes, to_variance

__all__ = ["Drops", "drops_of", "require_uncertainty", "weights_of"]

_IVAR = "ivar"


class Drops(NamedTuple):
    """
    The drops that pixels shrink to; see `spalipy_astro.resampling.resample`.

    Attributes
    ----------
    pixfrac : float
    kernel : str
    weights : array, "ivar" or None
    """

    pixfrac: float = 1.0
    kernel: str = "square"
    weights: Any = None

    @property
    def are_pixels(self) -> bool:
        """Whether drops are the pixels as they are, which leave no gaps between them."""
        return self.pixfrac == 1 and self.kernel == "square"

    @property
    def reach(self) -> float:
        """How far from its center a drop reaches along an axis, source px."""
        if self.kernel.startswith("lanczos"):
            return float(self.kernel[-1]) + 1
        return 3.0 if self.kernel == "gaussian" else 2.0


def drops_of(
    method: Any,
    *,
    pixfrac: Any = None,
    kernel: Any = None,
    weights: Any = None,
    return_weights: bool = False,
) -> Drops:
    """
    Check the options of drizzle.

    Parameters
    ----------
    method, pixfrac, kernel, weights, return_weights
        As for `spalipy_astro.resampling.resample`.

    Returns
    -------
    Drops

    Raises
    ------
    TypeError, ValueError
        If one makes no sense, or is given with another method.
    """
    given = {"pixfrac": pixfrac, "kernel": kernel, "weights": weights}
    named = [name for name, value in given.items() if value is not None]
    named += ["return_weights"] if return_weights else []
    if named and method != "drizzle":
        raise ValueError(
            f"{named[0]} is for method='drizzle'; got method={method!r}. Add method='drizzle', or "
            f"leave {named[0]} out."
        )
    size = "the size of a drop, as a part of a pixel's: from 0 to 1"
    pixfrac = 1.0 if pixfrac is None else number("pixfrac", pixfrac, size)
    if not 0 <= pixfrac <= 1:
        raise ValueError(f"pixfrac is {size}; got {pixfrac:g}.")
    kernel = "square" if kernel is None else kernel
    choice("kernel", kernel, DRIZZLE_KERNELS, f"one of {', '.join(DRIZZLE_KERNELS)}")
    if kernel.startswith("lanczos") and pixfrac != 1:
        raise ValueError(
            f"pixfrac is 1 for kernel={kernel!r}, which interpolates between full pixels; got "
            f"{pixfrac:g}. Drops of another size are 'square', 'turbo' or 'gaussian'."
        )
    if pixfrac == 0 and kernel in ("square", "turbo", "gaussian"):
        kernel = "point"  # the limit, which the package cannot take for these shapes
    if isinstance(weights, str) and weights != _IVAR:
        raise ValueError(
            f"weights are an array, or 'ivar' for 1 / variance of the uncertainty; got {weights!r}."
        )
    return Drops(pixfrac, kernel, weights)


def require_uncertainty(weights: Any, *uncertainties: Any) -> None:
    """
    Refuse weights that follow from uncertainties where there are none.

    Parameters
    ----------
    weights : object
        As for `spalipy_astro.resampling.resample`.
    *uncertainties : object
        Of images; None if one has none.

    Raises
    ------
    ValueError
        If none of the images has what the weights follow from.
    """
    if isinstance(weights, str) and all(one is None for one in uncertainties):
        raise ValueError(
            "weights='ivar' needs an image with an uncertainty; this one has none. Give an "
            "array of weights, or leave them out."
        )


def weights_of(drops: Drops, planes: Planes) -> NDArray[np.float64] | None:
    """
    Return the weights of the source's pixels.

    Parameters
    ----------
    drops : Drops
    planes : Planes
        In memory.

    Returns
    -------
    ndarray, of the shape of the data or (ny, nx), or None
        None where they are all 1.

    Raises
    ------
    ValueError
        If they do not have the image's shape, one is negative or not finite, or there is no
        uncertainty to take them from.
    """
    if drops.weights is None:
        return None
    if isinstance(drops.weights, str):
        require_uncertainty(drops.weights, planes.spread)
        variance = np.array(planes.spread, np.float64)
        to_variance(planes.kind, variance)
        with np.errstate(divide="ignore"):
            weights = 1 / variance
        return np.where(np.isfinite(weights) & (weights > 0), weights, 0.0)
    weights = np.asarray(drops.weights, np.float64)
    shape = planes.data.shape
    if weights.shape not in (shape, shape[-2:]):
        raise ValueError(f"weights have the shape of the image, {shape}; got {weights.shape}.")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights are finite and not negative; 0 stands for a bad pixel.")
    return weights
