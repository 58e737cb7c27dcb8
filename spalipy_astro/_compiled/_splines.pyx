# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled loops of splines: arrays checked, and handed to C."""

include "arrays.pxi"


cdef extern from "src/splines.h" nogil:
    const int MOST_FUNCTIONS

    ctypedef struct Basis:
        Py_ssize_t number, order
        double low, step
        const double *values
        const double *slopes

    void c_spline_basis "spline_basis"(
        const Basis *, const double *, Py_ssize_t, int, int64_t *, double *)
    int c_spline_points "spline_points"(
        const Basis *, const Basis *, const double *, const double *, Py_ssize_t, const double *,
        Py_ssize_t, const int64_t *, Py_ssize_t, double *)
    int c_spline_equations "spline_equations"(
        const Basis *, const Basis *, const double *, const double *, const double *, Py_ssize_t,
        const double *, Py_ssize_t, double *, double *)
    void c_spline_sums "spline_sums"(
        const Basis *, const Basis *, const double *, const double *, Py_ssize_t, const double *,
        Py_ssize_t, double *)
    void c_spline_variance "spline_variance"(
        const Basis *, const Basis *, const double *, const double *, Py_ssize_t, const double *,
        double *)


cdef extern from "src/smoothing.h" nogil:
    const int SINGULAR
    const int VALUE_FIGURES
    const int ALL_FIGURES

    ctypedef struct Equations:
        const double *matrix
        const double *right
        const double *roughness
        Py_ssize_t all, size

    int c_penalized_figures "penalized_figures"(
        const Equations *, double, double, int, double *)

    int c_invert_factor "invert_factor"(
        const double *, const double *, Py_ssize_t, double *, double *)


cdef enum:
    LARGEST = 1 << 30

cdef tuple DOUBLE = ("float64",)
cdef tuple INTEGER = ("int64",)


cdef int set_basis(Basis *basis, Arrays arrays, tuple axis, str name) except -1:
    """Enter a basis along an axis."""
    number, low, step, pieces, slopes = axis
    cdef Py_buffer *values = arrays.take(pieces, f"{name}[3]", DOUBLE, 2)
    cdef Py_buffer *changes = arrays.take(slopes, f"{name}[4]", DOUBLE, 2)
    basis.number, basis.low, basis.step, basis.order = number, low, step, values.shape[0]
    if not 1 <= basis.order <= MOST_FUNCTIONS:
        raise ValueError(f"{name} must be of order 1 to {MOST_FUNCTIONS}, got {basis.order}")
    if not basis.order <= basis.number < LARGEST:
        raise ValueError(f"{name} must have {basis.order} functions or more, got {number}")
    expect(values, f"{name}[3]", (basis.order, basis.order))
    expect(changes, f"{name}[4]", (basis.order - 1, basis.order))
    basis.values, basis.slopes = <const double *>values.buf, <const double *>changes.buf
    return 0


def spline_basis(object t, tuple axis, int nu, object first, object weights):
    """Evaluate a spline basis at points; see `spalipy_astro._compiled`."""
    cdef Basis basis
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *points = arrays.take(t, "t", DOUBLE, 1)
    cdef Py_buffer *numbers = arrays.take(first, "first", INTEGER, 1, writable=True)
    cdef Py_buffer *functions = arrays.take(weights, "weights", DOUBLE, 2, writable=True)
    set_basis(&basis, arrays, axis, "axis")
    if nu != 0 and nu != 1:
        raise ValueError(f"nu must be 0 or 1, got {nu}")
    expect(numbers, "first", (points.shape[0],))
    expect(functions, "weights", (points.shape[0], basis.order))
    with nogil:
        c_spline_basis(
            &basis, <const double *>points.buf, points.shape[0], nu, <int64_t *>numbers.buf,
            <double *>functions.buf)


cdef int set_bases(
    Basis *basis_x, Basis *basis_y, Arrays arrays, tuple along_x, tuple along_y
) except -1:
    """Enter the bases along both axes, which must be of one order."""
    set_basis(basis_x, arrays, along_x, "along_x")
    set_basis(basis_y, arrays, along_y, "along_y")
    if basis_x.order != basis_y.order:
        raise ValueError(
            f"both axes must have the same order, got {basis_x.order} and {basis_y.order}")
    return 0


def spline_points(
    object x, object y, tuple along_x, tuple along_y, object coefficients, object terms, object out
):
    """Evaluate splines at points; see `spalipy_astro._compiled`."""
    cdef Basis basis_x, basis_y
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *xs = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *ys = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *planes = arrays.take(coefficients, "coefficients", DOUBLE, 3)
    cdef Py_buffer *which = arrays.take(terms, "terms", INTEGER, 2)
    cdef Py_buffer *values = arrays.take(out, "out", DOUBLE, 2, writable=True)
    set_bases(&basis_x, &basis_y, arrays, along_x, along_y)
    expect(ys, "y", (xs.shape[0],))
    expect(planes, "coefficients", (None, basis_y.number, basis_x.number))
    expect(which, "terms", (None, 3))
    expect(values, "out", (which.shape[0], xs.shape[0]))
    cdef int status
    with nogil:
        status = c_spline_points(
            &basis_x, &basis_y, <const double *>xs.buf, <const double *>ys.buf, xs.shape[0],
            <const double *>planes.buf, planes.shape[0], <const int64_t *>which.buf,
            which.shape[0], <double *>values.buf)
    check(status, "spline_points")


