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

#define MOST_LANES 8

/* The pixels of a row: where their kernels begin in the source, and their phases in the table. */
typedef struct {
    ptrdiff_t number;
    int32_t *left, *top; /* of the first tap */
    int32_t *knot_x, *knot_y;
    double *phase_x, *phase_y;
    double *inside; /* 1, or 0 off the frame, where the other numbers are those of some pixel */
    double *factor; /* area of the output pixel in the source */
    double *values, *spreads, *shares;
} Row;

static int make_row(Row *row, ptrdiff_t number)
{
    const size_t n = (size_t)number;
    char *room = malloc(n * (7 * sizeof(double) + 4 * sizeof(int32_t)) + 1);
    if (room == NULL)
        return NO_MEMORY;
    double *numbers = (double *)room;
    row->number = number;
    row->phase_x = numbers;
    row->phase_y = numbers + n;
    row->inside = numbers + 2 * n;
    row->factor = numbers + 3 * n;
    row->values = numbers + 4 * n;
    row->spreads = numbers + 5 * n;
    row->shares = numbers + 6 * n;
    int32_t *integers = (int32_t *)(numbers + 7 * n);
    row->left = integers;
    row->top = integers + n;
    row->knot_x = integers + 2 * n;
    row->knot_y = integers + 3 * n;
    return DONE;
}

static void free_row(Row *row)
{
    free(row->phase_x);
}

INLINE int finite(double value)
{
    return value - value == 0;
}

INLINE int32_t floor_of(double value)
{
    const int32_t whole = (int32_t)value;
    return whole - (whole > value);
}

/* Find the first tap and the place in the table of each pixel; whether the window holds them. */
INLINE int plan_row(const Tile *tile, Kernel kernel, ptrdiff_t i, Row *row)
{
    const ptrdiff_t stride = tile->columns + 2;
    const double *RESTRICT x = tile->x + (i + 1) * stride + 1;
    const double *RESTRICT y = tile->y + (i + 1) * stride + 1;
    const double right = tile->frame_width - 0.5, end = tile->frame_height - 0.5;
    const double shift = 1 - kernel.taps / 2.0, steps = (double)kernel.steps;
    /* of a pixel off the frame: any that the window holds */
    const double x_else = (double)tile->left, y_else = (double)tile->top;
    int32_t *RESTRICT left = row->left, *RESTRICT top = row->top;
    int32_t *RESTRICT knot_x = row->knot_x, *RESTRICT knot_y = row->knot_y;
    double *RESTRICT phase_x = row->phase_x, *RESTRICT phase_y = row->phase_y;
    double *RESTRICT inside = row->inside;
    int32_t left_min = INT32_MAX, left_max = INT32_MIN, top_min = INT32_MAX, top_max = INT32_MIN;
    for (ptrdiff_t j = 0; j < row->number; j++) {
        const int on = (x[j] >= -0.5) & (x[j] < right) & (y[j] >= -0.5) & (y[j] < end);
        const double u = on ? x[j] + shift : x_else, v = on ? y[j] + shift : y_else;
        const int32_t column = floor_of(u), line = floor_of(v);
        const double s = (u - column) * steps, t = (v - line) * steps;
        const int32_t k = (int32_t)s, m = (int32_t)t;
        left[j] = column;
        top[j] = line;
        knot_x[j] = k;
        knot_y[j] = m;
        phase_x[j] = s - k;
        phase_y[j] = t - m;
        inside[j] = on ? 1.0 : 0.0;
    }
    for (ptrdiff_t j = 0; j < row->number; j++) {
        left_min = left[j] < left_min ? left[j] : left_min;
        left_max = left[j] > left_max ? left[j] : left_max;
        top_min = top[j] < top_min ? top[j] : top_min;
        top_max = top[j] > top_max ? top[j] : top_max;
    }
    if (row->number == 0)
        return DONE;
    const ptrdiff_t last = (top_max - tile->top + kernel.taps - 1) * tile->width
        + left_max - tile->left + kernel.lanes;
    const int held = left_min >= tile->left && top_min >= tile->top
        && left_max - tile->left + kernel.taps <= tile->width && last <= tile->size;
    return held ? DONE : OUT_OF_BOUNDS;
}

