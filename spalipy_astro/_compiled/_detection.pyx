# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled loops of detection: arrays checked, and handed to C."""

include "arrays.pxi"


cdef extern from "src/detection.h" nogil:
    ctypedef struct Strip:
        const float *strip
        Py_ssize_t rows, nx, first, start, stop
        const float *kernel
        const float *square
        Py_ssize_t radius
        float threshold
        const float *level
        const float *noise
        Py_ssize_t my, mx
        double cell_y
        const int64_t *edges
        Py_ssize_t pieces
        const float *part_x

    ctypedef struct PSFSample:
        const float *stamps
        const float *variance
        Py_ssize_t stars, size
        int many
        const double *matrix
        const double *light
        const double *tipped
        Py_ssize_t entries
        double step, tip, inverse_gain, model_error, outlying

    ctypedef struct StarBatch:
        Py_ssize_t stars
        const float *stamps
        const float *variance
        Py_ssize_t size
        int many
        const double *corner
        const int64_t *members
        Py_ssize_t number
        const int64_t *pointer
        const int64_t *index
        Py_ssize_t indices
        const double *matrix
        const float *table
        Py_ssize_t entries
        double step, fwhm, gain, model_error
        const int64_t *circle
        Py_ssize_t pixels
        const double *kernel
        Py_ssize_t side
        int search
        double *parameters
        double *errors
        double *quality

    int c_mesh_row "mesh_row"(
        const float *, Py_ssize_t, Py_ssize_t, const float *, int, const int64_t *, Py_ssize_t,
        float *, float *)
    void c_difference_widths "difference_widths"(
        const float *, Py_ssize_t, const int64_t *, Py_ssize_t, Py_ssize_t, double, double *)
    int c_find_neighbors "find_neighbors"(
        const double *, Py_ssize_t, double, int64_t *, int64_t *, Py_ssize_t, Py_ssize_t *)
    void c_cut_squares "cut_squares"(
        const char *, const Py_ssize_t *, const Py_ssize_t *, Py_ssize_t, const int64_t *,
        const int64_t *, Py_ssize_t, Py_ssize_t, char *)
    void c_level_squares "level_squares"(
        float *, Py_ssize_t, Py_ssize_t, const float *, float, uint8_t *)
    void c_mesh_values "mesh_values"(
        const float *, const float *, Py_ssize_t, Py_ssize_t, const double *, const double *,
        const double *, Py_ssize_t, double *, double *)
    int c_bright_lines "bright_lines"(
        const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *,
        int64_t *)
    int c_strip_peaks "strip_peaks"(
        const Strip *, int32_t *, float *, Py_ssize_t, Py_ssize_t *)
    int c_psf_equations "psf_equations"(
        const PSFSample *, const double *, double *, double *, double *)
    int c_fit_batch "fit_batch"(const StarBatch *)


cdef extern from "src/starcolumns.h":
    const int N_PARAMETERS
    const int N_QUALITIES


cdef tuple SINGLE = ("float32",)
cdef tuple DOUBLE = ("float64",)
cdef tuple INTEGER = ("int64",)


