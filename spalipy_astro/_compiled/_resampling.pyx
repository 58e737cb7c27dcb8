# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled loops of resampling: arrays checked, and handed to C."""

include "arrays.pxi"


cdef extern from "src/resampling.h" nogil:
    const int STANDARD_DEVIATION
    const int VARIANCE
    const int INVERSE_VARIANCE

    ctypedef struct Axis:
        const double *at
        const int64_t *first
        const double *weights
        Py_ssize_t size

    ctypedef struct Grid:
        Axis along_x, along_y
        Py_ssize_t order
        const double *coeff_x
        const double *coeff_y
        Py_ssize_t coeff_rows, coeff_columns
        const double *matrix
        const double *shift

    ctypedef struct Tile:
        Py_ssize_t planes, left, top, width, size
        const float *single
        const double *wide
        double unit
        double frame_width, frame_height
        const double *x
        const double *y
        const Grid *grid
        Py_ssize_t rows, columns
        int area
        double least, fill
        Py_ssize_t row, column, out_height, out_width
        unsigned char *bad
        float *footprint
        int kind
        float *spread_float
        double *spread_double

    ctypedef struct Kernel:
        int taps, lanes
        Py_ssize_t steps

    ctypedef struct Average:
        const double *factors_x
        const double *factors_y
        Py_ssize_t number_x, number_y, steps_x, steps_y, fine_rows, fine_columns

    int interpolate_tile_float(
        const Tile *, Kernel, const float *, const float *, const double *, float *)
    int interpolate_tile_double(
        const Tile *, Kernel, const double *, const double *, const double *, double *)
    int average_tile_float(
        const Tile *, Kernel, const Average *, const float *, const float *, const float *, float *)
    int average_tile_double(
        const Tile *, Kernel, const Average *, const double *, const double *, const double *,
        double *)
    ctypedef struct Window:
        Py_ssize_t left, top, width, height, plane_width, plane_height

    int accept_single(int, double, Py_ssize_t, float *, float *)
    int load_single(
        int, double, const Window *, const float *, const unsigned char *, const float *, float *,
        float *)
    void accept_float(int, double, Py_ssize_t, float *, double *)
    void accept_double(int, double, Py_ssize_t, double *, double *)
    int grid_is_valid(const Grid *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    int c_spline_tile "spline_tile"(const Grid *, double *, double *)
    void c_spline_extent "spline_extent"(
        const Grid *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *)
    void c_source_extent "source_extent"(
        const double *, const double *, Py_ssize_t, Py_ssize_t, double, double, double *)
    int c_flags_tile "flags_tile"(
        const void *, int, Py_ssize_t, const Tile *, double, void *)


cdef enum:
    LARGEST = 1 << 30

cdef tuple REALS = ("float32", "float64")
cdef tuple DOUBLE = ("float64",)
cdef tuple INTEGER = ("int64",)
cdef dict KINDS = {"std": STANDARD_DEVIATION, "var": VARIANCE, "ivar": INVERSE_VARIANCE}
cdef tuple FLAGS = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
)


cdef int set_positions(Tile *tile, Arrays arrays, object x, object y, tuple frame) except -1:
    """Enter the positions of a tile, and the size of the source."""
    cdef Py_buffer *xs = arrays.take(x, "x", DOUBLE, 2)
    cdef Py_buffer *ys = arrays.take(y, "y", DOUBLE, 2)
    if xs.shape[0] < 2 or xs.shape[1] < 2:
        raise ValueError(f"x must hold a border of one pixel on each side, got {shape(xs)}")
    expect(ys, "y", shape(xs))
    tile.x, tile.y, tile.grid = <const double *>xs.buf, <const double *>ys.buf, NULL
    tile.rows, tile.columns = xs.shape[0] - 2, xs.shape[1] - 2
    return set_frame(tile, frame)


cdef int set_frame(Tile *tile, tuple frame) except -1:
    """Enter the size of the source."""
    tile.frame_width, tile.frame_height = frame
    if not (0 <= tile.frame_width < LARGEST and 0 <= tile.frame_height < LARGEST):
        raise ValueError(f"frame must lie between 0 and {LARGEST} along each axis, got {frame}")
    return 0


