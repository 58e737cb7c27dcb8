/* The loops of resampling; see _resampling.pyx for what the arrays are. */

#ifndef SPALIPY_ASTRO_RESAMPLING_H
#define SPALIPY_ASTRO_RESAMPLING_H

#include "portable.h"

/* One axis of a grid: positions, first basis function at each, weights (order, size). */
typedef struct {
    const double *at;
    const int64_t *first;
    const double *weights;
    ptrdiff_t size;
} Axis;

/* A grid of output positions, and the map onto the source: a spline and an affine transform. */
typedef struct {
    Axis along_x, along_y;
    ptrdiff_t order;
    const double *coeff_x, *coeff_y;
    ptrdiff_t coeff_rows, coeff_columns;
    const double *matrix, *shift;
} Grid;

/* A window of the source and the tile of the output that is made from it. */
typedef struct {
    ptrdiff_t planes;
    /* of the window: source pixel of its first, its width, and the number of its pixels */
    ptrdiff_t left, top, width, size;
    /*
     * Variances in a unit, (planes, size), single or double, or both NULL. If both are there, the
     * double ones are for sums with single ones that are infinite: those beyond the range.
     */
    const float *single;
    const double *wide;
    double unit;
    double frame_width, frame_height;
    /* positions, (rows + 2, columns + 2), or NULL where the grid tells them, from row, column on */
    const double *x, *y;
    const Grid *grid;
    ptrdiff_t rows, columns;
    /* how values are stored */
    int area;
    double least, fill;
    /* place of the tile in the outputs, (planes, out_height, out_width) */
    ptrdiff_t row, column, out_height, out_width;
    unsigned char *bad; /* or NULL */
    float *footprint;   /* or NULL */
    int kind;           /* of the uncertainties, float or double, or both NULL */
    float *spread_float;
    double *spread_double;
} Tile;

/* Kinds of uncertainties. */
enum { STANDARD_DEVIATION, VARIANCE, INVERSE_VARIANCE };

/*
 * An interpolation kernel: its taps, lanes (taps rounded up to a power of two), steps of the table,
 * which has a row more: weights, and how they change to the next row.
 */
typedef struct {
    int taps, lanes;
    ptrdiff_t steps;
} Kernel;

/* Weights of the average over an output pixel. */
typedef struct {
    const double *factors_x, *factors_y;
    ptrdiff_t number_x, number_y; /* odd */
    ptrdiff_t steps_x, steps_y;
    ptrdiff_t fine_rows, fine_columns;
} Average;

int interpolate_tile_float(
    const Tile *tile, Kernel kernel, const float *block, const float *table,
    const double *table64, float *out);
int interpolate_tile_double(
    const Tile *tile, Kernel kernel, const double *block, const double *table,
    const double *table64, double *out);
int average_tile_float(
    const Tile *tile, Kernel kernel, const Average *average, const float *block,
    const float *table, const float *fine, float *out);
int average_tile_double(
    const Tile *tile, Kernel kernel, const Average *average, const double *block,
    const double *table, const double *fine, double *out);

/*
 * Uncertainties to variances in a unit, 0 where they are invalid or pixels are not finite: these
 * become NaN. Single variances beyond the range become infinite; whether there are any.
 */
int accept_single(int kind, double unit, ptrdiff_t number, float *block, float *spread);
void accept_float(int kind, double unit, ptrdiff_t number, float *block, double *spread);
void accept_double(int kind, double unit, ptrdiff_t number, double *block, double *spread);

/* A window of a plane of (plane_height, plane_width) pixels, which it may stick out of. */
typedef struct {
    ptrdiff_t left, top, width, height, plane_width, plane_height;
} Window;

/* Copy pixels and uncertainties of a window, and do the same in one pass; masks may be NULL. */
int load_single(
    int kind, double unit, const Window *window, const float *pixels, const unsigned char *mask,
    const float *spreads, float *block, float *spread);

/* Whether there are coefficients for all functions of a part of a grid. */
int grid_is_valid(
    const Grid *grid, ptrdiff_t row, ptrdiff_t column, ptrdiff_t rows, ptrdiff_t columns);

/*
 * Columns of a grid of which one row after the other is found: MOST_COLUMNS at the most. Functions
 * that count are the same in each cell of a row; ``line_x`` and ``line_y`` hold the map of a row at
 * the columns of the coefficients.
 */
#define MOST_COLUMNS 258
typedef struct {
    const Grid *grid;
    ptrdiff_t column, number, cells;
    ptrdiff_t ends[MOST_COLUMNS];
    double *line_x, *line_y;
} Strip;

int open_strip(Strip *strip, const Grid *grid);
void close_strip(Strip *strip);
void move_strip(Strip *strip, ptrdiff_t column, ptrdiff_t number);
void strip_row(Strip *strip, ptrdiff_t row, double *out_x, double *out_y);

/* Source positions of a whole grid, (along_y.size, along_x.size). */
int spline_tile(const Grid *grid, double *out_x, double *out_y);

/* Find a box that holds the source positions of a part of a grid. */
void spline_extent(
    const Grid *grid, ptrdiff_t row, ptrdiff_t column, ptrdiff_t rows, ptrdiff_t columns,
    double *out);

void source_extent(
    const double *x, const double *y, ptrdiff_t rows, ptrdiff_t columns, double frame_width,
    double frame_height, double *out);

/* Flags of 1, 2, 4 or 8 bytes: block (height, width), out (out_height, out_width). */
int flags_tile(
    const void *block, int bytes, ptrdiff_t height, const Tile *tile, double radius, void *out);

#endif