def mesh_row(object values, object dither, object x_edges, object level, object noise):
    """Fill one row of the mesh of the sky; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *v = arrays.take(values, "values", SINGLE, 2)
    cdef Py_buffer *d = arrays.take(dither, "dither", SINGLE, 2)
    cdef Py_buffer *edges = arrays.take(x_edges, "x_edges", INTEGER, 1)
    cdef Py_buffer *levels = arrays.take(level, "level", SINGLE, 1, writable=True)
    cdef Py_buffer *noises = arrays.take(noise, "noise", SINGLE, 1, writable=True)
    cdef Py_ssize_t cells = levels.shape[0]
    cdef bint dithers = d.shape[0] != 1
    expect(d, "dither", (v.shape[0] if dithers else 1, v.shape[1]))
    expect(noises, "noise", (cells,))
    expect(edges, "x_edges", (cells + 1,))
    cdef int status
    with nogil:
        status = c_mesh_row(
            <const float *>v.buf, v.shape[0], v.shape[1], <const float *>d.buf, dithers,
            <const int64_t *>edges.buf, cells, <float *>levels.buf, <float *>noises.buf)
    check(status, "mesh_row")


def difference_widths(object values, object pairs, double sigma, object widths):
    """Measure how much neighbors differ; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *v = arrays.take(values, "values", SINGLE, 2)
    cdef Py_buffer *p = arrays.take(pairs, "pairs", INTEGER, 1)
    cdef Py_buffer *out = arrays.take(widths, "widths", DOUBLE, 1, writable=True)
    expect(out, "widths", (2,))
    cdef const int64_t *rows = <const int64_t *>p.buf
    cdef Py_ssize_t k
    for k in range(p.shape[0]):
        if not 0 <= rows[k] < v.shape[0] - 1:
            raise IndexError(f"pairs must be rows with a next one, got {rows[k]} of {v.shape[0]}")
    with nogil:
        c_difference_widths(
            <const float *>v.buf, v.shape[1], rows, p.shape[0], v.shape[0], sigma,
            <double *>out.buf)


def find_neighbors(object position, double reach, object pointer, object index):
    """List the neighbors of each point; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *points = arrays.take(position, "position", DOUBLE, 2)
    cdef Py_buffer *pointers = arrays.take(pointer, "pointer", INTEGER, 1, writable=True)
    cdef Py_buffer *indices = arrays.take(index, "index", INTEGER, 1, writable=True)
    expect(points, "position", (None, 2))
    expect(pointers, "pointer", (points.shape[0] + 1,))
    if not reach >= 0:
        raise ValueError(f"reach must not be negative, got {reach}")
    cdef Py_ssize_t number = 0
    cdef int status
    with nogil:
        status = c_find_neighbors(
            <const double *>points.buf, points.shape[0], reach, <int64_t *>pointers.buf,
            <int64_t *>indices.buf, indices.shape[0], &number)
    check(status, "find_neighbors")
    return number


def cut_squares(object image, object x, object y, object squares):
    """Copy squares around pixels; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *pixels = arrays.take_any(image, "image", 2)
    cdef Py_buffer *columns = arrays.take(x, "x", INTEGER, 1)
    cdef Py_buffer *rows = arrays.take(y, "y", INTEGER, 1)
    cdef Py_buffer *out = arrays.take_any(squares, "squares", 3, writable=True)
    cdef Py_ssize_t n = columns.shape[0], size = out.shape[1]
    expect(rows, "y", (n,))
    expect(out, "squares", (n, size, size))
    if size % 2 == 0 or out.itemsize != pixels.itemsize:
        raise ValueError(
            f"squares must be of an odd size and of the image's type, got the shape {shape(out)} and "
            f"{out.itemsize} bytes a pixel for {pixels.itemsize}"
        )
    if not PyBuffer_IsContiguous(out, b"C"):
        raise ValueError("squares must be in C order")
    with nogil:
        c_cut_squares(
            <const char *>pixels.buf, pixels.shape, pixels.strides, pixels.itemsize,
            <const int64_t *>columns.buf, <const int64_t *>rows.buf, n, size // 2,
            <char *>out.buf)