/* Find the area in the source of each pixel of a row. */
INLINE void measure_row(const Tile *tile, ptrdiff_t i, Row *row)
{
    const ptrdiff_t stride = tile->columns + 2;
    const double *RESTRICT x0 = tile->x + i * stride, *RESTRICT y0 = tile->y + i * stride;
    const double *RESTRICT x1 = x0 + stride, *RESTRICT y1 = y0 + stride;
    const double *RESTRICT x2 = x1 + stride, *RESTRICT y2 = y1 + stride;
    double *RESTRICT factor = row->factor;
    if (!tile->area) {
        for (ptrdiff_t j = 0; j < row->number; j++)
            factor[j] = 1.0;
        return;
    }
    for (ptrdiff_t j = 0; j < row->number; j++)
        factor[j] = 0.25
            * fabs((x1[j + 2] - x1[j]) * (y2[j + 1] - y0[j + 1])
                   - (x2[j + 1] - x0[j + 1]) * (y1[j + 2] - y1[j]));
}

/* Set the shares of a row, and its values off the frame; whether any value is not finite. */
INLINE int check_row(Row *row)
{
    double *RESTRICT values = row->values, *RESTRICT shares = row->shares;
    const double *RESTRICT inside = row->inside;
    int64_t any = 0;
    for (ptrdiff_t j = 0; j < row->number; j++) {
        const double value = inside[j] != 0 ? values[j] : NAN;
        values[j] = value;
        shares[j] = 1;
        any |= !finite(value);
    }
    return any != 0;
}

/* Weights of one axis, as those of the loops below, for variances. */
INLINE void weights_64(
    const double *RESTRICT table, int32_t knot, double phase, int lanes, double *RESTRICT out)
{
    const double *RESTRICT low = table + (ptrdiff_t)knot * lanes;
    for (int l = 0; l < lanes; l++)
        out[l] = low[l] + phase * (low[lanes + l] - low[l]);
}

/* Plain sums of one row with squared weights. */
INLINE void sum_squares(
    const Tile *tile, const Row *row, const double *RESTRICT variances,
    const double *RESTRICT table, int taps, int lanes)
{
    double *RESTRICT spreads = row->spreads;
    for (ptrdiff_t j = 0; j < row->number; j++) {
        const double *RESTRICT first
            = variances + (row->top[j] - tile->top) * tile->width + row->left[j] - tile->left;
        if (taps == 1) {
            spreads[j] = first[0];
            continue;
        }
        double weights_x[MOST_LANES], weights_y[MOST_LANES], total[MOST_LANES];
        weights_64(table, row->knot_x[j], row->phase_x[j], lanes, weights_x);
        weights_64(table, row->knot_y[j], row->phase_y[j], lanes, weights_y);
        for (int l = 0; l < lanes; l++) {
            weights_x[l] *= weights_x[l];
            weights_y[l] *= weights_y[l];
        }
        for (int line = 0; line < taps; line++)
            for (int l = 0; l < lanes; l++) {
                const double term = weights_y[line] * first[line * tile->width + l];
                total[l] = line == 0 ? term : total[l] + term;
            }
        for (int l = 0; l < lanes; l++)
            total[l] *= weights_x[l];
        for (int half = lanes / 2; half > 0; half /= 2)
            for (int l = 0; l < half; l++)
                total[l] += total[l + half];
        spreads[j] = total[0];
    }
}

/* The source pixels that count in the average over an output pixel. */
typedef struct {
    ptrdiff_t left, top, columns, rows;
    double a, b, c, d; /* change of the source position over one step along x and along y */
} Footprint;

/* Memory to average in; sums and weights of a pixel hold ``most_columns`` along each axis. */
typedef struct {
    double *line, *values, *spreads, *shares, *sums;
    ptrdiff_t most_columns;
} AverageRoom;

static int make_average_room(
    AverageRoom *room, const Tile *tile, const Average *average, ptrdiff_t side)
{
    const size_t fine = (size_t)average->fine_columns;
    const size_t pixels = (size_t)(tile->planes * tile->columns);
    room->line = malloc((fine + 3 * pixels + (size_t)side) * sizeof(double));
    if (room->line == NULL)
        return NO_MEMORY;
    room->values = room->line + fine;
    room->spreads = room->values + pixels;
    room->shares = room->spreads + pixels;
    room->sums = room->shares + pixels;
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

#define REAL float
#define NAME(name) name##_float
#include "interpolation_loops.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_double
#include "interpolation_loops.h"
