/*
 * Interpolation kernels over one tile of output pixels.
 *
 * A tile's source window arrives as a padded block in which everything that must not be used
 * (masked, infinite, outside of the image) is NaN. The loops first take the plain sum; only where
 * that is not finite do they look for the bad pixels and renormalize. A pixel whose kernel holds no
 * bad pixel is therefore computed by the same instructions whatever lies beyond it.
 *
 * The order of the operations is that of the code, so that results are the same to the last bit for
 * every tiling, number of threads and processor.
 */

#include "resampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Lanes of the widest kernel, and pixels of a row that are worked on at once: they fit the cache. */
#define WIDEST 8
#define PIECE 64
/* columns whose positions are in the cache: whole pieces */
#define AT_ONCE (MOST_COLUMNS - 2)

/* Some pixels of a row: where their kernels begin in the source, and their phases in the table. */
typedef struct {
    ptrdiff_t row, first, number; /* of the tile: row, first column; pixels */
    int32_t left[PIECE], top[PIECE], start[PIECE]; /* of the first tap; its place in the window */
    int32_t knot_x[PIECE], knot_y[PIECE];
    double phase_x[PIECE], phase_y[PIECE];
    int all_inside; /* whether all pixels are on the frame; else */
    double inside[PIECE]; /* 1, or 0 off the frame, where the other numbers are of some pixel */
    double factor[PIECE]; /* area of the output pixel in the source */
    double values[PIECE], spreads[PIECE], shares[PIECE];
} Piece;

/* Doubles in a row of positions: whole lines of the cache, in which the first after the border begins one. */
#define BEFORE 7
#define ROW (BEFORE + MOST_COLUMNS + 7)

/*
 * Positions of some columns, with a border of one, in three rows around one of the tile. Where they
 * come from a grid, they are made when they are needed, and are still in the cache.
 */
typedef struct {
    const double *x[3], *y[3];
    ptrdiff_t first; /* column of the tile */
    Strip strip;
    LINE_ALIGNED double memory[3][2][ROW];
} Rows;

static void make_row(const Tile *tile, Rows *rows, ptrdiff_t row)
{
    double (*to)[ROW] = rows->memory[row % 3];
    strip_row(&rows->strip, tile->row + row, to[0] + BEFORE, to[1] + BEFORE);
}

/* Begin with some columns of a tile. */
static void move_rows(const Tile *tile, Rows *rows, ptrdiff_t first, ptrdiff_t number)
{
    rows->first = first;
    if (tile->grid == NULL)
        return;
    move_strip(&rows->strip, tile->column + first, number + 2);
    make_row(tile, rows, 0);
    make_row(tile, rows, 1);
}

/* Go to a row, one after the other. */
static void next_rows(const Tile *tile, Rows *rows, ptrdiff_t row)
{
    if (tile->grid != NULL)
        make_row(tile, rows, row + 2);
    for (int k = 0; k < 3; k++) {
        const ptrdiff_t at = (row + k) * (tile->columns + 2) + rows->first;
        rows->x[k] = tile->grid == NULL ? tile->x + at : rows->memory[(row + k) % 3][0] + BEFORE;
        rows->y[k] = tile->grid == NULL ? tile->y + at : rows->memory[(row + k) % 3][1] + BEFORE;
    }
}

INLINE int finite(double value)
{
    return value - value == 0;
}

/* Find which pixels lie on the frame; whether all do. */
INLINE int find_inside(
    const double *RESTRICT x, const double *RESTRICT y, ptrdiff_t number, double right, double end,
    double *RESTRICT inside)
{
    int64_t outside = 0;
    for (ptrdiff_t j = 0; j < number; j++)
        outside |= !((x[j] >= -0.5) & (x[j] < right) & (y[j] >= -0.5) & (y[j] < end));
    if (!outside)
        return 1;
    for (ptrdiff_t j = 0; j < number; j++)
        inside[j] = (x[j] >= -0.5) & (x[j] < right) & (y[j] >= -0.5) & (y[j] < end) ? 1.0 : 0.0;
    return 0;
}

