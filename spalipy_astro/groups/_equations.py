"""Least squares of all maps of a group, the positions of the stars eliminated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spalipy_astro.groups._blocks import Blocks
from spalipy_astro.groups._solution import Solution, affine_of

__all__ = ["Equations", "OwnEquations", "SharedEquations", "equations_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class _Observations:
    """Where frames have stars, with a number per star that counts from 0 without gaps."""

    frame: IntArray
    track: IntArray
    xy: FloatArray
    weight: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "track", np.unique(self.track, return_inverse=True)[1])

    @property
    def n_tracks(self) -> int:
        return int(self.track.max(initial=-1)) + 1


class Equations:
    """
    Normal equations about a solution.

    Attributes
    ----------
    matrix : Blocks
        Of all unknowns, the penalties not included.
    right : ndarray, shape (p, k)
        One column for both axes, or one per axis where the matrix is that of either.
    known : ndarray, shape (p, k)
        The penalized unknowns as they are; zero for the others.
    rough : ndarray of bool, shape (p,)
        Which are penalized.
    high : ndarray, shape (p,)
        Their penalty of high order per unit weight.
    chi2 : float
        Squared distances of the observations from the means of their stars, by their weights.
    n_values : int
        Number of values less that of the stars' coordinates.
    """

    matrix: Blocks
    right: FloatArray
    known: FloatArray
    rough: NDArray[np.bool_]
    high: FloatArray
    chi2: float
    n_values: int

    def __init__(self, solution: Solution, seen: _Observations) -> None:
        self.solution = solution
        self.frames = np.unique(seen.frame).tolist()
        self.mine = {k: np.flatnonzero(seen.frame == k) for k in self.frames}
        image = np.empty_like(seen.xy)
        for k in self.frames:
            image[self.mine[k]] = solution.apply(k, seen.xy[self.mine[k]])
        m = seen.n_tracks
        self.total = np.bincount(seen.track, seen.weight, m)
        mean = np.column_stack(
            [np.bincount(seen.track, seen.weight * v, m) / self.total for v in image.T]
        )
        self.residuals = image - mean[seen.track]
        self.chi2 = float(seen.weight @ np.sum(self.residuals**2, axis=1))
        self.n_values = 2 * (len(seen.xy) - m)

    def _fitted(self, k: int, xy: FloatArray) -> FloatArray:
        """
        Return where a frame should show its stars, in its coordinates.

        Derivatives belong there: at the positions that were measured, whose errors are in the
        residuals, too, all frames would shrink a little, and a large group by percents (Fuller
        1987, Measurement Error Models, doi:10.1002/9780470316665).
        """
        linear = self.solution.affine(k)[1:]
        back = self.residuals[self.mine[k]] @ np.linalg.inv(linear)
        return self.solution.layout.plain(k, xy) - back

    def penalty(self, smoothing: tuple[float, float]) -> FloatArray:
        """Return the diagonal of the penalty."""
        return np.where(self.rough, smoothing[0] + smoothing[1] * self.high, 0.0)

    def apply(self, step: FloatArray) -> None:
        """Add a step, shape (p, k), to the parameters of the solution."""
        raise NotImplementedError

    def maps(self, k: int) -> tuple[IntArray, FloatArray]:
        """
        Return how the map of a frame depends on the unknowns.

        Returns
        -------
        columns : ndarray of int, shape (m,)
        slopes : ndarray, shape (k, size, m)
            Coefficients in the space, grid px, per unknown: of each axis, or of either.
        """
        raise NotImplementedError


def equations_of(
    solution: Solution,
    frame: IntArray,
    track: IntArray,
    xy: FloatArray,
    weight: FloatArray,
    fixed: int | None = None,
) -> Equations:
    """
    Return the normal equations of the maps of frames.

    Parameters
    ----------
    solution : Solution
    frame, track : ndarray of int, shape (N,)
        Of each observation of a star.
    xy : ndarray, shape (N, 2)
        In its frame, px.
    weight : ndarray, shape (N,)
        One over the variance along each axis, on the grid.
    fixed : int, optional
        The frame that stays where it is; by default the one that the layout says. Of others only
        where frames share nothing.

    Returns
    -------
    Equations
    """
    seen = _Observations(frame, track, xy, weight)
    if solution.layout.own:
        return OwnEquations(solution, seen, fixed)
    return SharedEquations(solution, seen)


class OwnEquations(Equations):
    """
    Where no two frames share anything: maps are linear, and both axes have the same matrix.

    A frame is a part of the matrix, coupled with those that show the same stars.
    """

    def __init__(self, solution: Solution, seen: _Observations, fixed: int | None = None) -> None:
        super().__init__(solution, seen)
        lay = solution.layout
        if fixed is None:
            fixed = next((k for k in lay.exposure if lay.exposure[k] == lay.fixed_exposure), None)
        self._free = [k for k in self.frames if k != fixed]
        self._scale = {k: solution.scale(k) * lay.radius for k in self._free}
        inverse, rows, right, known, rough, high = 1 / self.total, {}, [], [], [], []
        blocks: dict[tuple[int, int], FloatArray] = {}
        for n, k in enumerate(self._free):
            mine = self.mine[k]
            slopes, weight = self._slopes(k, self._fitted(k, seen.xy[mine])), seen.weight[mine]
            order = np.argsort(seen.track[mine])
            rows[k] = seen.track[mine][order], (weight[:, np.newaxis] * slopes)[order]
            blocks[n, n] = slopes.T @ (weight[:, np.newaxis] * slopes)
            right.append(-slopes.T @ (weight[:, np.newaxis] * self.residuals[mine]))
            size = slopes.shape[1] - 3
            rough.append(np.arange(size + 3) >= 3)
            high.append(np.append(np.zeros(3), lay.space.roughness.high[:size]))
            now = np.zeros((size + 3, 2))
            if size:
                linear = solution.affine(k)[1:] / self._scale[k]
                now[3:] = solution.rough(lay.camera[k]) @ linear
            known.append(now)
        place, last = np.full(seen.n_tracks, -1), -1
        for a, b in self._pairs(seen):
            (one, of_one), (two, of_two) = rows[self._free[a]], rows[self._free[b]]
            if a != last:  # pairs come sorted by the first
                place[:], last = -1, a
                place[one] = np.arange(len(one))
            at_one = place[two]
            at_two = np.flatnonzero(at_one >= 0)
            common, at_one = two[at_two], at_one[at_two]
            product = of_one[at_one].T @ (inverse[common, np.newaxis] * of_two[at_two])
            blocks[a, b] = blocks[a, b] - product if a == b else -product
        self.matrix = Blocks([len(v) for v in rough], blocks)
        empty = np.zeros((0, 2))
        self.right, self.known = np.concatenate([empty, *right]), np.concatenate([empty, *known])
        self.rough = np.concatenate([np.zeros(0, bool), *rough])
        self.high = np.concatenate([np.zeros(0), *high])

    def _slopes(self, k: int, u: FloatArray) -> FloatArray:
        """Return the derivatives of either axis of a frame's map by its unknowns."""
        plane = np.column_stack((np.ones(len(u)), u))
        if not self.solution.is_bent(k):
            return plane
        return np.hstack((plane, self._scale[k] * self.solution.functions(u)))

    def _pairs(self, seen: _Observations) -> list[tuple[int, int]]:
        """Return the free frames that have stars in common, and each with itself."""
        place = np.full(max(self.frames, default=0) + 1, -1)
        place[self._free] = np.arange(len(self._free))
        part = place[seen.frame]
        good = part >= 0
        shows = sparse.csr_matrix(
            (np.ones(np.count_nonzero(good)), (seen.track[good], part[good])),
            shape=(seen.n_tracks, len(self._free)),
        )
        both = sparse.tril((shows.T @ shows).tocsc()).tocoo()
        order = np.lexsort((both.col, both.row))
        return list(zip(both.row[order].tolist(), both.col[order].tolist(), strict=True))

    def apply(self, step: FloatArray) -> None:
        solution, lay = self.solution, self.solution.layout
        for n, k in enumerate(self._free):
            part = step[self.matrix.columns(n)]
            name = lay.exposure[k]
            bent = solution.is_bent(k)
            if bent:
                new = self.known[self.matrix.columns(n)][3:] + part[3:]
            solution.exposures[name] = solution.exposures[name] + part[:3]
            if bent:
                # what is bent is so before the affine map
                linear = solution.affine(k)[1:] / self._scale[k]
                solution.bend(lay.camera[k], new @ np.linalg.inv(linear))

    def maps(self, k: int) -> tuple[IntArray, FloatArray]:
        space = self.solution.layout.space
        if k not in self._free:
            return np.empty(0, dtype=np.intp), np.zeros((1, space.size, 0))
        columns = np.r_[self.matrix.columns(self._free.index(k))]
        slopes = affine_of(space)
        if self.solution.is_bent(k):
            slopes = np.hstack((slopes, self._scale[k] * self.solution.layout.basis))
        return columns, slopes[np.newaxis]


