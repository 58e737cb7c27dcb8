"""All maps of a group by one sparse least-squares solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse.linalg import splu

from spalipy_astro.fitting import SplineSpace

__all__ = ["Layout", "Solution", "solve_group"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_DEGREE = 3
_CLIP = 17.0  # squared distance in units of its variance: one good star in 5000 is lost
_PRIOR_COUNT = 40.0  # how many residuals the stars' own errors are worth
_DENSE = 2500  # unknowns up to which a full matrix is faster
_LOW = (1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3)
_HIGH = (1e-2, 1e0, 1e2, 1e4, 1e6, 1e8, 1e10)


@dataclass(frozen=True)
class Layout:
    """
    How the maps of frames are made: ``exposure(chip(point + distortion(point)))``.

    Attributes
    ----------
    exposure, chip, camera : dict of int to int
        Of each frame. Frames of one number share that part.
    fixed_exposure, fixed_chip : int
        What is the identity: the gauge.
    straight : set of int
        Cameras without distortion.
    middle : dict of int to ndarray, shape (2,)
        The point of each frame that is the origin of its coordinates, px.
    radius : float
        Their unit, px.
    space : SplineSpace
        Of the distortions, in these coordinates.
    """

    exposure: dict[int, int]
    chip: dict[int, int]
    camera: dict[int, int]
    fixed_exposure: int
    fixed_chip: int
    straight: set[int]
    middle: dict[int, FloatArray]
    radius: float
    space: SplineSpace

    def plain(self, k: int, xy: FloatArray) -> FloatArray:
        """Return positions of a frame in its coordinates."""
        return (xy - self.middle[k]) / self.radius


@dataclass
class Solution:
    """
    The maps of a group.

    Attributes
    ----------
    layout : Layout
    exposures, chips : dict of int to ndarray, shape (3, 2)
    distortions : dict of int to ndarray, shape (size, 2)
        Coefficients in the space, in radii.
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
    noise: float = 1.0
    smoothing: tuple[float, float] = (np.inf, np.inf)
    freedom: float = 0.0
    _columns: dict[tuple[str, int], slice] = field(default_factory=dict)
    _root: FloatArray | None = None
    _bent: bool = False

    def affine(self, k: int) -> FloatArray:
        """Return the affine part of a frame's map, shape (3, 2), from its coordinates."""
        e, c = self.exposures[self.layout.exposure[k]], self.chips[self.layout.chip[k]]
        return np.vstack((e[:1] + c[:1] @ e[1:], c[1:] @ e[1:]))

    def apply(self, k: int, xy: FloatArray) -> FloatArray:
        """Send positions of a frame to the grid."""
        u = self.layout.plain(k, xy)
        if (bent := self.distortions.get(self.layout.camera[k])) is not None:
            u = u + self.layout.space.at(u).evaluate(bent)
        a = self.affine(k)
        return a[0] + u @ a[1:]

    def slopes(self, k: int, xy: FloatArray) -> list[tuple[slice, FloatArray]]:
        """Return the derivatives of a frame's map by its parameters: shape (2, N, parameters)."""
        lay = self.layout
        u = lay.plain(k, xy)
        name = lay.camera[k]
        phi = None
        if self._bent and name not in lay.straight:
            phi = self._functions(u)
            if name in self.distortions:
                u = u + lay.space.at(u).evaluate(self.distortions[name])
        chip, exposure = self.chips[lay.chip[k]], self.exposures[lay.exposure[k]]
        v = chip[0] + u @ chip[1:]
        found = []
        if ("exposure", lay.exposure[k]) in self._columns:
            one = np.column_stack((np.ones(len(v)), v))
            rows = np.einsum("na,bc->cnab", one, np.eye(2)).reshape(2, len(v), 6)
            found.append((self._columns["exposure", lay.exposure[k]], rows))
        if ("chip", lay.chip[k]) in self._columns:
            one = np.column_stack((np.ones(len(u)), u))
            rows = np.einsum("na,bc->cnab", one, exposure[1:]).reshape(2, len(u), 6)
            found.append((self._columns["chip", lay.chip[k]], rows))
        if phi is not None:
            linear = chip[1:] @ exposure[1:]
            rows = np.einsum("na,bc->cnab", phi, linear).reshape(2, len(u), -1)
            found.append((self._columns["camera", name], rows))
        return found

    def _functions(self, u: FloatArray) -> FloatArray:
        split = self.layout.space.roughness
        return self.layout.space.at(u).evaluate(split.basis[:, split.n_null :])

    def factor(self, k: int) -> FloatArray:
        """
        Return the covariance of a frame's map as a factor.

        Returns
        -------
        ndarray, shape (size, M)
            For the functions of the space: their products with it are independent errors, px of
            the grid, of either axis on average.
        """
        space = self.layout.space
        (x0, x1), (y0, y1) = space.bounds
        x, y = np.meshgrid(np.linspace(x0, x1, 2 * space.n_x), np.linspace(y0, y1, 2 * space.n_y))
        points = np.column_stack((x.ravel(), y.ravel()))
        parts = self.slopes(k, points * self.layout.radius + self.layout.middle[k])
        if not parts or self._root is None:
            return np.zeros((space.size, 1))
        root = np.concatenate([self._root[columns] for columns, _ in parts])
        rows = np.concatenate([r for _, r in parts], axis=2)
        # only what this frame depends on counts: as many independent errors as it has parameters
        root = linalg.qr(root.T, mode="r")[0][: root.shape[0]].T
        values = np.concatenate(rows @ root, axis=1) * np.sqrt(self.noise / 2)
        functions = space.at(points).evaluate(np.eye(space.size))
        return np.linalg.lstsq(functions, values, rcond=1e-12)[0]

    def update(self, step: FloatArray) -> None:
        """Add a step to all parameters."""
        split = self.layout.space.roughness
        for (kind, name), columns in self._columns.items():
            part = step[columns].reshape(-1, 2)
            if kind == "exposure":
                self.exposures[name] = self.exposures[name] + part
            elif kind == "chip":
                self.chips[name] = self.chips[name] + part
            else:
                known = self.distortions.get(name, np.zeros((self.layout.space.size, 2)))
                self.distortions[name] = known + split.basis[:, split.n_null :] @ part

    def straighten(self, bent: bool) -> None:
        """Take distortions into the solution or out of it, and number the parameters."""
        lay, columns, start = self.layout, {}, 0
        parts = [("exposure", e, 6) for e in sorted(set(lay.exposure.values()))]
        parts += [("chip", c, 6) for c in sorted(set(lay.chip.values()))]
        if bent:
            size = 2 * (lay.space.size - lay.space.roughness.n_null)
            cameras = sorted(set(lay.camera.values()) - lay.straight)
            parts += [("camera", c, size) for c in cameras]
        for kind, name, size in parts:
            if (kind, name) not in (("exposure", lay.fixed_exposure), ("chip", lay.fixed_chip)):
                columns[kind, name] = slice(start, start + size)
                start += size
        self._columns, self._bent = columns, bent
        if not bent:
            self.distortions = {}

    @property
    def size(self) -> int:
        """Number of parameters."""
        return max((c.stop for c in self._columns.values()), default=0)


