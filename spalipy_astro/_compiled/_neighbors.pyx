# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled loops of neighbors: arrays checked, and handed to C."""

include "arrays.pxi"


cdef extern from "src/strips.h" nogil:
    ctypedef struct Strips:
        Py_ssize_t size, strips
        const double *x
        const double *y
        const int64_t *numbers
        const int64_t *starts
        const double *low
        const double *high

    void c_nearest_points "nearest_points"(
        const Strips *, const double *, const double *, Py_ssize_t, Py_ssize_t, int64_t *, double *)
    void c_count_points "count_points"(
        const Strips *, const double *, const double *, const double *, Py_ssize_t, int64_t *)
    int c_list_points "list_points"(
        const Strips *, const double *, const double *, const double *, Py_ssize_t,
        const int64_t *, int64_t *, Py_ssize_t)


cdef tuple DOUBLE = ("float64",)
cdef tuple INTEGER = ("int64",)


cdef int set_strips(Strips *strips, Arrays arrays, tuple given) except -1:
    """Enter points in strips."""
    cdef Py_buffer *x = arrays.take(given[0], "strips[0]", DOUBLE, 1)
    cdef Py_buffer *y = arrays.take(given[1], "strips[1]", DOUBLE, 1)
    cdef Py_buffer *numbers = arrays.take(given[2], "strips[2]", INTEGER, 1)
    cdef Py_buffer *starts = arrays.take(given[3], "strips[3]", INTEGER, 1)
    cdef Py_buffer *low = arrays.take(given[4], "strips[4]", DOUBLE, 1)
    cdef Py_buffer *high = arrays.take(given[5], "strips[5]", DOUBLE, 1)
    strips.size, strips.strips = x.shape[0], low.shape[0]
    if strips.strips < 1:
        raise ValueError("strips must be one or more, got none")
    expect(y, "strips[1]", (strips.size,))
    expect(numbers, "strips[2]", (strips.size,))
    expect(starts, "strips[3]", (strips.strips + 1,))
    expect(high, "strips[5]", (strips.strips,))
    strips.x, strips.y = <const double *>x.buf, <const double *>y.buf
    strips.numbers, strips.starts = <const int64_t *>numbers.buf, <const int64_t *>starts.buf
    strips.low, strips.high = <const double *>low.buf, <const double *>high.buf
    cdef Py_ssize_t k
    for k in range(strips.strips):
        if not 0 <= strips.starts[k] <= strips.starts[k + 1] <= strips.size:
            check(OUT_OF_BOUNDS, "strips[3]")
    return 0


def nearest_points(tuple strips, object x, object y, object numbers, object squares):
    """Find the nearest points of places; see `spalipy_astro._compiled`."""
    cdef Strips points
    cdef Arrays arrays = Arrays()
    set_strips(&points, arrays, strips)
    cdef Py_buffer *across = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *up = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *found = arrays.take(numbers, "numbers", INTEGER, 2, writable=True)
    cdef Py_buffer *far = arrays.take(squares, "squares", DOUBLE, 2, writable=True)
    expect(up, "y", (across.shape[0],))
    expect(found, "numbers", (across.shape[0], None))
    expect(far, "squares", (across.shape[0], found.shape[1]))
    if found.shape[1] < 1:
        raise ValueError("numbers must have one column or more, got none")
    with nogil:
        c_nearest_points(
            &points, <const double *>across.buf, <const double *>up.buf, across.shape[0],
            found.shape[1], <int64_t *>found.buf, <double *>far.buf)


def count_points(tuple strips, object x, object y, object reach, object counts):
    """Count the points within reach of places; see `spalipy_astro._compiled`."""
    cdef Strips points
    cdef Arrays arrays = Arrays()
    set_strips(&points, arrays, strips)
    cdef Py_buffer *across = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *up = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *most = arrays.take(reach, "reach", DOUBLE, 1)
    cdef Py_buffer *found = arrays.take(counts, "counts", INTEGER, 1, writable=True)
    expect(up, "y", (across.shape[0],))
    expect(most, "reach", (across.shape[0],))
    expect(found, "counts", (across.shape[0],))
    with nogil:
        c_count_points(
            &points, <const double *>across.buf, <const double *>up.buf,
            <const double *>most.buf, across.shape[0], <int64_t *>found.buf)


def list_points(tuple strips, object x, object y, object reach, object pointer, object numbers):
    """List the points within reach of places, as counted; see `spalipy_astro._compiled`."""
    cdef Strips points
    cdef Arrays arrays = Arrays()
    set_strips(&points, arrays, strips)
    cdef Py_buffer *across = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *up = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *most = arrays.take(reach, "reach", DOUBLE, 1)
    cdef Py_buffer *first = arrays.take(pointer, "pointer", INTEGER, 1)
    cdef Py_buffer *found = arrays.take(numbers, "numbers", INTEGER, 1, writable=True)
    expect(up, "y", (across.shape[0],))
    expect(most, "reach", (across.shape[0],))
    expect(first, "pointer", (across.shape[0] + 1,))
    cdef int status
    with nogil:
        status = c_list_points(
            &points, <const double *>across.buf, <const double *>up.buf,
            <const double *>most.buf, across.shape[0], <const int64_t *>first.buf,
            <int64_t *>found.buf, found.shape[0])
    check(status, "list_points")
