"""Large symmetric positive matrices whose parts are coupled to their neighbors only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, shortest_path

__all__ = ["Blocks", "Factored", "levels_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_LEAST = 200  # unknowns of a level: smaller ones cost as much time
_RIDGE = 1e-12  # of the diagonal: rounding must not make a matrix indefinite


def levels_of(n: int, pairs: IntArray) -> list[list[int]]:
    """
    Arrange parts in levels, each coupled with the ones before and after it only.

    Parameters
    ----------
    n : int
        Number of parts.
    pairs : ndarray of int, shape (P, 2)
        Parts that are coupled.

    Returns
    -------
    list of list of int
        By distance in the graph from a part at its edge, as in the ordering of Cuthill & McKee
        (1969, Proc. 24th Nat. Conf. ACM, 157, doi:10.1145/800195.805928).
    """
    ones = np.ones(len(pairs))
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    label = connected_components(graph, directed=False)[1]
    levels: list[list[int]] = []
    for name in np.unique(label):
        members = np.flatnonzero(label == name)
        part = graph[members][:, members]
        start = 0
        for _ in range(3):  # twice to the farthest: from there the levels are narrow
            far = shortest_path(part, directed=False, unweighted=True, indices=start)
            start = int(np.argmax(far))
        levels += [members[far == k].tolist() for k in range(int(far.max()) + 1)]
    return levels


class Blocks:
    """
    A symmetric matrix of coupled parts.

    Parameters
    ----------
    sizes : sequence of int
        Number of unknowns of each part.
    blocks : mapping of (int, int) to ndarray
        For parts ``(a, b)`` with a >= b what couples them; of all others it is zero.
    """

    def __init__(self, sizes: Sequence[int], blocks: Mapping[tuple[int, int], FloatArray]) -> None:
        self.sizes, self.blocks = list(sizes), blocks
        self.start = np.cumsum([0, *self.sizes]).tolist()
        pairs = np.array([p for p in blocks if p[0] != p[1]], dtype=np.intp).reshape(-1, 2)
        self.levels: list[list[int]] = []
        for level in levels_of(len(self.sizes), pairs):
            if self.levels and sum(self.sizes[k] for k in (*self.levels[-1], *level)) <= _LEAST:
                self.levels[-1] += level
            else:
                self.levels.append(level)

    @property
    def size(self) -> int:
        """Number of all unknowns."""
        return int(self.start[-1])

    def columns(self, part: int) -> slice:
        """Return the places of the unknowns of a part."""
        return slice(self.start[part], self.start[part + 1])

    def diagonal(self) -> FloatArray:
        """Return the diagonal."""
        return np.concatenate(
            [np.diag(self.blocks[k, k]) for k in range(len(self.sizes))] or [np.zeros(0)]
        )

    def dense(self) -> FloatArray:
        """Return the whole matrix."""
        return self.part_of(range(len(self.sizes)), range(len(self.sizes)))

    def part_of(self, rows: Sequence[int], columns: Sequence[int]) -> FloatArray:
        """Return the blocks of some parts with some others."""
        places = []
        for parts in (rows, columns):
            ends = np.cumsum([0, *(self.sizes[k] for k in parts)]).tolist()
            places.append({k: slice(*ends[n : n + 2]) for n, k in enumerate(parts)})
        first, second = places
        shape = [sum(self.sizes[k] for k in parts) for parts in (rows, columns)]
        out = np.zeros(shape)
        for (a, b), block in self.blocks.items():
            if a in first and b in second:
                out[first[a], second[b]] = block
            if a != b and b in first and a in second:
                out[first[b], second[a]] = block.T
        return out


class Factored:
    """
    A matrix of blocks plus a diagonal, factored level by level (block Cholesky).

    Parameters
    ----------
    matrix : Blocks
    diagonal : ndarray, shape (p,)
        To be added.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite.
    """

    def __init__(self, matrix: Blocks, diagonal: FloatArray) -> None:
        self.matrix = matrix
        self._scale = 1 / np.sqrt(np.maximum(matrix.diagonal() + diagonal, 1e-300))
        self._columns = [
            np.concatenate([np.r_[matrix.columns(k)] for k in level]) for level in matrix.levels
        ]
        self._lower: list[FloatArray] = []
        self._before: list[FloatArray] = []
        above: list[int] = []
        for level, columns in zip(matrix.levels, self._columns, strict=True):
            scale = self._scale[columns]
            block = matrix.part_of(level, level)
            block[np.diag_indices_from(block)] += diagonal[columns]
            block *= scale[:, np.newaxis] * scale
            block[np.diag_indices_from(block)] += _RIDGE
            if above:
                outer = scale[:, np.newaxis] * self._scale[self._columns[len(self._lower) - 1]]
                cross = matrix.part_of(level, above) * outer
                before = linalg.solve_triangular(self._lower[-1], cross.T, lower=True).T
                block -= before @ before.T
                self._before.append(before)
            self._lower.append(linalg.cholesky(block, lower=True, overwrite_a=True))
            above = level

    def solve(self, right: FloatArray) -> FloatArray:
        """Return the solution for right-hand sides, shape (p, k)."""
        scaled = self._scale[:, np.newaxis] * right
        parts: list[FloatArray] = []
        for n, (columns, lower) in enumerate(zip(self._columns, self._lower, strict=True)):
            part = scaled[columns]
            if n:
                part = part - self._before[n - 1] @ parts[-1]
            parts.append(linalg.solve_triangular(lower, part, lower=True))
        out = np.empty_like(scaled)
        for n in range(len(parts) - 1, -1, -1):
            part = parts[n]
            if n + 1 < len(parts):
                part = part - self._before[n].T @ parts[n + 1]
            parts[n] = linalg.solve_triangular(self._lower[n], part, lower=True, trans=1)
            out[self._columns[n]] = parts[n]
        return self._scale[:, np.newaxis] * out

    def inverse_blocks(self) -> list[FloatArray]:
        """
        Return the inverse within each part.

        Notes
        -----
        From the last level back (Takahashi et al. 1973, 8th PICA Conf., 63), so that no more of
        the inverse is made than is asked for.
        """
        found: list[FloatArray] = [np.zeros((0, 0))] * len(self.matrix.sizes)
        below: FloatArray | None = None
        for n in range(len(self._lower) - 1, -1, -1):
            inner = np.eye(len(self._lower[n]))
            if below is not None:
                inner += self._before[n].T @ below @ self._before[n]
            half = linalg.solve_triangular(self._lower[n], inner, lower=True, trans=1)
            below = linalg.solve_triangular(self._lower[n], half.T, lower=True, trans=1)
            scale, start = self._scale[self._columns[n]], 0
            for k in self.matrix.levels[n]:
                place = slice(start, start + self.matrix.sizes[k])
                found[k] = below[place, place] * np.outer(scale[place], scale[place])
                start = place.stop
        return found

    def inverse_of(self, columns: IntArray) -> FloatArray:
        """Return the inverse for some unknowns, shape (k, k)."""
        right = np.zeros((self.matrix.size, len(columns)))
        right[columns, np.arange(len(columns))] = 1.0
        out = self.solve(right)[columns]
        return (out + out.T) / 2
