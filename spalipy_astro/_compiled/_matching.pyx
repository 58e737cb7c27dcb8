# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled loops of matching: arrays checked, and handed to C."""

include "arrays.pxi"


cdef extern from "src/matching.h" nogil:
    const int SIMILARITY
    const int MOST_SHARES

    ctypedef struct Cells:
        Py_ssize_t size, axes, columns, rows, layers
        double left, low, bottom, side
        const double *points
        const int64_t *numbers
        const int64_t *starts

    ctypedef struct Court:
        const double *source
        const double *source_err
        const double *template_err
        const double *density
        const double *frame
        const double *shares
        Py_ssize_t n_source, n_shares
        double bending

    Py_ssize_t c_equal_codes "equal_codes"(
        const Cells *, const double *, Py_ssize_t, double, int64_t *, int64_t *, double *,
        Py_ssize_t)
    int c_witness_scores "witness_scores"(
        const Cells *, const Court *, const double *, const int64_t *, Py_ssize_t,
        const int64_t *, Py_ssize_t, Py_ssize_t, double *)
    void c_count_on_lines "count_on_lines"(
        const double *, const double *, Py_ssize_t, double, double, int64_t *)
    Py_ssize_t c_form_patterns "form_patterns"(
        const int64_t *, Py_ssize_t, Py_ssize_t, int64_t, Py_ssize_t, Py_ssize_t, int64_t *,
        int64_t *)
    int c_encode_patterns "encode_patterns"(
        const double *, Py_ssize_t, int64_t *, Py_ssize_t, Py_ssize_t, double *, double *)
    int c_fit_similarities "fit_similarities"(
        const double *, Py_ssize_t, const double *, Py_ssize_t, const int64_t *, const int64_t *,
        const uint8_t *, Py_ssize_t, Py_ssize_t, double *, double *, double *)


cdef enum:
    LARGEST = 1 << 30

cdef tuple DOUBLE = ("float64",)
cdef tuple INTEGER = ("int64",)
cdef tuple BOOL = ("bool",)


cdef int set_cells(Cells *cells, Arrays arrays, tuple given) except -1:
    """Enter points in cells."""
    (left, low, bottom), side, (columns, rows, layers) = given[3:]
    cdef Py_buffer *points = arrays.take(given[0], "cells[0]", DOUBLE, 2)
    cdef Py_buffer *numbers = arrays.take(given[1], "cells[1]", INTEGER, 1)
    cdef Py_buffer *starts = arrays.take(given[2], "cells[2]", INTEGER, 1)
    cells.size, cells.axes = points.shape[0], points.shape[1]
    cells.left, cells.low, cells.bottom, cells.side = left, low, bottom, side
    if cells.axes < 2:
        raise ValueError(f"cells[0] must have two columns or more, got {cells.axes}")
    expect(numbers, "cells[1]", (cells.size,))
    if min(columns, rows, layers) < 1 or starts.shape[0] != columns * rows * layers + 1:
        raise ValueError(
            f"cells[2] must have {columns} * {rows} * {layers} + 1 numbers, got {starts.shape[0]}")
    if not 0 < cells.side < float("inf"):
        raise ValueError(f"cells[4] must be a positive side, got {side}")
    if cells.axes == 2 and layers != 1:
        raise ValueError(f"cells[5] must have one layer in a plane, got {layers}")
    cells.columns, cells.rows, cells.layers = columns, rows, layers
    cells.points, cells.numbers = <const double *>points.buf, <const int64_t *>numbers.buf
    cells.starts = <const int64_t *>starts.buf
    cdef Py_ssize_t j
    cdef bint good = cells.starts[0] == 0 and cells.starts[starts.shape[0] - 1] == cells.size
    for j in range(starts.shape[0] - 1):
        good &= cells.starts[j] <= cells.starts[j + 1]
    for j in range(cells.size):
        good &= 0 <= cells.numbers[j] < cells.size
    check(DONE if good else OUT_OF_BOUNDS, "cells")
    return 0


