"""Inner loops of the search for peaks: private to `spalipy_astro.detection`."""

from __future__ import annotations

import numpy as np

from spalipy_astro._loops._parts import part, vectorized

__all__ = ["strip_peaks"]

_PIECE = 512


@vectorized
def _mesh_line(mesh, row, cell_y, out):
    """Interpolate a plane of the mesh to an image row, at the mesh's columns."""
    my = mesh.shape[0]
    f = min(max((row + 0.5) / cell_y - 0.5, 0.0), my - 1.0)
    i = min(int(f), max(my - 2, 0))
    t = np.float32(f - i)
    j = min(i + 1, my - 1)
    for k in range(mesh.shape[1]):
        out[k] = mesh[i, k] + t * (mesh[j, k] - mesh[i, k])


@vectorized
def _normalize_piece(row, part, l0, l1, n0, n1, out):
    """Subtract the sky and divide by the noise between two columns of the mesh."""
    for x in range(out.size):
        t = part[x]
        out[x] = (row[x] - (l0 + t * l1)) * (n0 + t * n1)


@vectorized
def _normalize(row, level, noise, edges, part_x, out):
    """Subtract the sky and divide by the noise; both are linear between the mesh's columns."""
    top = level.size - 1
    for k in range(edges.size - 1):
        j = min(k + 1, top)
        here = slice(edges[k], edges[k + 1])
        n0 = np.float32(1) / noise[k]
        n1 = np.float32(1) / noise[j] - n0
        _normalize_piece(row[here], part_x[here], level[k], level[j] - level[k], n0, n1, out[here])


@vectorized
def _count_bad(row):
    """Count NaN and infinite values."""
    n = np.float32(0)
    for x in range(row.size):
        n += np.float32(0) if row[x] - row[x] == np.float32(0) else np.float32(1)
    return n


@vectorized
def _scale(values, weight, out):
    """Start a sum."""
    for x in range(out.size):
        out[x] = weight * values[x]


@vectorized
def _add_pair(left, right, weight, out):
    """Add to a sum; on slices from 0, which unlike offsets can be vectorized."""
    for x in range(out.size):
        out[x] += weight * (left[x] + right[x])


@vectorized
def _add_one(values, weight, out):
    """Add to a sum."""
    for x in range(out.size):
        out[x] += weight * values[x]


@vectorized
def _smooth_row(padded, kernel, out):
    """Convolve a row that has a margin on both sides, in pieces that fit the nearest cache."""
    radius = kernel.size // 2
    nx = out.size
    for start in range(0, nx, _PIECE):
        piece = out[start : start + _PIECE]
        n = piece.size
        center = start + radius
        _scale(padded[center : center + n], kernel[radius], piece)
        for k in range(1, radius + 1):
            left = padded[center - k : center - k + n]
            _add_pair(left, padded[center + k : center + k + n], kernel[radius + k], piece)


@vectorized
def _smooth_columns(rows, n_rows, kernel, i, out):
    """Convolve along columns for row ``i`` of some; beyond the ends there is nothing."""
    radius = kernel.size // 2
    nx = out.size
    for start in range(0, nx, _PIECE):
        stop = min(start + _PIECE, nx)
        piece = out[start:stop]
        _scale(rows[i, start:stop], kernel[radius], piece)
        for k in range(1, radius + 1):
            weight = kernel[radius + k]
            if i >= k and i + k < n_rows:
                _add_pair(rows[i - k, start:stop], rows[i + k, start:stop], weight, piece)
            elif i >= k:
                _add_one(rows[i - k, start:stop], weight, piece)
            elif i + k < n_rows:
                _add_one(rows[i + k, start:stop], weight, piece)


@vectorized
def _largest(values):
    """Return the largest of some finite values."""
    top = values[0]
    for x in range(values.size):
        top = values[x] if values[x] > top else top
    return top