class _Equations:
    """Normal equations about a solution, the stars' positions eliminated."""

    def __init__(
        self,
        solution: Solution,
        frame: IntArray,
        track: IntArray,
        xy: FloatArray,
        weight: FloatArray,
    ) -> None:
        rows, columns, values = [], [], []
        image = np.empty_like(xy)
        for k in np.unique(frame):
            mine = np.flatnonzero(frame == k)
            image[mine] = solution.apply(int(k), xy[mine])
            for place, slopes in solution.slopes(int(k), xy[mine]):
                index = np.arange(place.start, place.stop)
                for axis in (0, 1):
                    r, c = np.broadcast_arrays((mine + axis * len(xy))[:, np.newaxis], index)
                    rows.append(r.ravel())
                    columns.append(c.ravel())
                    values.append(slopes[axis].ravel())
        n, m = len(xy), int(track.max()) + 1
        self.total = np.bincount(track, weight, m)
        mean = np.column_stack([np.bincount(track, weight * v, m) / self.total for v in image.T])
        self.residuals = image - mean[track]
        self.mean, self.image = mean, image
        self.chi2 = float(weight @ np.sum(self.residuals**2, axis=1))
        self.n_values = 2 * (n - m)
        jacobian = sparse.csr_matrix(
            (
                np.concatenate(values) if values else [],
                (
                    np.concatenate(rows) if rows else [],
                    np.concatenate(columns) if columns else [],
                ),
            ),
            shape=(2 * n, solution.size),
        )
        both = np.concatenate((weight, weight))
        stars = np.concatenate((track, track + m))
        sums = sparse.csr_matrix((both, (stars, np.arange(2 * n))), shape=(2 * m, 2 * n)) @ jacobian
        weighted = sparse.diags(both) @ jacobian
        inverse = sparse.diags(1 / np.concatenate((self.total, self.total)))
        self.matrix = (jacobian.T @ weighted - sums.T @ (inverse @ sums)).tocsc()
        self.right = -(weighted.T @ self.residuals.T.ravel())