cdef int set_part(Tile *tile, const Grid *grid, tuple part) except -1:
    """Enter a grid that tells a tile's positions, and which part of it."""
    tile.x, tile.y, tile.grid = NULL, NULL, grid
    tile.row, tile.column, tile.rows, tile.columns = part
    if not (
        0 <= tile.row and 0 <= tile.rows <= grid.along_y.size - 2 - tile.row
        and 0 <= tile.column and 0 <= tile.columns <= grid.along_x.size - 2 - tile.column
    ):
        raise ValueError(
            f"part must lie within the grid of {grid.along_y.size - 2} x {grid.along_x.size - 2} "
            f"pixels, got {part}"
        )
    return 0


cdef int set_place(Tile *tile, const Py_buffer *out, tuple box) except -1:
    """Enter the place of a tile in an output, whose last axes are its rows and columns."""
    tile.row, tile.column = box
    tile.out_height, tile.out_width = out.shape[out.ndim - 2], out.shape[out.ndim - 1]
    if not (
        0 <= tile.row <= tile.out_height - tile.rows
        and 0 <= tile.column <= tile.out_width - tile.columns
    ):
        raise ValueError(
            f"a tile of {tile.rows} x {tile.columns} pixels at {box} exceeds the output of the "
            f"shape {shape(out)}"
        )
    return 0


cdef Py_buffer *set_source(Tile *tile, Arrays arrays, tuple source) except NULL:
    """Enter the window of the source; return its pixels."""
    block, (variance, wide, unit), corner, _ = source
    cdef Py_buffer *pixels = arrays.take(block, "block", REALS, 2)
    cdef tuple types = REALS if pixels.itemsize == 4 else DOUBLE
    cdef Py_buffer *variances = arrays.take(variance, "variance", types, 2)
    cdef Py_buffer *wides = arrays.take(wide, "wide", DOUBLE, 2)
    tile.planes, tile.size = pixels.shape[0], pixels.shape[1]
    tile.left, tile.top, tile.width = corner
    if tile.width < 1 or tile.size % tile.width:
        raise ValueError(
            f"block must hold whole rows of {tile.width} pixels, got the shape {shape(pixels)}"
        )
    if not (abs(tile.left) < LARGEST and abs(tile.top) < LARGEST and tile.size < LARGEST):
        raise ValueError(f"corner must lie within {LARGEST} pixels, got {corner}")
    tile.single, tile.wide, tile.unit = NULL, NULL, unit
    if wides.shape[0]:
        expect(wides, "wide", shape(pixels))
        tile.wide = <const double *>wides.buf
    if variances.shape[0]:
        expect(variances, "variance", shape(pixels))
        if variances.itemsize == 4:
            tile.single = <const float *>variances.buf
        else:
            tile.wide = <const double *>variances.buf
    return pixels


cdef Py_buffer *set_outputs(
    Tile *tile, Arrays arrays, tuple outputs, tuple box, tuple rule, tuple types
) except NULL:
    """Enter the outputs and how they are written; return that of the pixels."""
    out, bad, footprint, spread = outputs
    cdef Py_buffer *values = arrays.take(out, "out", types, 3, writable=True)
    cdef Py_buffer *masks = arrays.take(bad, "bad", ("bool",), 3, writable=True)
    cdef Py_buffer *shares = arrays.take(footprint, "footprint", ("float32",), 3, writable=True)
    cdef Py_buffer *spreads = arrays.take(spread, "spread", REALS, 3, writable=True)
    expect(values, "out", (tile.planes, None, None))
    set_place(tile, values, box)
    tile.bad, tile.footprint, tile.spread_float, tile.spread_double = NULL, NULL, NULL, NULL
    if masks.shape[0]:
        expect(masks, "bad", shape(values))
        tile.bad = <unsigned char *>masks.buf
    if shares.shape[0]:
        expect(shares, "footprint", shape(values))
        tile.footprint = <float *>shares.buf
    if spreads.shape[0]:
        expect(spreads, "spread", shape(values))
        if tile.single == NULL and tile.wide == NULL and tile.planes:
            raise ValueError("spread needs a variance of the source, which has no planes")
        if spreads.itemsize == 4:
            tile.spread_float = <float *>spreads.buf
        else:
            tile.spread_double = <double *>spreads.buf
        tile.kind = kind_number(rule[3])
    tile.area, tile.least, tile.fill = rule[:3]
    return values


cdef int kind_number(str kind) except -1:
    """Return what the loops call a kind of uncertainties."""
    if kind not in KINDS:
        raise ValueError(f"kind must be {', '.join(KINDS)}, got {kind!r}")
    return KINDS[kind]