def spline_equations(
    object x, object y, tuple along_x, tuple along_y, object roots, object values, object matrix,
    object right
):
    """Sum up the normal equations of a fit; see `spalipy_astro._compiled`."""
    cdef Basis basis_x, basis_y
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *xs = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *ys = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *factors = arrays.take(roots, "roots", DOUBLE, 1)
    cdef Py_buffer *given = arrays.take(values, "values", DOUBLE, 2)
    cdef Py_buffer *sums = arrays.take(matrix, "matrix", DOUBLE, 2, writable=True)
    cdef Py_buffer *sides = arrays.take(right, "right", DOUBLE, 2, writable=True)
    set_bases(&basis_x, &basis_y, arrays, along_x, along_y)
    cdef Py_ssize_t all = basis_x.number * basis_y.number
    expect(ys, "y", (xs.shape[0],))
    expect(factors, "roots", (xs.shape[0],))
    expect(given, "values", (xs.shape[0], None))
    expect(sums, "matrix", (all, all))
    expect(sides, "right", (all, given.shape[1]))
    cdef int status
    with nogil:
        status = c_spline_equations(
            &basis_x, &basis_y, <const double *>xs.buf, <const double *>ys.buf,
            <const double *>factors.buf, xs.shape[0], <const double *>given.buf, given.shape[1],
            <double *>sums.buf, <double *>sides.buf)
    check(status, "spline_equations")


def spline_sums(object x, object y, tuple along_x, tuple along_y, object values, object out):
    """Sum up values times functions of a basis; see `spalipy_astro._compiled`."""
    cdef Basis basis_x, basis_y
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *xs = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *ys = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *given = arrays.take(values, "values", DOUBLE, 2)
    cdef Py_buffer *sums = arrays.take(out, "out", DOUBLE, 2, writable=True)
    set_bases(&basis_x, &basis_y, arrays, along_x, along_y)
    expect(ys, "y", (xs.shape[0],))
    expect(given, "values", (xs.shape[0], None))
    expect(sums, "out", (basis_x.number * basis_y.number, given.shape[1]))
    with nogil:
        c_spline_sums(
            &basis_x, &basis_y, <const double *>xs.buf, <const double *>ys.buf, xs.shape[0],
            <const double *>given.buf, given.shape[1], <double *>sums.buf)


def spline_variance(
    object x, object y, tuple along_x, tuple along_y, object covariance, object out
):
    """Evaluate the variance of splines at points; see `spalipy_astro._compiled`."""
    cdef Basis basis_x, basis_y
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *xs = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *ys = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *matrix = arrays.take(covariance, "covariance", DOUBLE, 2)
    cdef Py_buffer *values = arrays.take(out, "out", DOUBLE, 1, writable=True)
    set_bases(&basis_x, &basis_y, arrays, along_x, along_y)
    cdef Py_ssize_t all = basis_x.number * basis_y.number
    expect(ys, "y", (xs.shape[0],))
    expect(matrix, "covariance", (all, all))
    expect(values, "out", (xs.shape[0],))
    with nogil:
        c_spline_variance(
            &basis_x, &basis_y, <const double *>xs.buf, <const double *>ys.buf, xs.shape[0],
            <const double *>matrix.buf, <double *>values.buf)


def penalized_figures(
    object matrix, object right, object roughness, Py_ssize_t size, double low, double high,
    object figures
):
    """Sum up what the likelihood of penalties is made of; see `spalipy_astro._compiled`."""
    cdef Equations equations
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *known = arrays.take(matrix, "matrix", DOUBLE, 2)
    cdef Py_buffer *sides = arrays.take(right, "right", DOUBLE, 2)
    cdef Py_buffer *rough = arrays.take(roughness, "roughness", DOUBLE, 1)
    cdef Py_buffer *out = arrays.take(figures, "figures", DOUBLE, 1, writable=True)
    equations.all, equations.size = rough.shape[0], size
    expect(known, "matrix", (equations.all, equations.all))
    expect(sides, "right", (equations.all, 2))
    if not 0 <= size <= equations.all:
        raise ValueError(f"size must be from 0 to {equations.all}, got {size}")
    if out.shape[0] != VALUE_FIGURES and out.shape[0] != ALL_FIGURES:
        raise ValueError(
            f"figures must have {VALUE_FIGURES} or {ALL_FIGURES} numbers, got {out.shape[0]}")
    equations.matrix, equations.right = <const double *>known.buf, <const double *>sides.buf
    equations.roughness = <const double *>rough.buf
    cdef int status
    with nogil:
        status = c_penalized_figures(
            &equations, low, high, out.shape[0] == ALL_FIGURES, <double *>out.buf)
    check(status, "penalized_figures")
    return status != SINGULAR


def invert_factor(object matrix, object right, object half, object upper):
    """Factor equations, and invert the factor; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *known = arrays.take(matrix, "matrix", DOUBLE, 2)
    cdef Py_buffer *sides = arrays.take(right, "right", DOUBLE, 2)
    cdef Py_buffer *solved = arrays.take(half, "half", DOUBLE, 2, writable=True)
    cdef Py_buffer *out = arrays.take(upper, "upper", DOUBLE, 2, writable=True)
    cdef Py_ssize_t size = known.shape[0]
    expect(known, "matrix", (size, size))
    expect(sides, "right", (size, 2))
    expect(solved, "half", (2, size))
    expect(out, "upper", (size, size))
    cdef int status
    with nogil:
        status = c_invert_factor(
            <const double *>known.buf, <const double *>sides.buf, size, <double *>solved.buf,
            <double *>out.buf)
    check(status, "invert_factor")
    return status != SINGULAR
