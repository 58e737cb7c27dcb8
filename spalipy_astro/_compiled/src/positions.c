/* Where the pixels of a tile lie on the source, and the flags that are found there. */

#include "resampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int grid_is_valid(
    const Grid *grid, ptrdiff_t row, ptrdiff_t column, ptrdiff_t rows, ptrdiff_t columns)
{
    const int64_t last_x = grid->coeff_columns - grid->order;
    const int64_t last_y = grid->coeff_rows - grid->order;
    int beyond = 0;
    for (ptrdiff_t j = column; j < column + columns; j++)
        beyond |= (grid->along_x.first[j] < 0) | (grid->along_x.first[j] > last_x);
    for (ptrdiff_t i = row; i < row + rows; i++)
        beyond |= (grid->along_y.first[i] < 0) | (grid->along_y.first[i] > last_y);
    return !beyond;
}

int open_strip(Strip *strip, const Grid *grid)
{
    strip->grid = grid;
    strip->line_x = malloc(2 * (size_t)grid->coeff_columns * sizeof(double) + 1);
    strip->line_y = strip->line_x + grid->coeff_columns;
    return strip->line_x == NULL ? NO_MEMORY : DONE;
}

void close_strip(Strip *strip)
{
    free(strip->line_x);
}

void move_strip(Strip *strip, ptrdiff_t column, ptrdiff_t number)
{
    const int64_t *first = strip->grid->along_x.first + column;
    strip->column = column;
    strip->number = number;
    strip->cells = 0;
    for (ptrdiff_t j = 1; j <= number; j++)
        if (j == number || first[j] != first[j - 1])
            strip->ends[strip->cells++] = j;
}

/* Find the map on a row, at some columns of the coefficients. */
INLINE void find_line(Strip *strip, ptrdiff_t row, ptrdiff_t first, ptrdiff_t end)
{
    const Grid *grid = strip->grid;
    const Axis *along_y = &grid->along_y;
    double *RESTRICT line_x = strip->line_x, *RESTRICT line_y = strip->line_y;
    for (ptrdiff_t column = first; column < end; column++)
        line_x[column] = line_y[column] = 0;
    for (ptrdiff_t k = 0; k < grid->order; k++) {
        const double weight = along_y->weights[k * along_y->size + row];
        const ptrdiff_t at = (along_y->first[row] + k) * grid->coeff_columns;
        const double *RESTRICT row_x = grid->coeff_x + at, *RESTRICT row_y = grid->coeff_y + at;
        for (ptrdiff_t column = first; column < end; column++) {
            line_x[column] += weight * row_x[column];
            line_y[column] += weight * row_y[column];
        }
    }
    const double *RESTRICT matrix = grid->matrix;
    for (ptrdiff_t column = first; column < end; column++) {
        const double u = line_x[column], v = line_y[column];
        line_x[column] = matrix[0] * u + matrix[1] * v;
        line_y[column] = matrix[2] * u + matrix[3] * v;
    }
}

/* Positions of some pixels of a row, in one cell. */
INLINE void find_positions(
    ptrdiff_t number, ptrdiff_t order, const double *RESTRICT x, double slope_x, double start_x,
    double slope_y, double start_y, const double *RESTRICT weights, ptrdiff_t stride,
    const double *RESTRICT line_x, const double *RESTRICT line_y, double *RESTRICT out_x,
    double *RESTRICT out_y)
{
    for (ptrdiff_t j = 0; j < number; j++) {
        double u = slope_x * x[j] + start_x, v = slope_y * x[j] + start_y;
        for (ptrdiff_t k = 0; k < order; k++) {
            u += line_x[k] * weights[k * stride + j];
            v += line_y[k] * weights[k * stride + j];
        }
        out_x[j] = u;
        out_y[j] = v;
    }
}