cdef Py_buffer *set_kernel(
    Kernel *kernel, Arrays arrays, int taps, object table, str name, tuple types
) except NULL:
    """Enter a kernel; return its table."""
    cdef Py_buffer *weights = arrays.take(table, name, types, 2)
    cdef int lanes = {1: 1, 2: 2, 4: 4, 6: 8}.get(taps, 0)
    if lanes == 0:
        raise ValueError(f"taps must be 1, 2, 4 or 6, got {taps}")
    expect(weights, name, (None, 2 * lanes))
    if weights.shape[0] < 2:
        raise ValueError(f"{name} must have at least 2 rows, got {weights.shape[0]}")
    kernel.taps, kernel.lanes, kernel.steps = taps, lanes, weights.shape[0] - 1
    return weights


def interpolate_tile(
    tuple source, object x, object y, tuple kernel, tuple rule, tuple box, tuple outputs
):
    """Interpolate the pixels of one tile; see `spalipy_astro._compiled`."""
    cdef Tile tile
    cdef Arrays arrays = Arrays()
    set_positions(&tile, arrays, x, y, source[3])
    interpolate(&tile, arrays, source, kernel, rule, box, outputs, "interpolate_tile")


def interpolate_part(
    tuple source, tuple grid, tuple part, tuple kernel, tuple rule, tuple outputs
):
    """Interpolate a part of the pixels of a grid; see `spalipy_astro._compiled`."""
    cdef Tile tile
    cdef Grid places
    cdef Arrays arrays = Arrays()
    set_grid(&places, arrays, grid)
    set_part(&tile, &places, part)
    set_frame(&tile, source[3])
    interpolate(&tile, arrays, source, kernel, rule, part[:2], outputs, "interpolate_part")


cdef int interpolate(
    Tile *tile, Arrays arrays, tuple source, tuple kernel, tuple rule, tuple box, tuple outputs,
    str where,
) except -1:
    """Interpolate the pixels of a tile whose positions are known."""
    cdef Kernel shape_of
    cdef Py_buffer *block = set_source(tile, arrays, source)
    cdef bint single = block.itemsize == 4
    cdef tuple types = ("float32",) if single else DOUBLE
    taps, table, table64 = kernel
    cdef Py_buffer *weights64 = set_kernel(&shape_of, arrays, taps, table64, "table64", DOUBLE)
    cdef Py_buffer *weights = set_kernel(&shape_of, arrays, taps, table, "table", types)
    expect(weights64, "table64", shape(weights))
    cdef Py_buffer *out = set_outputs(tile, arrays, outputs, box, rule, types)
    cdef int status
    with nogil:
        if single:
            status = interpolate_tile_float(
                tile, shape_of, <const float *>block.buf, <const float *>weights.buf,
                <const double *>weights64.buf, <float *>out.buf)
        else:
            status = interpolate_tile_double(
                tile, shape_of, <const double *>block.buf, <const double *>weights.buf,
                <const double *>weights64.buf, <double *>out.buf)
    return check(status, where)