/* Find the first tap and the place in the table along one axis. */
INLINE void find_knots(
    const double *RESTRICT at, ptrdiff_t number, double shift, double steps,
    int32_t *RESTRICT first, int32_t *RESTRICT knot, double *RESTRICT phase)
{
    for (ptrdiff_t j = 0; j < number; j++) {
        const double place = at[j] + shift, cut = (double)(int32_t)place;
        const double whole = cut - (cut > place ? 1.0 : 0.0);
        const double step = (place - whole) * steps;
        const int32_t k = (int32_t)step;
        first[j] = (int32_t)whole;
        knot[j] = k;
        phase[j] = step - k;
    }
}

/* The same where some pixels are off the frame: they take the place of any pixel of the window. */
INLINE void plan_axis(
    const double *RESTRICT at, const Piece *piece, double otherwise, double shift, double steps,
    int32_t *RESTRICT first, int32_t *RESTRICT knot, double *RESTRICT phase)
{
    double places[PIECE];
    if (!piece->all_inside) {
        for (ptrdiff_t j = 0; j < piece->number; j++)
            places[j] = piece->inside[j] != 0 ? at[j] : otherwise - shift;
        at = places;
    }
    find_knots(at, piece->number, shift, steps, first, knot, phase);
}

INLINE void find_range(const int32_t *RESTRICT values, ptrdiff_t n, int32_t *low, int32_t *high)
{
    int32_t smallest = values[0], largest = values[0];
    for (ptrdiff_t j = 0; j < n; j++) {
        smallest = values[j] < smallest ? values[j] : smallest;
        largest = values[j] > largest ? values[j] : largest;
    }
    *low = smallest;
    *high = largest;
}

INLINE void find_starts(
    const int32_t *RESTRICT left, const int32_t *RESTRICT top, ptrdiff_t number, int32_t first,
    int32_t line, int32_t width, int32_t *RESTRICT start)
{
    for (ptrdiff_t j = 0; j < number; j++)
        start[j] = (top[j] - line) * width + left[j] - first;
}

/* Find the first tap and the place in the table of each pixel. */
INLINE int plan(
    const Tile *tile, Kernel kernel, Piece *piece, const double *RESTRICT x,
    const double *RESTRICT y)
{
    const double shift = 1 - kernel.taps / 2.0, steps = (double)kernel.steps;
    piece->all_inside = find_inside(
        x, y, piece->number, tile->frame_width - 0.5, tile->frame_height - 0.5, piece->inside);
    plan_axis(
        x, piece, (double)tile->left, shift, steps, piece->left, piece->knot_x, piece->phase_x);
    plan_axis(
        y, piece, (double)tile->top, shift, steps, piece->top, piece->knot_y, piece->phase_y);
    int32_t left_min, left_max, top_min, top_max;
    find_range(piece->left, piece->number, &left_min, &left_max);
    find_range(piece->top, piece->number, &top_min, &top_max);
    const ptrdiff_t last = (top_max - tile->top + kernel.taps - 1) * tile->width + left_max
        - tile->left + kernel.lanes;
    if (left_min < tile->left || top_min < tile->top
        || left_max - tile->left + kernel.taps > tile->width || last > tile->size)
        return OUT_OF_BOUNDS;
    find_starts(
        piece->left, piece->top, piece->number, (int32_t)tile->left, (int32_t)tile->top,
        (int32_t)tile->width, piece->start);
    return DONE;
}