class _Factored:
    """A symmetric positive matrix, factored: fully where it is small, else sparsely."""

    def __init__(self, matrix: sparse.csc_matrix) -> None:
        self.scale = 1 / np.sqrt(np.maximum(matrix.diagonal(), 1e-300))
        scaled = sparse.diags(self.scale) @ matrix @ sparse.diags(self.scale)
        scaled = scaled + 1e-12 * sparse.identity(matrix.shape[0])
        self._full: FloatArray | None = None
        if matrix.shape[0] <= _DENSE:
            self._full = linalg.cholesky(scaled.toarray(), lower=True)
            diagonal = 2 * np.log(np.diag(self._full))
        else:
            self._sparse = splu(
                scaled.tocsc(), options={"SymmetricMode": True}, diag_pivot_thresh=0
            )
            diagonal = np.log(np.abs(self._sparse.U.diagonal()))
        self.log_det = float(diagonal.sum() - 2 * np.log(self.scale).sum())

    def solve(self, right: FloatArray) -> FloatArray:
        if self._full is not None:
            return self.scale * linalg.cho_solve((self._full, True), self.scale * right)
        return self.scale * self._sparse.solve(self.scale * right)

    def root(self) -> FloatArray:
        """Return a factor of the inverse, shape (p, p)."""
        n = len(self.scale)
        if self._full is not None:
            lower = linalg.solve_triangular(self._full, np.eye(n), lower=True)
            return self.scale[:, np.newaxis] * lower.T
        inverse = self._sparse.solve(np.eye(n))
        return self.scale[:, np.newaxis] * linalg.cholesky((inverse + inverse.T) / 2, lower=True)


def _penalty(solution: Solution, smoothing: tuple[float, float]) -> FloatArray:
    """Return the diagonal of the penalty."""
    total = np.zeros(solution.size)
    weight = smoothing[0] + smoothing[1] * solution.layout.space.roughness.high
    for (kind, _), columns in solution._columns.items():
        if kind == "camera":
            total[columns] = np.repeat(weight, 2)
    return total


def _parameters(solution: Solution) -> FloatArray:
    """Return the penalized parameters; zero for the others."""
    total = np.zeros(solution.size)
    split = solution.layout.space.roughness
    inverse = np.linalg.inv(split.basis)[split.n_null :]
    for (kind, name), columns in solution._columns.items():
        if kind == "camera" and name in solution.distortions:
            total[columns] = (inverse @ solution.distortions[name]).ravel()
    return total


def _criterion(equations: _Equations, solution: Solution, smoothing: tuple[float, float]) -> float:
    """
    Return -2 log of the restricted likelihood of the penalties, the equations being linear.

    Patterson & Thompson (1971, Biometrika, 58, 545, doi:10.1093/biomet/58.3.545); the scatter is
    profiled, with the errors of the stars as its prior.
    """
    penalty, known = _penalty(solution, smoothing), _parameters(solution)
    factored = _Factored((equations.matrix + sparse.diags(penalty)).tocsc())
    right = equations.right - penalty * known
    step = factored.solve(right)
    misfit = equations.chi2 + float(penalty @ known**2) - float(right @ step)
    rough = penalty > 0
    free = solution.size - int(np.count_nonzero(rough))
    count = max(equations.n_values - free, 0) + _PRIOR_COUNT
    noise = (max(misfit, 0.0) + _PRIOR_COUNT) / count
    return factored.log_det - float(np.log(penalty[rough]).sum()) + count * float(np.log(noise))


def _choose(equations: _Equations, solution: Solution) -> tuple[float, float]:
    """Return the weights of both penalties with the largest restricted likelihood."""
    best = (_LOW[0], _HIGH[2])
    seen: dict[tuple[float, float], float] = {}

    def value(point: tuple[float, float]) -> float:
        if point not in seen:
            seen[point] = _criterion(equations, solution, point)
        return seen[point]

    for _ in range(2):
        best = min(((low, best[1]) for low in _LOW), key=value)
        best = min(((best[0], high) for high in _HIGH), key=value)
    return best