MORE_CLONES
void strip_row(Strip *strip, ptrdiff_t row, double *out_x, double *out_y)
{
    const Grid *grid = strip->grid;
    const Axis *along_x = &grid->along_x;
    const double *matrix = grid->matrix, y = grid->along_y.at[row];
    ptrdiff_t first = grid->coeff_columns, end = 0, start = 0;
    for (ptrdiff_t cell = 0; cell < strip->cells; cell++) {
        const ptrdiff_t one = along_x->first[strip->column + strip->ends[cell] - 1];
        first = one < first ? one : first;
        end = one + grid->order > end ? one + grid->order : end;
    }
    find_line(strip, row, first, end);
    for (ptrdiff_t cell = 0; cell < strip->cells; cell++) {
        const ptrdiff_t at = strip->column + start, function = along_x->first[at];
#define CELL(ORDER) \
    find_positions( \
        strip->ends[cell] - start, ORDER, along_x->at + at, matrix[0], \
        matrix[1] * y + grid->shift[0], matrix[2], matrix[3] * y + grid->shift[1], \
        along_x->weights + at, along_x->size, strip->line_x + function, \
        strip->line_y + function, out_x + start, out_y + start)
        if (grid->order == 6)
            CELL(6);
        else if (grid->order == 4)
            CELL(4);
        else if (grid->order == 0)
            CELL(0);
        else
            CELL(grid->order);
#undef CELL
        start = strip->ends[cell];
    }
}

int spline_tile(const Grid *grid, double *out_x, double *out_y)
{
    const ptrdiff_t columns = grid->along_x.size, rows = grid->along_y.size;
    Strip strip;
    if (!grid_is_valid(grid, 0, 0, rows, columns))
        return OUT_OF_BOUNDS;
    if (open_strip(&strip, grid) != DONE)
        return NO_MEMORY;
    for (ptrdiff_t first = 0; first < columns; first += MOST_COLUMNS) {
        const ptrdiff_t left = columns - first;
        move_strip(&strip, first, left < MOST_COLUMNS ? left : MOST_COLUMNS);
        for (ptrdiff_t i = 0; i < rows; i++)
            strip_row(&strip, i, out_x + i * columns + first, out_y + i * columns + first);
    }
    close_strip(&strip);
    return DONE;
}

/* Find the functions that count somewhere, and the largest sum of their weights' absolute values. */
INLINE double find_functions(
    const Axis *axis, ptrdiff_t order, ptrdiff_t start, ptrdiff_t number, ptrdiff_t *first,
    ptrdiff_t *end)
{
    double largest = 0;
    *first = axis->first[start];
    *end = *first + order;
    for (ptrdiff_t j = start; j < start + number; j++) {
        const ptrdiff_t one = axis->first[j];
        double sum = 0;
        for (ptrdiff_t k = 0; k < order; k++)
            sum += fabs(axis->weights[k * axis->size + j]);
        largest = sum > largest ? sum : largest;
        *first = one < *first ? one : *first;
        *end = one + order > *end ? one + order : *end;
    }
    return largest;
}