/* Find the area in the source of each pixel; whether all are defined. */
INLINE int measure(
    const Tile *tile, const Rows *rows, ptrdiff_t first, ptrdiff_t number, double *RESTRICT factor)
{
    const double *RESTRICT x0 = rows->x[0] + first, *RESTRICT y0 = rows->y[0] + first;
    const double *RESTRICT x1 = rows->x[1] + first, *RESTRICT y1 = rows->y[1] + first;
    const double *RESTRICT x2 = rows->x[2] + first, *RESTRICT y2 = rows->y[2] + first;
    int64_t undefined = 0;
    if (!tile->area) {
        for (ptrdiff_t j = 0; j < number; j++)
            factor[j] = 1.0;
        return 1;
    }
    for (ptrdiff_t j = 0; j < number; j++) {
        const double area = 0.25
            * fabs((x1[j + 2] - x1[j]) * (y2[j + 1] - y0[j + 1])
                   - (x2[j + 1] - x0[j + 1]) * (y1[j + 2] - y1[j]));
        factor[j] = area;
        undefined |= area != area;
    }
    return !undefined;
}

/* Set the shares, and the values off the frame. */
INLINE void set_shares(Piece *piece)
{
    for (ptrdiff_t j = 0; j < piece->number; j++)
        piece->shares[j] = 1;
    if (!piece->all_inside)
        for (ptrdiff_t j = 0; j < piece->number; j++)
            piece->values[j] = piece->inside[j] != 0 ? piece->values[j] : NAN;
}

INLINE int has_variance(const Tile *tile)
{
    return tile->single != NULL || tile->wide != NULL;
}

INLINE int has_spread(const Tile *tile)
{
    return tile->spread_float != NULL || tile->spread_double != NULL;
}

/* Convert variances in their unit, NaN where a pixel is bad, to uncertainties, and write them. */
INLINE void store_spread(
    const Tile *tile, ptrdiff_t at, ptrdiff_t number, double *RESTRICT spreads)
{
    const double unit = tile->unit;
    for (ptrdiff_t j = 0; j < number; j++)
        spreads[j] *= unit;
    if (tile->kind == STANDARD_DEVIATION)
        for (ptrdiff_t j = 0; j < number; j++)
            spreads[j] = sqrt(spreads[j]);
    else if (tile->kind == INVERSE_VARIANCE)
        for (ptrdiff_t j = 0; j < number; j++)
            spreads[j] = spreads[j] == spreads[j] ? 1 / spreads[j] : 0;
    if (tile->spread_float != NULL)
        for (ptrdiff_t j = 0; j < number; j++)
            tile->spread_float[at + j] = (float)spreads[j];
    else
        for (ptrdiff_t j = 0; j < number; j++)
            tile->spread_double[at + j] = spreads[j];
}

/* The source pixels that count in the average over an output pixel. */
typedef struct {
    ptrdiff_t left, top, columns, rows;
    double a, b, c, d; /* change of the source position over one step along x and along y */
} Footprint;

/* Memory to average in; sums and weights of a pixel hold ``most_columns`` along each axis. */
typedef struct {
    double *line, *values, *spreads, *shares, *factor, *sums;
    ptrdiff_t most_columns;
} AverageRoom;

static int make_average_room(
    AverageRoom *room, const Tile *tile, const Average *average, ptrdiff_t side)
{
    const size_t fine = (size_t)average->fine_columns;
    const size_t pixels = (size_t)(tile->planes * tile->columns);
    const size_t columns = (size_t)tile->columns;
    room->line = malloc((fine + 3 * pixels + columns + (size_t)side) * sizeof(double));
    if (room->line == NULL)
        return NO_MEMORY;
    room->values = room->line + fine;
    room->spreads = room->values + pixels;
    room->shares = room->spreads + pixels;
    room->factor = room->shares + pixels;
    room->sums = room->factor + columns;
    room->most_columns = side;
    return DONE;
}

/* Cut a vector to a length. */
INLINE void shorten(double *a, double *b, double longest)
{
    const double length = hypot(*a, *b);
    if (!(length <= longest)) {
        *a = *a * longest / length;
        *b = *b * longest / length;
    }
}