def equal_codes(
    tuple cells, object codes, double radius, object row, object index, object distance
):
    """List the pairs of codes within a radius; see `spalipy_astro._compiled`."""
    cdef Cells known
    cdef Arrays arrays = Arrays()
    set_cells(&known, arrays, cells)
    cdef Py_buffer *asked = arrays.take(codes, "codes", DOUBLE, 2)
    cdef Py_buffer *rows = arrays.take(row, "row", INTEGER, 1, writable=True)
    cdef Py_buffer *numbers = arrays.take(index, "index", INTEGER, 1, writable=True)
    cdef Py_buffer *far = arrays.take(distance, "distance", DOUBLE, 1, writable=True)
    expect(asked, "codes", (None, known.axes))
    expect(numbers, "index", (rows.shape[0],))
    expect(far, "distance", (rows.shape[0],))
    cdef Py_ssize_t found
    with nogil:
        found = c_equal_codes(
            &known, <const double *>asked.buf, asked.shape[0], radius, <int64_t *>rows.buf,
            <int64_t *>numbers.buf, <double *>far.buf, rows.shape[0])
    return found


def witness_scores(
    tuple cells, tuple stars, object frame, object shares, double bending, object similarity,
    object witnesses, object pattern, object scores
):
    """Score hypotheses by the stars around their patterns; see `spalipy_astro._compiled`."""
    cdef Cells known
    cdef Court court
    cdef Arrays arrays = Arrays()
    set_cells(&known, arrays, cells)
    cdef Py_buffer *source = arrays.take(stars[0], "stars[0]", DOUBLE, 2)
    cdef Py_buffer *source_err = arrays.take(stars[1], "stars[1]", DOUBLE, 1)
    cdef Py_buffer *template_err = arrays.take(stars[2], "stars[2]", DOUBLE, 1)
    cdef Py_buffer *density = arrays.take(stars[3], "stars[3]", DOUBLE, 1)
    cdef Py_buffer *corners = arrays.take(frame, "frame", DOUBLE, 2)
    cdef Py_buffer *parts = arrays.take(shares, "shares", DOUBLE, 1)
    cdef Py_buffer *maps = arrays.take(similarity, "similarity", DOUBLE, 2)
    cdef Py_buffer *asked = arrays.take(witnesses, "witnesses", INTEGER, 2)
    cdef Py_buffer *own = arrays.take(pattern, "pattern", INTEGER, 2)
    cdef Py_buffer *result = arrays.take(scores, "scores", DOUBLE, 1, writable=True)
    if known.size < 1 or known.axes != 2:
        raise ValueError(f"cells[0] must have the shape (N, 2), got {cells[0].shape}")
    expect(source, "stars[0]", (None, 2))
    expect(source_err, "stars[1]", (source.shape[0],))
    expect(template_err, "stars[2]", (known.size,))
    expect(density, "stars[3]", (known.size,))
    expect(corners, "frame", (2, 2))
    if not 1 <= parts.shape[0] <= MOST_SHARES:
        raise ValueError(f"shares must have 1 to {MOST_SHARES} numbers, got {parts.shape[0]}")
    expect(maps, "similarity", (result.shape[0], SIMILARITY))
    expect(asked, "witnesses", (result.shape[0], None))
    expect(own, "pattern", (result.shape[0], None))
    court.source, court.source_err = <const double *>source.buf, <const double *>source_err.buf
    court.template_err = <const double *>template_err.buf
    court.density, court.frame = <const double *>density.buf, <const double *>corners.buf
    court.shares, court.n_shares = <const double *>parts.buf, parts.shape[0]
    court.n_source, court.bending = source.shape[0], bending
    cdef int status
    with nogil:
        status = c_witness_scores(
            &known, &court, <const double *>maps.buf, <const int64_t *>asked.buf, asked.shape[1],
            <const int64_t *>own.buf, own.shape[1], result.shape[0], <double *>result.buf)
    check(status, "witnesses")


