"""The maps of a group: what they are made of, and their parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from astropy.modeling import Model
from numpy.typing import NDArray

from spalipy_astro.fitting import SplineSpace

__all__ = ["Layout", "Solution", "affine_of"]

FloatArray = NDArray[np.float64]


def affine_of(space: SplineSpace) -> FloatArray:
    """Return the coefficients of 1, x and y in a space, shape (size, 3)."""
    return np.column_stack(
        [
            space.plane(np.array([one, 0.0]), np.array([[x, y], [0.0, 0.0]]))[:, 0]
            for one, x, y in np.eye(3)
        ]
    )


@dataclass(frozen=True)
class Layout:
    """
    How the maps of frames are made: ``exposure(chip(point + distortion(point)))``.

    Attributes
    ----------
    exposure, chip, camera : dict of int to int
        Of each frame. Frames of one number share that part.
    fixed_exposure : int
        Which is not solved for: the gauge.
    fixed_chips : frozenset of int
        Likewise.
    straight : frozenset of int
        Cameras without a distortion that is solved for.
    known : dict of int to Model
        Of some of these the distortion that is known: px of the frame to px without distortion.
    middle : dict of int to ndarray, shape (2,)
        The point of each frame that is the origin of its coordinates, px.
    radius : float
        Their unit, px.
    half : ndarray, shape (2,)
        Half the width and height of the frames, in these coordinates.
    space : SplineSpace
        Of the distortions, in these coordinates.
    """

    exposure: dict[int, int]
    chip: dict[int, int]
    camera: dict[int, int]
    fixed_exposure: int
    fixed_chips: frozenset[int]
    straight: frozenset[int]
    known: dict[int, Model]
    middle: dict[int, FloatArray]
    radius: float
    half: FloatArray
    space: SplineSpace

    @cached_property
    def basis(self) -> FloatArray:
        """
        What distortions are made of, coefficients of shape (size, M).

        None of these functions has an affine part over a frame, so that a frame that is made flat
        is as like to what it was as can be.
        """
        split = self.space.roughness
        bent = split.basis[:, split.n_null :]
        x, y = np.meshgrid(*(h * np.linspace(-1, 1, 9) for h in self.half))
        points = np.column_stack((x.ravel(), y.ravel()))
        ones = np.column_stack((np.ones(len(points)), points))
        plane = np.linalg.lstsq(ones, self.space.at(points).evaluate(bent), rcond=None)[0]
        basis: FloatArray = bent - affine_of(self.space) @ plane
        return basis

    @property
    def own(self) -> bool:
        """Whether no two frames share anything."""
        bent = [c for c in self.camera.values() if c not in self.straight]
        number = len(self.exposure)
        return (
            len(set(self.exposure.values())) == number
            and set(self.chip.values()) <= self.fixed_chips
            and len(set(bent)) == len(bent)
        )

    def plain(self, k: int, xy: FloatArray) -> FloatArray:
        """Return positions of a frame in its coordinates, without the distortion that is known."""
        if (model := self.known.get(self.camera[k])) is not None:
            xy = np.column_stack(model(*xy.T))
        return (xy - self.middle[k]) / self.radius

    def in_pixels(self, k: int) -> SplineSpace:
        """Return the space of the distortion in pixels of a frame."""
        space, (x, y) = self.space, self.middle[k]
        (x0, x1), (y0, y1) = (
            (float(c + self.radius * lo), float(c + self.radius * hi))
            for c, (lo, hi) in zip((x, y), space.bounds, strict=True)
        )
        return SplineSpace(((x0, x1), (y0, y1)), space.n_x, space.n_y, space.degree)


@dataclass
class Solution:
    """
    The maps of a group.

    Attributes
    ----------
    layout : Layout
    exposures, chips : dict of int to ndarray, shape (3, 2)
    distortions : dict of int to ndarray, shape (size, 2)
        Coefficients in the space, in radii; empty without distortions.
    bent : bool
        Whether distortions are solved for.
    noise : float
        Variance of the normalized residuals.
    smoothing : tuple of float
        Weights of the penalties; infinite without distortion.
    freedom : float
        Effective number of parameters of all maps.
    """

    layout: Layout
    exposures: dict[int, FloatArray]
    chips: dict[int, FloatArray]
    distortions: dict[int, FloatArray] = field(default_factory=dict)
    bent: bool = False
    noise: float = 1.0
    smoothing: tuple[float, float] = (np.inf, np.inf)
    freedom: float = 0.0

    def affine(self, k: int) -> FloatArray:
        """Return the affine part of a frame's map, shape (3, 2), from its coordinates."""
        e, c = self.exposures[self.layout.exposure[k]], self.chips[self.layout.chip[k]]
        return np.vstack((e[:1] + c[:1] @ e[1:], c[1:] @ e[1:]))

    def scale(self, k: int) -> float:
        """Return grid px per px of a frame."""
        return float(abs(np.linalg.det(self.affine(k)[1:])) ** 0.5 / self.layout.radius)

    def is_bent(self, k: int) -> bool:
        """Whether a distortion of a frame is solved for."""
        return self.bent and self.layout.camera[k] not in self.layout.straight

    def functions(self, u: FloatArray) -> FloatArray:
        """Return the functions that distortions are made of, shape (N, M)."""
        return self.layout.space.at(u).evaluate(self.layout.basis)

    def rough(self, camera: int) -> FloatArray:
        """Return the factors of these functions, shape (M, 2)."""
        split = self.layout.space.roughness
        known = self.distortions.get(camera)
        if known is None:
            return np.zeros((self.layout.space.size - split.n_null, 2))
        factors = np.asarray(np.linalg.solve(split.basis, known), dtype=float)
        return factors[split.n_null :]

    def bend(self, camera: int, factors: FloatArray) -> None:
        """Set these factors."""
        self.distortions[camera] = self.layout.basis @ factors

    def apply(self, k: int, xy: FloatArray) -> FloatArray:
        """Send positions of a frame to the grid."""
        u = self.layout.plain(k, xy)
        if (bent := self.distortions.get(self.layout.camera[k])) is not None:
            u = u + self.layout.space.at(u).evaluate(bent)
        a = self.affine(k)
        return a[0] + u @ a[1:]

    def straighten(self) -> None:
        """Leave out the distortions that are solved for."""
        self.bent, self.distortions = False, {}