/* Find the source pixels under an output pixel; false where the map has no derivatives. */
INLINE int find_footprint(
    Footprint *print, const Average *average, const double *x, const double *y, ptrdiff_t stride,
    int taps, int lanes)
{
    const double shift = 1 - taps / 2.0;
    const double n_x = (double)average->steps_x, n_y = (double)average->steps_y;
    const double ends_x = (double)(average->number_x / 2);
    const double ends_y = (double)(average->number_y / 2);
    double a = (x[stride + 2] - x[stride]) / 2, b = (x[2 * stride + 1] - x[1]) / 2;
    double c = (y[stride + 2] - y[stride]) / 2, d = (y[2 * stride + 1] - y[1]) / 2;
    if (!finite(a + b + c + d))
        return 0;
    /* the window holds no more; only where a map is wild between the points that were looked at */
    shorten(&a, &c, 1.5 * n_x);
    shorten(&b, &d, 1.5 * n_y);
    a /= n_x;
    b /= n_y;
    c /= n_x;
    d /= n_y;
    const double u = x[stride + 1], v = y[stride + 1];
    const double reach_x = ends_x * fabs(a) + ends_y * fabs(b);
    const double reach_y = ends_x * fabs(c) + ends_y * fabs(d);
    print->left = (ptrdiff_t)floor(u + shift - reach_x);
    print->top = (ptrdiff_t)floor(v + shift - reach_y);
    /* one more than needed: the last step may round up to the next pixel */
    print->columns = (ptrdiff_t)floor(u + shift + reach_x) - print->left + lanes + 1;
    print->rows = (ptrdiff_t)floor(v + shift + reach_y) - print->top + taps + 1;
    print->a = a;
    print->b = b;
    print->c = c;
    print->d = d;
    return 1;
}

INLINE int window_holds(const Tile *tile, const Footprint *print)
{
    const ptrdiff_t left = print->left - tile->left, top = print->top - tile->top;
    return left >= 0 && top >= 0 && left + print->columns <= tile->width
        && (top + print->rows) * tile->width <= tile->size;
}

/* Convert an uncertainty to a variance; negative ones stay negative. */
INLINE double to_variance(int kind, double spread)
{
    return kind == STANDARD_DEVIATION ? spread * fabs(spread)
        : kind == INVERSE_VARIANCE    ? 1 / spread
                                      : spread;
}

/* Doubles first: variances may be doubles where pixels are not. */
#define REAL double
#define INTEGER int64_t
#define LANE_BYTES 8
#define NAME(name) name##_double
#include "vectors.h"
#include "interpolation_sums.h"
#undef LANE_BYTES
#undef INTEGER
#undef REAL
#undef NAME

#define REAL float
#define INTEGER int32_t
#define LANE_BYTES 4
#define NAME(name) name##_float
#include "vectors.h"
#include "interpolation_sums.h"

/* Squares of the weights of some pixels, in the type of the variances. */
typedef struct {
    Weights_float single;
    Weights_double wide;
} Squares;

/* Sum the variances of some pixels. */
INLINE void sum_variances(
    const Tile *tile, Piece *piece, ptrdiff_t plane, Squares *squares, int lanes)
{
    if (tile->single == NULL) {
        sum_piece_double(
            tile, piece, tile->wide + plane * tile->size, &squares->wide, NULL, lanes,
            piece->spreads);
        return;
    }
    float *sums = squares->single.sums;
    sum_piece_float(
        tile, piece, tile->single + plane * tile->size, &squares->single, NULL, lanes, sums);
    widen_float(sums, piece->number, piece->spreads);
    if (tile->wide == NULL)
        return;
    for (ptrdiff_t j = 0; j < piece->number; j++) {
        if (finite(piece->spreads[j]))
            continue;
        double wide_x[WIDEST], wide_y[WIDEST];
        for (int l = 0; l < lanes; l++) {
            wide_x[l] = squares->single.x[j * lanes + l];
            wide_y[l] = squares->single.y[j * lanes + l];
        }
        piece->spreads[j] = sum_one_double(
            tile->wide + plane * tile->size + piece->start[j], tile->width, lanes, wide_x,
            wide_y);
    }
}