def level_squares(object squares, object level, float saturation, object saturated):
    """Subtract levels from squares; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *pixels = arrays.take(squares, "squares", SINGLE, 3, writable=True)
    cdef Py_buffer *levels = arrays.take(level, "level", SINGLE, 1)
    cdef Py_buffer *full = arrays.take(saturated, "saturated", ("bool",), 3, writable=True)
    expect(levels, "level", (pixels.shape[0],))
    expect(full, "saturated", shape(pixels))
    with nogil:
        c_level_squares(
            <float *>pixels.buf, pixels.shape[0], pixels.shape[1] * pixels.shape[2],
            <const float *>levels.buf, saturation, <uint8_t *>full.buf)


def mesh_values(
    object level, object noise, tuple cell, object x, object y, object level_at, object noise_at,
):
    """Interpolate the mesh of the sky at positions; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *levels = arrays.take(level, "level", SINGLE, 2)
    cdef Py_buffer *noises = arrays.take(noise, "noise", SINGLE, 2)
    cdef Py_buffer *xs = arrays.take(x, "x", DOUBLE, 1)
    cdef Py_buffer *ys = arrays.take(y, "y", DOUBLE, 1)
    cdef Py_buffer *one = arrays.take(level_at, "level_at", DOUBLE, 1, writable=True)
    cdef Py_buffer *two = arrays.take(noise_at, "noise_at", DOUBLE, 1, writable=True)
    cdef Py_ssize_t n = xs.shape[0]
    cdef double[2] sides
    sides[0], sides[1] = cell
    expect(noises, "noise", shape(levels))
    expect(ys, "y", (n,))
    expect(one, "level_at", (n,))
    expect(two, "noise_at", (n,))
    if levels.shape[0] < 1 or levels.shape[1] < 1 or not (sides[0] > 0 and sides[1] > 0):
        raise ValueError(
            f"a mesh has cells with sides, got the shape {shape(levels)} and cells of {cell} px"
        )
    with nogil:
        c_mesh_values(
            <const float *>levels.buf, <const float *>noises.buf, levels.shape[0], levels.shape[1],
            sides, <const double *>xs.buf, <const double *>ys.buf, n, <double *>one.buf,
            <double *>two.buf)