@part
def _row_peaks(above, here, below, threshold, row, position, significance, n):
    """Append the local maxima of a row; the lines have a margin of one on both sides."""
    nx = here.size - 2
    for start in range(1, nx + 1, 64):
        stop = min(start + 64, nx + 1)
        if _largest(here[start:stop]) <= threshold:
            continue
        for x in range(start, stop):
            s = here[x]
            if (
                s > threshold
                and n < significance.size
                and s > here[x - 1]
                and s >= here[x + 1]
                and s > above[x - 1]
                and s > above[x]
                and s > above[x + 1]
                and s >= below[x - 1]
                and s >= below[x]
                and s >= below[x + 1]
            ):
                position[n, 0] = row
                position[n, 1] = x - 1
                significance[n] = s
                n += 1
    return n


def strip_peaks(
    strip,
    first,
    start,
    stop,
    kernel,
    square,
    threshold,
    level,
    noise,
    cell_y,
    edges,
    part_x,
    work,
    position,
    significance,
    number,
):
    """
    Normalize, smooth and search one strip of rows.

    Parameters
    ----------
    strip : (rows, nx) array
        The pixels, with some rows more than are searched.
    first, start, stop : int
        Row of the image that the strip begins with, the first to search, and the last + 1.
    kernel, square : arrays of odd size
        What to convolve with, and its square.
    threshold : float32
        Smallest significance.
    level, noise : (my, mx) arrays
        Mesh of the sky.
    cell_y : float
        Height of its cells.
    edges, part_x : (mx,) and (nx,) arrays
        Columns between which the same points of the mesh count; place of each between these.
    work : (level_line, noise_line, padded, ones, lines, norm, whole_row, smooth, weight)
        To work in: twice (mx,), twice (nx + 2 radius,), (3, nx + 2), twice (nx,) and twice
        (rows, nx), all float32.
    position, significance : (n, 2) and (n,) arrays
        The peaks, as ``(row, column)``.
    number : (1,) array
        How many there are.
    """
    level_line, noise_line, padded, ones, lines, norm, whole_row, smooth, weight = work
    n_rows, nx = strip.shape
    radius = kernel.size // 2
    padded[:] = ones[:] = lines[:] = np.float32(0)
    inner = padded[radius : radius + nx]
    ones[radius : radius + nx] = np.float32(1)
    _smooth_row(ones, square, whole_row)
    any_bad = False
    for i in range(n_rows):
        _mesh_line(level, first + i, cell_y, level_line)
        _mesh_line(noise, first + i, cell_y, noise_line)
        _normalize(strip[i], level_line, noise_line, edges, part_x, inner)
        if _count_bad(inner) > 0:
            if not any_bad:
                any_bad = True
                for j in range(n_rows):
                    _scale(whole_row, np.float32(1), weight[j])
            ones[radius : radius + nx] = np.float32(1)
            for x in range(nx):
                if not inner[x] - inner[x] == np.float32(0):
                    inner[x] = np.float32(0)
                    ones[x + radius] = np.float32(0)
            _smooth_row(ones, square, weight[i])
        _smooth_row(padded, kernel, smooth[i])
    whole = np.float32(0)
    for k in range(square.size):
        whole += square[k]
    whole *= whole
    if not any_bad:
        for x in range(nx):
            norm[x] = np.float32(1) / np.sqrt(whole_row[x])
    n = np.int64(0)
    low = max(start - 1, first) - first
    high = min(stop + 1, first + n_rows) - first
    for i in range(low, high + 1):
        line = lines[i % 3]
        inner = line[1 : nx + 1]
        if i == high:
            line[:] = np.float32(0)
        else:
            _smooth_columns(smooth, n_rows, kernel, i, inner)
            if any_bad:
                _smooth_columns(weight, n_rows, square, i, whole_row)
                for x in range(nx):
                    w = whole_row[x]
                    inner[x] = inner[x] / np.sqrt(w) if w > 0.4 * whole else np.float32(0)
            else:
                inside = np.float32(0)
                for k in range(max(-radius, -i), min(radius, n_rows - 1 - i) + 1):
                    inside += square[radius + k]
                factor = np.float32(1) / np.sqrt(inside)
                for x in range(nx):
                    inner[x] *= factor * norm[x]
        row = first + i - 1
        if i > low and start <= row < stop:
            n = _row_peaks(
                lines[(i - 2) % 3],
                lines[(i - 1) % 3],
                line,
                threshold,
                row,
                position,
                significance,
                n,
            )
    number[0] = n