def solve_group(
    solution: Solution,
    frame: IntArray,
    track: IntArray,
    positions: Sequence[FloatArray] | FloatArray,
    errors: FloatArray,
    *,
    bent: bool,
) -> NDArray[np.bool_]:
    """
    Solve for all maps at once; the solution is changed.

    Parameters
    ----------
    solution : Solution
        To start from.
    frame, track : ndarray of int, shape (N,)
        Of each observation of a star.
    positions : ndarray, shape (N, 2)
        In its frame, px.
    errors : ndarray, shape (N,)
        1-sigma along each axis, px of its frame.
    bent : bool
        Whether there may be distortions.

    Returns
    -------
    ndarray of bool, shape (N,)
        Observations that were used.

    Notes
    -----
    Gauss-Newton. Each star's position on the grid is an unknown of its own that is eliminated
    (Schur's complement), so that the errors of all its observations count. Distortions are
    penalized splines; they are zero where the likelihood is largest without them.
    """
    xy = np.asarray(positions, dtype=float)
    used = np.bincount(track)[track] > 1
    solution.straighten(bent)
    smoothing = (_LOW[0], _HIGH[2])
    for iteration in range(8):
        scale = {
            int(k): abs(np.linalg.det(solution.affine(int(k))[1:])) ** 0.5 / solution.layout.radius
            for k in np.unique(frame)
        }
        sigma = errors * np.array([scale[int(k)] for k in frame])
        number = np.unique(track[used], return_inverse=True)[1]
        equations = _Equations(solution, frame[used], number, xy[used], sigma[used] ** -2.0)
        if solution._bent and iteration in (1, 3):
            smoothing = _choose(equations, solution)
            if smoothing[0] == _LOW[0]:
                solution.straighten(False)
                continue
        penalty = _penalty(solution, smoothing)
        factored = _Factored((equations.matrix + sparse.diags(penalty)).tocsc())
        step = factored.solve(equations.right - penalty * _parameters(solution))
        solution.update(step)
        before = used
        used = _clip(solution, frame, track, xy, sigma, used, gentle=iteration < 2)
        if iteration > 4 and np.array_equal(before, used):
            break
    free = solution.size - float(
        np.sum(penalty * np.sum(factored.root() ** 2, axis=1)) if np.any(penalty) else 0.0
    )
    solution.freedom = free
    solution.smoothing = smoothing if solution._bent else (np.inf, np.inf)
    dof = max(equations.n_values - free, 0.0)
    solution.noise = max(1.0, (equations.chi2 + _PRIOR_COUNT) / (dof + _PRIOR_COUNT))
    solution._root = factored.root()
    return used


def _clip(
    solution: Solution,
    frame: IntArray,
    track: IntArray,
    xy: FloatArray,
    sigma: FloatArray,
    used: NDArray[np.bool_],
    *,
    gentle: bool,
) -> NDArray[np.bool_]:
    """Return the observations that agree with their tracks; the worst of a track goes first."""
    image = np.empty_like(xy)
    for k in np.unique(frame):
        mine = frame == k
        image[mine] = solution.apply(int(k), xy[mine])
    weight = np.where(used, sigma**-2.0, 0.0)
    total = np.bincount(track, weight)
    sums = np.column_stack([np.bincount(track, weight * v) for v in image.T])
    mean = sums / np.maximum(total, 1e-300)[:, np.newaxis]
    gap2 = np.sum((image - mean[track]) ** 2, axis=1)
    share = np.clip(1 - weight / np.maximum(total[track], 1e-300), 1e-3, 1.0)
    distance2 = np.where(used, gap2 / (sigma**2 * share), 0.0)
    typical = float(np.median(distance2[used])) / (2 * np.log(2.0)) if used.any() else 1.0
    limit = _CLIP * max(1.0, typical) * (4.0 if gentle else 1.0)
    worst = np.zeros(len(total))
    np.maximum.at(worst, track, distance2)
    good = used & ~((distance2 > limit) & (distance2 >= worst[track] * (1 - 1e-9)))
    return good & (np.bincount(track, good)[track] > 1)