def bright_lines(object image, Py_ssize_t near, Py_ssize_t far, object value, object place):
    """Find lines of pixels that stand out; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *pixels = arrays.take(image, "image", SINGLE, 2)
    cdef Py_buffer *values = arrays.take(value, "value", SINGLE, 1, writable=True)
    cdef Py_buffer *places = arrays.take(place, "place", INTEGER, 2, writable=True)
    cdef Py_ssize_t levels = values.shape[0]
    expect(places, "place", (levels, 3))
    if not 1 <= near <= far < pixels.shape[1]:
        raise ValueError(
            f"near must be at least 1 and at most far, which must be less than the "
            f"{pixels.shape[1]} columns of the image, got {near} and {far}"
        )
    if levels > 30 or (<Py_ssize_t>1 << levels) < pixels.shape[0]:
        raise ValueError(
            f"value must have a place for each length up to the {pixels.shape[0]} rows of the "
            f"image, got {levels}"
        )
    cdef int status
    with nogil:
        status = c_bright_lines(
            <const float *>pixels.buf, pixels.shape[0], pixels.shape[1], levels, near, far,
            <float *>values.buf, <int64_t *>places.buf)
    check(status, "bright_lines")


def strip_peaks(
    object strip, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop, object kernel,
    object square, float threshold, object level, object noise, double cell_y, object edges,
    object part_x, object position, object significance,
):
    """Normalize, smooth and search a strip; see `spalipy_astro._compiled`."""
    cdef Strip of
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *pixels = arrays.take(strip, "strip", SINGLE, 2)
    cdef Py_buffer *k = arrays.take(kernel, "kernel", SINGLE, 1)
    cdef Py_buffer *s = arrays.take(square, "square", SINGLE, 1)
    cdef Py_buffer *levels = arrays.take(level, "level", SINGLE, 2)
    cdef Py_buffer *noises = arrays.take(noise, "noise", SINGLE, 2)
    cdef Py_buffer *e = arrays.take(edges, "edges", INTEGER, 1)
    cdef Py_buffer *parts = arrays.take(part_x, "part_x", SINGLE, 1)
    cdef Py_buffer *peaks = arrays.take(position, "position", ("int32",), 2, writable=True)
    cdef Py_buffer *snr = arrays.take(significance, "significance", SINGLE, 1, writable=True)
    of.rows, of.nx = pixels.shape[0], pixels.shape[1]
    of.first, of.start, of.stop = first, start, stop
    if not first <= start <= stop <= first + of.rows:
        raise ValueError(
            f"rows {start} to {stop} must lie within the strip's, {first} to {first + of.rows}"
        )
    if k.shape[0] % 2 == 0:
        raise ValueError(f"kernel must be of odd size, got {k.shape[0]}")
    expect(s, "square", shape(k))
    of.radius = k.shape[0] // 2
    of.my, of.mx = levels.shape[0], levels.shape[1]
    expect(noises, "noise", shape(levels))
    expect(parts, "part_x", (of.nx,))
    expect(peaks, "position", (snr.shape[0], 2))
    of.pieces = e.shape[0] - 1
    cdef const int64_t *columns = <const int64_t *>e.buf
    cdef Py_ssize_t i
    if of.my < 1 or not 1 <= of.pieces <= of.mx:
        raise ValueError(f"{of.pieces} pieces do not fit a mesh of the shape {shape(levels)}")
    if columns[0] != 0 or columns[of.pieces] != of.nx:
        raise ValueError(f"edges must run from 0 to {of.nx}, got {columns[0]} to {columns[of.pieces]}")
    for i in range(of.pieces):
        if columns[i + 1] < columns[i]:
            raise ValueError("edges must not decrease")
    of.strip = <const float *>pixels.buf
    of.kernel, of.square = <const float *>k.buf, <const float *>s.buf
    of.level, of.noise = <const float *>levels.buf, <const float *>noises.buf
    of.edges, of.part_x = columns, <const float *>parts.buf
    of.threshold, of.cell_y = threshold, cell_y
    cdef Py_ssize_t number = 0
    cdef int status
    with nogil:
        status = c_strip_peaks(
            &of, <int32_t *>peaks.buf, <float *>snr.buf, snr.shape[0], &number)
    check(status, "strip_peaks")
    return number


cdef int set_stamps(
    Arrays arrays, object stamps, object variance, const float **pixels, const float **variances,
    Py_ssize_t *stars, Py_ssize_t *size, int *many,
) except -1:
    """Enter squares around stars and the variances of their pixels."""
    cdef Py_buffer *s = arrays.take(stamps, "stamps", SINGLE, 3)
    cdef Py_buffer *v = arrays.take(variance, "variance", SINGLE, 3)
    stars[0], size[0] = s.shape[0], s.shape[1]
    many[0] = v.shape[1] != 1
    if size[0] < 5 or size[0] % 2 == 0 or s.shape[2] != size[0]:
        raise ValueError(
            f"stamps must be squares of an odd number of pixels, at least 5, got the shape {shape(s)}"
        )
    side = size[0] if many[0] else 1
    expect(v, "variance", (stars[0], side, side))
    pixels[0], variances[0] = <const float *>s.buf, <const float *>v.buf
    return 0


def psf_equations(
    object stamps, object variance, object stars, object matrix, tuple tables, tuple numbers,
    object h, object g, object misfit,
):
    """Set up the normal equations of each star; see `spalipy_astro._compiled`."""
    cdef PSFSample sample
    cdef Arrays arrays = Arrays()
    set_stamps(
        arrays, stamps, variance, &sample.stamps, &sample.variance, &sample.stars, &sample.size,
        &sample.many)
    light, tipped = tables
    cdef Py_buffer *at = arrays.take(stars, "stars", DOUBLE, 2)
    cdef Py_buffer *m = arrays.take(matrix, "matrix", DOUBLE, 1)
    cdef Py_buffer *one = arrays.take(light, "tables[0]", DOUBLE, 1)
    cdef Py_buffer *two = arrays.take(tipped, "tables[1]", DOUBLE, 1)
    cdef Py_buffer *matrices = arrays.take(h, "h", DOUBLE, 3, writable=True)
    cdef Py_buffer *sides = arrays.take(g, "g", DOUBLE, 2, writable=True)
    cdef Py_buffer *squares = arrays.take(misfit, "misfit", DOUBLE, 2, writable=True)
    expect(at, "stars", (sample.stars, 4))
    expect(m, "matrix", (3,))
    expect(two, "tables[1]", shape(one))
    expect(matrices, "h", (sample.stars, 8, 8))
    expect(sides, "g", (sample.stars, 8))
    expect(squares, "misfit", (sample.stars, sample.size * sample.size))
    sample.entries = one.shape[0]
    if sample.entries < 2:
        raise ValueError(f"tables must have at least 2 entries, got {sample.entries}")
    sample.matrix, sample.light = <const double *>m.buf, <const double *>one.buf
    sample.tipped = <const double *>two.buf
    sample.step, sample.tip, sample.inverse_gain, sample.model_error, sample.outlying = numbers
    cdef int status
    with nogil:
        status = c_psf_equations(
            &sample, <const double *>at.buf, <double *>matrices.buf, <double *>sides.buf,
            <double *>squares.buf)
    check(status, "psf_equations")


def fit_batch(
    object stamps, object variance, object corner, object members, object pointer, object index,
    tuple psf, tuple law, tuple window, bint search, tuple tables,
):
    """Fit star after star by Gauss-Newton steps; see `spalipy_astro._compiled`."""
    cdef StarBatch batch
    cdef Arrays arrays = Arrays()
    set_stamps(
        arrays, stamps, variance, &batch.stamps, &batch.variance, &batch.number, &batch.size,
        &batch.many)
    matrix, table, batch.step, batch.fwhm = psf
    batch.gain, batch.model_error = law
    circle, kernel = window
    parameters, errors, quality = tables
    cdef Py_buffer *corners = arrays.take(corner, "corner", DOUBLE, 2)
    cdef Py_buffer *some = arrays.take(members, "members", INTEGER, 1)
    cdef Py_buffer *pointers = arrays.take(pointer, "pointer", INTEGER, 1)
    cdef Py_buffer *indices = arrays.take(index, "index", INTEGER, 1)
    cdef Py_buffer *m = arrays.take(matrix, "matrix", DOUBLE, 1)
    cdef Py_buffer *entries = arrays.take(table, "table", SINGLE, 2)
    cdef Py_buffer *pixels = arrays.take(circle, "circle", INTEGER, 2)
    cdef Py_buffer *filter_ = arrays.take(kernel, "kernel", DOUBLE, 2)
    cdef Py_buffer *values = arrays.take(parameters, "parameters", DOUBLE, 2, writable=True)
    cdef Py_buffer *sigmas = arrays.take(errors, "errors", DOUBLE, 2, writable=True)
    cdef Py_buffer *qualities = arrays.take(quality, "quality", DOUBLE, 2, writable=True)
    batch.stars = values.shape[0]
    expect(values, "parameters", (None, N_PARAMETERS))
    expect(sigmas, "errors", (batch.stars, N_PARAMETERS))
    expect(qualities, "quality", (batch.stars, N_QUALITIES))
    expect(corners, "corner", (batch.number, 2))
    expect(some, "members", (batch.number,))
    expect(pointers, "pointer", (batch.stars + 1,))
    expect(m, "matrix", (3,))
    expect(entries, "table", (None, 2))
    expect(pixels, "circle", (None, 2))
    batch.entries, batch.pixels, batch.indices = entries.shape[0], pixels.shape[0], indices.shape[0]
    batch.side = filter_.shape[0]
    expect(filter_, "kernel", (batch.side, batch.side))
    if batch.entries < 2 or batch.side % 2 == 0:
        raise ValueError(
            f"table must have at least 2 rows and kernel an odd size, got {batch.entries} and "
            f"{batch.side}"
        )
    if not batch.step > 0:
        raise ValueError(f"the step of the table must be positive, got {batch.step}")
    batch.corner, batch.members = <const double *>corners.buf, <const int64_t *>some.buf
    batch.pointer, batch.index = <const int64_t *>pointers.buf, <const int64_t *>indices.buf
    batch.matrix, batch.table = <const double *>m.buf, <const float *>entries.buf
    batch.circle, batch.kernel = <const int64_t *>pixels.buf, <const double *>filter_.buf
    batch.search = search
    batch.parameters, batch.errors = <double *>values.buf, <double *>sigmas.buf
    batch.quality = <double *>qualities.buf
    cdef int status
    with nogil:
        status = c_fit_batch(&batch)
    check(status, "fit_batch")