#define NAME(name) name##_float
#include "interpolation_loops.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_double
#include "interpolation_loops.h"

/* In this range of their unit single variances lose nothing that counts in a sum. */
#define SMALLEST_VARIANCE 0x1p-80
#define LARGEST_VARIANCE 0x1p80

INLINE int accept_singles(
    int kind, double unit, ptrdiff_t number, const float *pixels, const unsigned char *mask,
    const float *spreads, float *block, float *spread)
{
    const double factor = 1 / unit; /* powers of two: exact */
    int32_t beyond = 0;
    for (ptrdiff_t j = 0; j < number; j++) {
        const double variance = to_variance(kind, spreads[j]);
        const int sound = (variance >= 0) & finite(variance) & (pixels[j] - pixels[j] == 0);
        const int usable = mask == NULL ? sound : sound & !mask[j];
        const double value = usable ? variance * factor : 0;
        const int within
            = (value == 0) | ((value >= SMALLEST_VARIANCE) & (value <= LARGEST_VARIANCE));
        block[j] = usable ? pixels[j] : NAN;
        spread[j] = within ? (float)value : INFINITY;
        beyond |= !within;
    }
    return beyond;
}

/* Each kind has a loop of its own: divisions take long. */
MORE_CLONES
int accept_single(int kind, double unit, ptrdiff_t number, float *block, float *spread)
{
    if (kind == STANDARD_DEVIATION)
        return accept_singles(STANDARD_DEVIATION, unit, number, block, NULL, spread, block, spread);
    if (kind == INVERSE_VARIANCE)
        return accept_singles(INVERSE_VARIANCE, unit, number, block, NULL, spread, block, spread);
    return accept_singles(VARIANCE, unit, number, block, NULL, spread, block, spread);
}

INLINE void leave_out(ptrdiff_t number, float *block, float *spread)
{
    for (ptrdiff_t j = 0; j < number; j++) {
        block[j] = NAN;
        spread[j] = 0;
    }
}

/* The same for one row of a window, of which some pixels are on the plane. */
INLINE int load_row(
    int kind, double unit, const Window *window, ptrdiff_t first, ptrdiff_t last, ptrdiff_t at,
    const float *pixels, const unsigned char *mask, const float *spreads, float *block,
    float *spread)
{
    leave_out(first, block, spread);
    leave_out(window->width - last, block + last, spread + last);
    block += first;
    spread += first;
    if (mask == NULL)
        return accept_singles(
            kind, unit, last - first, pixels + at, NULL, spreads + at, block, spread);
    return accept_singles(
        kind, unit, last - first, pixels + at, mask + at, spreads + at, block, spread);
}

MORE_CLONES
int load_single(
    int kind, double unit, const Window *window, const float *pixels, const unsigned char *mask,
    const float *spreads, float *block, float *spread)
{
    const ptrdiff_t width = window->width, right = window->plane_width - window->left;
    const ptrdiff_t first = window->left < 0 ? -window->left : 0;
    const ptrdiff_t last = right < width ? right : width;
    int beyond = 0;
    for (ptrdiff_t i = 0; i < window->height; i++, block += width, spread += width) {
        const ptrdiff_t row = window->top + i;
        if (row < 0 || row >= window->plane_height || first >= last) {
            leave_out(width, block, spread);
            continue;
        }
        const ptrdiff_t at = row * window->plane_width + window->left + first;
#define ROW_OF(KIND) \
    load_row(KIND, unit, window, first, last, at, pixels, mask, spreads, block, spread)
        beyond |= kind == STANDARD_DEVIATION ? ROW_OF(STANDARD_DEVIATION)
            : kind == INVERSE_VARIANCE       ? ROW_OF(INVERSE_VARIANCE)
                                             : ROW_OF(VARIANCE);
#undef ROW_OF
    }
    return beyond;
}