/* Find the middle and half the range of coefficients. */
INLINE void find_middle(
    const Grid *grid, const double *coeff, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left,
    ptrdiff_t right, double *middle, double *half)
{
    double low = INFINITY, high = -INFINITY;
    for (ptrdiff_t i = top; i < bottom; i++)
        for (ptrdiff_t j = left; j < right; j++) {
            const double value = coeff[i * grid->coeff_columns + j];
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
    *middle = low <= high ? (low + high) / 2 : 0;
    *half = low <= high ? (high - low) / 2 : 0;
}

/*
 * Weights sum to 1, so that a spline differs from the middle of its coefficients by half of their
 * range, times the sum of the weights' absolute values: 1, but for its tails.
 */
void spline_extent(
    const Grid *grid, ptrdiff_t row, ptrdiff_t column, ptrdiff_t rows, ptrdiff_t columns,
    double *out)
{
    const double *at_x = grid->along_x.at + column, *at_y = grid->along_y.at + row;
    const double *matrix = grid->matrix;
    ptrdiff_t left, right, top, bottom;
    double reach = find_functions(&grid->along_x, grid->order, column, columns, &left, &right);
    reach *= find_functions(&grid->along_y, grid->order, row, rows, &top, &bottom);
    double u, v, half_u, half_v;
    find_middle(grid, grid->coeff_x, top, bottom, left, right, &u, &half_u);
    find_middle(grid, grid->coeff_y, top, bottom, left, right, &v, &half_v);
    u += (at_x[0] + at_x[columns - 1]) / 2;
    v += (at_y[0] + at_y[rows - 1]) / 2;
    half_u = half_u * reach + fabs(at_x[columns - 1] - at_x[0]) / 2;
    half_v = half_v * reach + fabs(at_y[rows - 1] - at_y[0]) / 2;
    for (int k = 0; k < 2; k++) {
        const double place = matrix[2 * k] * u + matrix[2 * k + 1] * v + grid->shift[k];
        const double half = fabs(matrix[2 * k]) * half_u + fabs(matrix[2 * k + 1]) * half_v;
        const double rounded = 1e-9 * (1 + fabs(place) + half);
        out[2 * k] = place - half - rounded;
        out[2 * k + 1] = place + half + rounded;
    }
}

MORE_CLONES
void source_extent(
    const double *x, const double *y, ptrdiff_t rows, ptrdiff_t columns, double frame_width,
    double frame_height, double *out)
{
    double x_min[LANES], x_max[LANES], y_min[LANES], y_max[LANES];
    const double right = frame_width - 0.5, top = frame_height - 0.5;
    for (int l = 0; l < LANES; l++) {
        x_min[l] = y_min[l] = INFINITY;
        x_max[l] = y_max[l] = -INFINITY;
    }
    for (ptrdiff_t i = 1; i < rows - 1; i++) {
        const double *RESTRICT u = x + i * columns + 1, *RESTRICT v = y + i * columns + 1;
        const ptrdiff_t number = columns - 2, whole = number - number % LANES;
#define LOOK(J, L) \
    do { \
        const int on = (u[J] >= -0.5) & (u[J] < right) & (v[J] >= -0.5) & (v[J] < top); \
        const double u_low = on ? u[J] : INFINITY, u_high = on ? u[J] : -INFINITY; \
        const double v_low = on ? v[J] : INFINITY, v_high = on ? v[J] : -INFINITY; \
        x_min[L] = u_low < x_min[L] ? u_low : x_min[L]; \
        x_max[L] = u_high > x_max[L] ? u_high : x_max[L]; \
        y_min[L] = v_low < y_min[L] ? v_low : y_min[L]; \
        y_max[L] = v_high > y_max[L] ? v_high : y_max[L]; \
    } while (0)
        for (ptrdiff_t j = 0; j < whole; j += LANES)
            for (int l = 0; l < LANES; l++)
                LOOK(j + l, l);
        for (ptrdiff_t j = whole; j < number; j++)
            LOOK(j, 0);
#undef LOOK
    }
    for (int l = 1; l < LANES; l++) {
        x_min[0] = x_min[l] < x_min[0] ? x_min[l] : x_min[0];
        x_max[0] = x_max[l] > x_max[0] ? x_max[l] : x_max[0];
        y_min[0] = y_min[l] < y_min[0] ? y_min[l] : y_min[0];
        y_max[0] = y_max[l] > y_max[0] ? y_max[l] : y_max[0];
    }
    out[0] = x_min[0];
    out[1] = x_max[0];
    out[2] = y_min[0];
    out[3] = y_max[0];
}

#define BITS uint8_t
#define NAME flags_tile_1
#include "flags.h"
#define BITS uint16_t
#define NAME flags_tile_2
#include "flags.h"
#define BITS uint32_t
#define NAME flags_tile_4
#include "flags.h"
#define BITS uint64_t
#define NAME flags_tile_8
#include "flags.h"

int flags_tile(
    const void *block, int bytes, ptrdiff_t height, const Tile *tile, double radius, void *out)
{
    switch (bytes) {
    case 1:
        return flags_tile_1(block, height, tile, radius, out);
    case 2:
        return flags_tile_2(block, height, tile, radius, out);
    case 4:
        return flags_tile_4(block, height, tile, radius, out);
    default:
        return flags_tile_8(block, height, tile, radius, out);
    }
}
