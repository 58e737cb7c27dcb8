"""All maps of a group by one least-squares solution, and their errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spalipy_astro.errors import FormatError
from spalipy_astro.groups._blocks import Blocks, Factored
from spalipy_astro.groups._equations import Equations, equations_of
from spalipy_astro.groups._smoothness import PRIOR_COUNT, choose, least_excluded
from spalipy_astro.groups._solution import Solution

__all__ = ["JointErrors", "Solved", "place_group", "solve_group"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_CLIP = 17.0  # squared distance in units of its variance: one good star in 5000 is lost
_START = (1e8, 1e2)  # weights of the penalties before they are known
_STRICT = 2  # the round from which on what is used must agree
_CHOICES = (1, 3)  # rounds before which it is chosen how smooth distortions are
_LAST = 8  # rounds at most
_ENOUGH = 16  # frames whose distortions show how smooth those of all are


@dataclass(frozen=True)
class JointErrors:
    """
    The errors of all maps of a group, and how they go together.

    Attributes
    ----------
    matrix : Blocks
        The inverse of the covariance of all unknowns, for a variance of 1.
    noise : float
        Their variance.
    maps : dict of int to (ndarray, ndarray)
        Of each frame the unknowns, shape (m,), and the coefficients of its map per unknown, shape
        (k, size, m): for each axis, or for either.
    """

    matrix: Blocks
    noise: float
    maps: Mapping[int, tuple[IntArray, FloatArray]]

    def factors(self, *frames: int) -> list[FloatArray]:
        """
        Return the covariance of the maps of some frames as factors.

        Parameters
        ----------
        *frames : int

        Returns
        -------
        list of ndarray, shape (size, M)
            For each frame. Their products with the functions of the space are errors in px of the
            grid, of either axis on average; a column is one independent error of all frames.
        """
        columns = np.unique(np.concatenate([self.maps[k][0] for k in frames]))
        if not columns.size:
            return [np.zeros((self.maps[k][1].shape[1], 1)) for k in frames]
        return self._of(frames, columns, self.covariance(columns))

    def covariance(self, columns: IntArray) -> FloatArray:
        """Return the covariance of some unknowns, shape (m, m), for a variance of 1."""
        return self._factored.inverse_of(columns)

    @cached_property
    def _factored(self) -> Factored:
        return Factored(self.matrix, np.zeros(self.matrix.size))

    def _of(
        self, frames: tuple[int, ...], columns: IntArray, covariance: FloatArray
    ) -> list[FloatArray]:
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
        found = []
        for k in frames:
            own, slopes = self.maps[k]
            mine = root[np.searchsorted(columns, own)]
            axes = np.sqrt(self.noise / len(slopes)) * (slopes @ mine)
            found.append(np.concatenate(axes, axis=1))
        return found

    def each(self, inverse: list[FloatArray]) -> dict[int, FloatArray]:
        """Return the factor of each frame from the inverse within each part of the matrix."""
        found = {}
        ends = np.array(self.matrix.start[1:])
        for k, (own, slopes) in self.maps.items():
            if not own.size:
                found[k] = np.zeros((slopes.shape[1], 1))
                continue
            part = int(np.searchsorted(ends, own[0], side="right"))
            columns = np.sort(own)
            place = columns - self.matrix.start[part]
            found[k] = self._of((k,), columns, inverse[part][np.ix_(place, place)])[0]
        return found

    def to_tree(self) -> dict[str, Any]:
        """Return its contents for an ASDF file."""
        return {
            "sizes": list(self.matrix.sizes),
            "pairs": [list(pair) for pair in self.matrix.blocks],
            "blocks": np.concatenate(
                [np.zeros(0), *(block.ravel() for block in self.matrix.blocks.values())]
            ),
            "noise": self.noise,
            "frames": list(self.maps),
            "columns": [columns for columns, _ in self.maps.values()],
            "slopes": [slopes for _, slopes in self.maps.values()],
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> JointErrors:
        """Rebuild from the contents of an ASDF file."""
        sizes, blocks, start = [int(n) for n in tree["sizes"]], {}, 0
        for a, b in tree["pairs"]:
            end = start + sizes[a] * sizes[b]
            blocks[int(a), int(b)] = np.array(tree["blocks"][start:end]).reshape(sizes[a], sizes[b])
            start = end
        maps = {
            int(k): (np.array(columns, dtype=np.intp), np.array(slopes, dtype=float))
            for k, columns, slopes in zip(
                tree["frames"], tree["columns"], tree["slopes"], strict=True
            )
        }
        for k, (columns, slopes) in maps.items():
            if slopes.ndim != 3 or columns.shape != slopes.shape[2:]:
                raise FormatError(
                    f"the errors of frame {k} have unknowns of shape {columns.shape} and "
                    f"coefficients of shape {slopes.shape}."
                )
            if columns.size and not 0 <= columns.min() <= columns.max() < sum(sizes):
                raise FormatError(f"the errors of frame {k} name unknowns that there are not.")
        if len({slopes.shape[1] for _, slopes in maps.values()}) > 1:
            raise FormatError("the errors of frames have different numbers of coefficients.")
        return cls(Blocks(sizes, blocks), float(tree["noise"]), maps)


@dataclass(frozen=True)
class Solved:
    """
    What comes of a solution besides its maps.

    Attributes
    ----------
    used : ndarray of bool, shape (N,)
        Observations that were used.
    equations : Equations
        About the solution.
    errors : JointErrors
    each : dict of int to ndarray, shape (size, M)
        Of each frame's map the factor of the covariance.
    """

    used: NDArray[np.bool_]
    equations: Equations
    errors: JointErrors
    each: dict[int, FloatArray]


def place_group(
    solution: Solution,
    frame: IntArray,
    track: IntArray,
    positions: FloatArray,
    errors: FloatArray,
    *,
    bent: bool,
) -> None:
    """
    Improve all maps, so well that stars can be told from their neighbors by them.

    Parameters
    ----------
    solution, frame, track, positions, errors, bent
        As for `solve_group`.
    """
    _Rounds(solution, frame, track, positions, errors).run(bent=bent, draft=True)


def solve_group(
    solution: Solution,
    frame: IntArray,
    track: IntArray,
    positions: FloatArray,
    errors: FloatArray,
    *,
    bent: bool,
) -> Solved:
    """
    Solve for all maps at once; the solution is changed.

    Parameters
    ----------
    solution : Solution
        To start from. Where it has distortions that were solved for, its maps are good already.
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
    Solved

    Notes
    -----
    Gauss-Newton. Each star's position on the grid is an unknown of its own that is eliminated
    (Schur's complement), so that the errors of all its observations count. Distortions are
    penalized splines; they are zero where the likelihood is largest without them. Where each frame
    has its own, sixteen neighbors tell how smooth they are.
    """
    rounds = _Rounds(solution, frame, track, positions, errors)
    used, step = rounds.run(bent=bent)
    if bent and not solution.bent and not solution.layout.own:
        # what a camera may have that its frames do not show is uncertain of all of them
        solution.bent = True
        equations = rounds.equations(used)
        solution.smoothing = least_excluded(equations)
        step = _Step(equations, solution.smoothing)
    return _described(solution, step, used)


class _Step:
    """The equations with their penalties, factored."""

    def __init__(self, equations: Equations, smoothing: tuple[float, float]) -> None:
        self.equations, self.penalty = equations, equations.penalty(smoothing)
        self.factored = Factored(equations.matrix, self.penalty)

    def take(self) -> None:
        """Add what solves the equations to the solution that they are about."""
        known = self.penalty[:, np.newaxis] * self.equations.known
        self.equations.apply(self.factored.solve(self.equations.right - known))


class _Rounds:
    """Rounds of a solution: a step of all maps, then the choice of observations that agree."""

    def __init__(
        self,
        solution: Solution,
        frame: IntArray,
        track: IntArray,
        xy: FloatArray,
        errors: FloatArray,
    ) -> None:
        self._solution, self._frame, self._track, self._xy = solution, frame, track, xy
        self._mine = {int(k): np.flatnonzero(frame == k) for k in np.unique(frame)}
        # weights that followed the solution would let frames shrink, step by step
        self._sigma = errors.copy()  # px of the grid
        for k, mine in self._mine.items():
            self._sigma[mine] *= solution.scale(k)
        self._weight = self._sigma**-2.0

    def run(self, *, bent: bool, draft: bool = False) -> tuple[NDArray[np.bool_], _Step]:
        """Return which observations are used in the end, and the last step."""
        solution, smoothing = self._solution, _START
        used = np.bincount(self._track)[self._track] > 1
        n, last = 0, _LAST
        if bent and solution.bent and solution.distortions:
            n, smoothing = max(_CHOICES), solution.smoothing
            used = self._agreeing(used, gentle=False)
        elif draft and solution.layout.own:  # whose maps are linear: no step is needed twice
            last = _STRICT + 1
        if bent:
            solution.bent = True
        else:
            solution.straighten()
        while True:
            if solution.bent and n in _CHOICES:
                best = choose(self._sample(used))
                if best is None:
                    solution.straighten()
                else:
                    smoothing = best
            step = _Step(self.equations(used), smoothing)
            step.take()
            before, used = used, self._agreeing(used, gentle=n < _STRICT)
            n += 1
            if n == last or (n > max(_CHOICES) + 1 and np.array_equal(before, used)):
                solution.smoothing = smoothing if solution.bent else (np.inf, np.inf)
                return used, step
            del step  # the most of the memory of a large group

    def equations(self, used: NDArray[np.bool_], fixed: int | None = None) -> Equations:
        """Return the equations by some of the observations."""
        return equations_of(
            self._solution,
            self._frame[used],
            self._track[used],
            self._xy[used],
            self._weight[used],
            fixed,
        )

    def _sample(self, used: NDArray[np.bool_]) -> Equations:
        """Return the equations of as many frames as show how smooth distortions are."""
        lay, frame, track = self._solution.layout, self._frame, self._track
        names, count = np.unique(frame[used], return_counts=True)
        if not lay.own or len(names) <= _ENOUGH:
            return self.equations(used)
        # those that share most stars with the one of most stars, itself among them
        hub = names[int(np.argmax(count))]
        hers = np.zeros(int(track.max()) + 1, bool)
        hers[track[used & (frame == hub)]] = True
        shared = np.bincount(frame[used & hers[track]], minlength=int(names[-1]) + 1)[names]
        near = names[np.argsort(-shared, kind="stable")[:_ENOUGH]]
        good = used & np.isin(frame, near)
        good &= np.bincount(track[good], minlength=len(hers))[track] > 1
        has_gauge = any(lay.exposure[int(k)] == lay.fixed_exposure for k in near)
        return self.equations(good, fixed=None if has_gauge else int(hub))

    def _agreeing(self, used: NDArray[np.bool_], *, gentle: bool) -> NDArray[np.bool_]:
        """Return the observations that agree with their tracks; the worst of a track goes first."""
        track, image = self._track, np.empty_like(self._xy)
        for k, mine in self._mine.items():
            image[mine] = self._solution.apply(k, self._xy[mine])
        limit = None
        while True:
            weight = np.where(used, self._weight, 0.0)
            total = np.bincount(track, weight)
            sums = np.column_stack([np.bincount(track, weight * v) for v in image.T])
            mean = sums / np.maximum(total, 1e-300)[:, np.newaxis]
            gap2 = np.sum((image - mean[track]) ** 2, axis=1)
            share = np.clip(1 - weight / np.maximum(total[track], 1e-300), 1e-3, 1.0)
            distance2 = np.where(used, gap2 / (self._sigma**2 * share), 0.0)
            if limit is None:
                typical = float(np.median(distance2[used])) / (2 * np.log(2.0)) if used.any() else 1
                limit = _CLIP * max(1.0, typical) * (4.0 if gentle else 1.0)
            worst = np.zeros(len(total))
            np.maximum.at(worst, track, distance2)
            good = used & ~((distance2 > limit) & (distance2 >= worst[track] * (1 - 1e-9)))
            good &= np.bincount(track, good)[track] > 1
            if np.array_equal(good, used):
                return used
            used = good


def _described(solution: Solution, step: _Step, used: NDArray[np.bool_]) -> Solved:
    """Return the errors of a solution, and write into it how free it is and how noisy."""
    equations, penalty = step.equations, step.penalty
    inverse = step.factored.inverse_blocks()
    axes = equations.right.shape[1]
    diagonal = np.concatenate([np.zeros(0), *(np.diag(block) for block in inverse)])
    free = axes * (len(penalty) - float(penalty @ diagonal))
    dof = max(equations.n_values - free, 0.0)
    solution.freedom = free
    solution.noise = max(1.0, (equations.chi2 + PRIOR_COUNT) / (dof + PRIOR_COUNT))
    blocks = dict(equations.matrix.blocks)
    for k in range(len(equations.matrix.sizes)):
        blocks[k, k] = blocks[k, k] + np.diag(penalty[equations.matrix.columns(k)])
    maps = {k: equations.maps(k) for k in sorted(solution.layout.exposure)}
    errors = JointErrors(Blocks(equations.matrix.sizes, blocks), solution.noise, maps)
    return Solved(used, equations, errors, errors.each(inverse))