class SharedEquations(Equations):
    """Where frames share cameras or chips: linear about the solution, both axes in one matrix."""

    def __init__(self, solution: Solution, seen: _Observations) -> None:
        super().__init__(solution, seen)
        self._columns = self._numbered()
        size = max((c.stop for c in self._columns.values()), default=0)
        split = solution.layout.space.roughness
        self.rough, self.high = np.zeros(size, bool), np.zeros(size)
        self.known = np.zeros((size, 1))
        for (kind, name), place in self._columns.items():
            if kind == "camera":
                self.rough[place] = True
                self.high[place] = np.repeat(split.high, 2)
                self.known[place, 0] = solution.rough(name).ravel()
        rows, columns, values = [], [], []
        n, m = len(seen.xy), seen.n_tracks
        for k in self.frames:
            mine = self.mine[k]
            for place, slopes in self._slopes(k, self._fitted(k, seen.xy[mine])):
                index = np.arange(place.start, place.stop)
                for axis in (0, 1):
                    r, c = np.broadcast_arrays((mine + axis * n)[:, np.newaxis], index)
                    rows.append(r.ravel())
                    columns.append(c.ravel())
                    values.append(slopes[axis].ravel())
        none: list[FloatArray] = [np.zeros(0)]
        jacobian = sparse.csr_matrix(
            (
                np.concatenate(none + values),
                (
                    np.concatenate(none + rows).astype(np.intp),
                    np.concatenate(none + columns).astype(np.intp),
                ),
            ),
            shape=(2 * n, size),
        )
        both = np.concatenate((seen.weight, seen.weight))
        stars = np.concatenate((seen.track, seen.track + m))
        sums = sparse.csr_matrix((both, (stars, np.arange(2 * n))), shape=(2 * m, 2 * n)) @ jacobian
        weighted = sparse.diags(both) @ jacobian
        inverse = sparse.diags(1 / np.concatenate((self.total, self.total)))
        normal = (jacobian.T @ weighted - sums.T @ (inverse @ sums)).toarray()
        self.matrix = Blocks([size], {(0, 0): normal})
        self.right = -(weighted.T @ self.residuals.T.ravel())[:, np.newaxis]

    def _numbered(self) -> dict[tuple[str, int], slice]:
        """Return the columns of each part's unknowns."""
        solution, columns, start = self.solution, {}, 0
        lay = solution.layout
        parts = [("exposure", e, 6) for e in sorted({lay.exposure[k] for k in self.frames})]
        parts += [("chip", c, 6) for c in sorted({lay.chip[k] for k in self.frames})]
        if solution.bent:
            size = 2 * (lay.space.size - lay.space.roughness.n_null)
            cameras = sorted({lay.camera[k] for k in self.frames} - lay.straight)
            parts += [("camera", c, size) for c in cameras]
        fixed = {("exposure", lay.fixed_exposure), *(("chip", c) for c in lay.fixed_chips)}
        for kind, name, size in parts:
            if (kind, name) not in fixed:
                columns[kind, name] = slice(start, start + size)
                start += size
        return columns

    def _slopes(self, k: int, u: FloatArray) -> list[tuple[slice, FloatArray]]:
        """Return the derivatives of a frame's map by its parameters: shape (2, N, parameters)."""
        solution, lay = self.solution, self.solution.layout
        name = lay.camera[k]
        phi = None
        if solution.is_bent(k):
            phi = solution.functions(u)
            if name in solution.distortions:
                u = u + lay.space.at(u).evaluate(solution.distortions[name])
        chip, exposure = solution.chips[lay.chip[k]], solution.exposures[lay.exposure[k]]
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

    def apply(self, step: FloatArray) -> None:
        solution = self.solution
        for (kind, name), columns in self._columns.items():
            part = step[columns, 0].reshape(-1, 2)
            if kind == "exposure":
                solution.exposures[name] = solution.exposures[name] + part
            elif kind == "chip":
                solution.chips[name] = solution.chips[name] + part
            else:
                solution.bend(name, self.known[columns, 0].reshape(-1, 2) + part)

    def maps(self, k: int) -> tuple[IntArray, FloatArray]:
        lay = self.solution.layout
        space = lay.space
        (x0, x1), (y0, y1) = space.bounds
        x, y = np.meshgrid(np.linspace(x0, x1, 2 * space.n_x), np.linspace(y0, y1, 2 * space.n_y))
        points = np.column_stack((x.ravel(), y.ravel()))
        parts = self._slopes(k, points)
        if not parts:
            return np.empty(0, dtype=np.intp), np.zeros((2, space.size, 0))
        columns = np.concatenate([np.r_[place] for place, _ in parts])
        rows = np.concatenate([r for _, r in parts], axis=2)
        inverse = np.linalg.pinv(space.at(points).evaluate(np.eye(space.size)), rcond=1e-12)
        return columns, inverse @ rows

    def camera(self, name: int) -> tuple[IntArray, FloatArray]:
        """Return the columns and slopes of a camera's distortion alone, as `maps`, in radii."""
        place = self._columns["camera", name]
        basis = self.solution.layout.basis
        slopes = np.einsum("sm,bc->csmb", basis, np.eye(2)).reshape(2, len(basis), -1)
        return np.r_[place], slopes