def count_on_lines(object x, object y, double width, double shortest, object counts):
    """Count the points near the line through each two of them; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *across = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *up = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *out = arrays.take(counts, "counts", INTEGER, 1, writable=True)
    cdef Py_ssize_t n = across.shape[0]
    expect(up, "y", (n,))
    expect(out, "counts", (n * (n - 1) // 2,))
    with nogil:
        c_count_on_lines(
            <const double *>across.buf, <const double *>up.buf, n, width, shortest,
            <int64_t *>out.buf)


def form_patterns(object near, int64_t number, object stars, object row):
    """List the patterns of stars and their neighbors; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *neighbors = arrays.take(near, "near", INTEGER, 2)
    cdef Py_buffer *patterns = arrays.take(stars, "stars", INTEGER, 2, writable=True)
    cdef Py_buffer *rows = arrays.take(row, "row", INTEGER, 1, writable=True)
    check_size(patterns, "stars")
    expect(rows, "row", (patterns.shape[0],))
    if not 0 <= number < LARGEST:
        raise ValueError(f"number must be from 0 to {LARGEST - 1}, got {number}")
    cdef Py_ssize_t found
    with nogil:
        found = c_form_patterns(
            <const int64_t *>neighbors.buf, neighbors.shape[0], neighbors.shape[1], number,
            patterns.shape[1], patterns.shape[0], <int64_t *>patterns.buf, <int64_t *>rows.buf)
    check(-<int>found - 1 if found < 0 else DONE, "form_patterns")
    return found


def encode_patterns(object xy, object stars, object codes, object size):
    """Order the stars of patterns, and encode them; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *places = arrays.take(xy, "xy", DOUBLE, 2)
    cdef Py_buffer *patterns = arrays.take(stars, "stars", INTEGER, 2, writable=True)
    cdef Py_buffer *numbers = arrays.take(codes, "codes", DOUBLE, 2, writable=True)
    cdef Py_buffer *sizes = arrays.take(size, "size", DOUBLE, 1, writable=True)
    check_size(patterns, "stars")
    expect(places, "xy", (None, 2))
    expect(numbers, "codes", (patterns.shape[0], 2 * patterns.shape[1] - 4))
    expect(sizes, "size", (patterns.shape[0],))
    cdef int status
    with nogil:
        status = c_encode_patterns(
            <const double *>places.buf, places.shape[0], <int64_t *>patterns.buf,
            patterns.shape[0], patterns.shape[1], <double *>numbers.buf, <double *>sizes.buf)
    check(status, "encode_patterns")


cdef int check_size(const Py_buffer *patterns, str name) except -1:
    """Raise for patterns of other sizes than the loops know."""
    if patterns.shape[1] != 3 and patterns.shape[1] != 4:
        raise ValueError(f"{name} must have three or four columns, got {patterns.shape[1]}")
    return 0


def fit_similarities(
    object source, object template, object p, object q, object flip, object a, object b, object rms
):
    """Fit similarities to pairs of patterns; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *places = arrays.take(source, "source", DOUBLE, 2)
    cdef Py_buffer *images = arrays.take(template, "template", DOUBLE, 2)
    cdef Py_buffer *ones = arrays.take(p, "p", INTEGER, 2)
    cdef Py_buffer *others = arrays.take(q, "q", INTEGER, 2)
    cdef Py_buffer *flips = arrays.take(flip, "flip", BOOL, 1)
    cdef Py_buffer *factors = arrays.take(a, "a", DOUBLE, 2, writable=True)
    cdef Py_buffer *shifts = arrays.take(b, "b", DOUBLE, 2, writable=True)
    cdef Py_buffer *misfits = arrays.take(rms, "rms", DOUBLE, 1, writable=True)
    cdef Py_ssize_t number = ones.shape[0]
    expect(places, "source", (None, 2))
    expect(images, "template", (None, 2))
    expect(others, "q", (number, ones.shape[1]))
    expect(flips, "flip", (number,))
    expect(factors, "a", (number, 2))
    expect(shifts, "b", (number, 2))
    expect(misfits, "rms", (number,))
    cdef int status
    with nogil:
        status = c_fit_similarities(
            <const double *>places.buf, places.shape[0], <const double *>images.buf,
            images.shape[0], <const int64_t *>ones.buf, <const int64_t *>others.buf,
            <const uint8_t *>flips.buf, number, ones.shape[1], <double *>factors.buf,
            <double *>shifts.buf, <double *>misfits.buf)
    check(status, "fit_similarities")