def accept_uncertainties(str kind, double unit, object block, object spread):
    """Convert the uncertainties of a window to variances; see `spalipy_astro._compiled`."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *pixels = arrays.take(block, "block", REALS, 2, writable=True)
    cdef tuple types = REALS if pixels.itemsize == 4 else DOUBLE
    cdef Py_buffer *values = arrays.take(spread, "spread", types, 2, writable=True)
    expect(values, "spread", shape(pixels))
    cdef int number = kind_number(kind), beyond = 0
    cdef Py_ssize_t size = pixels.shape[0] * pixels.shape[1]
    with nogil:
        if values.itemsize == 4:
            beyond = accept_single(number, unit, size, <float *>pixels.buf, <float *>values.buf)
        elif pixels.itemsize == 4:
            accept_float(number, unit, size, <float *>pixels.buf, <double *>values.buf)
        else:
            accept_double(number, unit, size, <double *>pixels.buf, <double *>values.buf)
    return beyond != 0


def load_window(
    str kind, double unit, object pixels, object mask, object spreads, tuple corner, object block,
    object spread,
):
    """Copy a window with its variances out of a plane; see `spalipy_astro._compiled`."""
    cdef Window window
    cdef Arrays arrays = Arrays()
    cdef tuple single = ("float32",)
    cdef Py_buffer *plane = arrays.take(pixels, "pixels", single, 2)
    cdef Py_buffer *flags = arrays.take(mask, "mask", ("bool",), 2)
    cdef Py_buffer *errors = arrays.take(spreads, "spreads", single, 2)
    cdef Py_buffer *values = arrays.take(block, "block", single, 2, writable=True)
    cdef Py_buffer *variances = arrays.take(spread, "spread", single, 2, writable=True)
    cdef const unsigned char *bad = NULL
    if flags.shape[0]:
        expect(flags, "mask", shape(plane))
        bad = <const unsigned char *>flags.buf
    expect(errors, "spreads", shape(plane))
    expect(variances, "spread", shape(values))
    window.left, window.top = corner
    if not (abs(window.left) < LARGEST and abs(window.top) < LARGEST):
        raise ValueError(f"corner must lie within {LARGEST} pixels, got {corner}")
    window.height, window.width = values.shape[0], values.shape[1]
    window.plane_height, window.plane_width = plane.shape[0], plane.shape[1]
    cdef int number = kind_number(kind), beyond
    with nogil:
        beyond = load_single(
            number, unit, &window, <const float *>plane.buf, bad, <const float *>errors.buf,
            <float *>values.buf, <float *>variances.buf)
    return beyond != 0


def average_tile(
    tuple source, object x, object y, tuple kernel, object fine, tuple rule, tuple box,
    tuple outputs,
):
    """Average the interpolated source over larger pixels; see `spalipy_astro._compiled`."""
    cdef Tile tile
    cdef Kernel shape_of
    cdef Average average
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *block = set_source(&tile, arrays, source)
    cdef bint single = block.itemsize == 4
    cdef tuple types = ("float32",) if single else DOUBLE
    taps, table, factors_x, factors_y, steps = kernel
    set_positions(&tile, arrays, x, y, source[3])
    cdef Py_buffer *weights = set_kernel(&shape_of, arrays, taps, table, "table", types)
    cdef Py_buffer *along_x = arrays.take(factors_x, "factors_x", DOUBLE, 1)
    cdef Py_buffer *along_y = arrays.take(factors_y, "factors_y", DOUBLE, 1)
    cdef Py_buffer *values = arrays.take(fine, "fine", types, 3)
    average.factors_x = <const double *>along_x.buf
    average.factors_y = <const double *>along_y.buf
    average.number_x, average.number_y = along_x.shape[0], along_y.shape[0]
    average.steps_x, average.steps_y = steps
    average.fine_rows, average.fine_columns = values.shape[1], values.shape[2]
    if not (average.number_x % 2 and average.number_y % 2):
        raise ValueError(
            f"factors must be odd in number, got {average.number_x} and {average.number_y}"
        )
    if average.steps_x < 1 or average.steps_y < 1:
        raise ValueError(f"steps must be positive, got {steps}")
    if tile.single != NULL:
        raise TypeError("variance must be of type float64 for averages, got float32")
    expect(values, "fine", (tile.planes, None, None))
    if (tile.rows and tile.columns) and (
        (tile.rows - 1) * average.steps_y + average.number_y > average.fine_rows
        or (tile.columns - 1) * average.steps_x + average.number_x > average.fine_columns
    ):
        raise ValueError(f"fine holds too few steps for the tile: it has the shape {shape(values)}")
    cdef Py_buffer *out = set_outputs(&tile, arrays, outputs, box, rule, types)
    cdef int status
    with nogil:
        if single:
            status = average_tile_float(
                &tile, shape_of, &average, <const float *>block.buf, <const float *>weights.buf,
                <const float *>values.buf, <float *>out.buf)
        else:
            status = average_tile_double(
                &tile, shape_of, &average, <const double *>block.buf, <const double *>weights.buf,
                <const double *>values.buf, <double *>out.buf)
    check(status, "average_tile")


cdef int set_axis(Axis *axis, Py_ssize_t *order, Arrays arrays, tuple along, str name) except -1:
    """Enter an axis of a tile, and how many functions count at each position."""
    at, first, weights = along
    cdef Py_buffer *positions = arrays.take(at, f"{name}[0]", DOUBLE, 1)
    cdef Py_buffer *numbers = arrays.take(first, f"{name}[1]", INTEGER, 1)
    cdef Py_buffer *functions = arrays.take(weights, f"{name}[2]", DOUBLE, 2)
    axis.size = positions.shape[0]
    expect(numbers, f"{name}[1]", (axis.size,))
    expect(functions, f"{name}[2]", (None, axis.size))
    axis.at = <const double *>positions.buf
    axis.first = <const int64_t *>numbers.buf
    axis.weights = <const double *>functions.buf
    order[0] = functions.shape[0]
    return 0


cdef int set_grid(Grid *grid, Arrays arrays, tuple parts) except -1:
    """Enter a grid, and the map of its positions onto the source."""
    along_x, along_y, coeff_x, coeff_y, matrix, shift = parts
    cdef Py_ssize_t order_y
    set_axis(&grid.along_x, &grid.order, arrays, along_x, "along_x")
    set_axis(&grid.along_y, &order_y, arrays, along_y, "along_y")
    if grid.order != order_y:
        raise ValueError(f"both axes must have the same order, got {grid.order} and {order_y}")
    cdef Py_buffer *cx = arrays.take(coeff_x, "coeff_x", DOUBLE, 2)
    cdef Py_buffer *cy = arrays.take(coeff_y, "coeff_y", DOUBLE, 2)
    cdef Py_buffer *linear = arrays.take(matrix, "matrix", DOUBLE, 2)
    cdef Py_buffer *offset = arrays.take(shift, "shift", DOUBLE, 1)
    expect(cy, "coeff_y", shape(cx))
    expect(linear, "matrix", (2, 2))
    expect(offset, "shift", (2,))
    grid.coeff_x, grid.coeff_y = <const double *>cx.buf, <const double *>cy.buf
    grid.coeff_rows, grid.coeff_columns = cx.shape[0], cx.shape[1]
    grid.matrix, grid.shift = <const double *>linear.buf, <const double *>offset.buf
    return 0


def spline_tile(tuple grid, object out_x, object out_y):
    """Find the source positions of a grid under a spline; see `spalipy_astro._compiled`."""
    cdef Grid places
    cdef Arrays arrays = Arrays()
    set_grid(&places, arrays, grid)
    cdef Py_buffer *u = arrays.take(out_x, "out_x", DOUBLE, 2, writable=True)
    cdef Py_buffer *v = arrays.take(out_y, "out_y", DOUBLE, 2, writable=True)
    expect(u, "out_x", (places.along_y.size, places.along_x.size))
    expect(v, "out_y", (places.along_y.size, places.along_x.size))
    cdef int status
    with nogil:
        status = c_spline_tile(&places, <double *>u.buf, <double *>v.buf)
    check(status, "spline_tile")


def spline_extent(tuple grid, tuple part, object out):
    """Find a box that holds the positions of a part of a grid; see `spalipy_astro._compiled`."""
    cdef Tile tile
    cdef Grid places
    cdef Arrays arrays = Arrays()
    set_grid(&places, arrays, grid)
    set_part(&tile, &places, part)
    cdef Py_buffer *box = arrays.take(out, "out", DOUBLE, 1, writable=True)
    expect(box, "out", (4,))
    if not grid_is_valid(&places, tile.row, tile.column, tile.rows + 2, tile.columns + 2):
        check(OUT_OF_BOUNDS, "spline_extent")
    with nogil:
        c_spline_extent(
            &places, tile.row, tile.column, tile.rows + 2, tile.columns + 2, <double *>box.buf)


def source_extent(object x, object y, tuple frame, object out):
    """Find the box around a tile's positions; see `spalipy_astro._compiled`."""
    cdef Tile tile
    cdef Arrays arrays = Arrays()
    set_positions(&tile, arrays, x, y, frame)
    cdef Py_buffer *box = arrays.take(out, "out", DOUBLE, 1, writable=True)
    expect(box, "out", (4,))
    with nogil:
        c_source_extent(
            tile.x, tile.y, tile.rows + 2, tile.columns + 2, tile.frame_width, tile.frame_height,
            <double *>box.buf)


def flags_tile(
    object block, tuple corner, tuple frame, object x, object y, double radius, tuple box,
    object out,
):
    """Resample a plane of flag bits; see `spalipy_astro._compiled`."""
    cdef Tile tile
    cdef Arrays arrays = Arrays()
    set_positions(&tile, arrays, x, y, frame)
    cdef Py_buffer *bits = arrays.take(block, "block", FLAGS, 2)
    cdef Py_buffer *flags = arrays.take(out, "out", FLAGS, 2, writable=True)
    if bits.itemsize != flags.itemsize:
        raise TypeError(
            f"block and out must be of the same type, got {bits.itemsize} and {flags.itemsize} bytes"
        )
    if not 0 <= radius < LARGEST:
        raise ValueError(f"radius must lie between 0 and {LARGEST}, got {radius}")
    tile.left, tile.top = corner
    tile.width = bits.shape[1]
    set_place(&tile, flags, box)
    cdef int status
    with nogil:
        status = c_flags_tile(
            bits.buf, <int>bits.itemsize, bits.shape[0], &tile, radius, flags.buf)
    check(status, "flags_tile")
