/* Where the pixels of a tile lie on the source, and the flags that are found there. */

#include "resampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Positions of the pixels of a row within one cell of the spline, where the same functions count. */
INLINE void spline_cell(
    ptrdiff_t number, ptrdiff_t order, const double *RESTRICT x, double y,
    const double *RESTRICT weights, ptrdiff_t stride, const double *RESTRICT line_x,
    const double *RESTRICT line_y, const double *RESTRICT matrix, const double *RESTRICT shift,
    double *RESTRICT out_x, double *RESTRICT out_y)
{
    for (ptrdiff_t j = 0; j < number; j++) {
        double u = x[j], v = y;
        for (ptrdiff_t k = 0; k < order; k++) {
            u += line_x[k] * weights[k * stride + j];
            v += line_y[k] * weights[k * stride + j];
        }
        out_x[j] = matrix[0] * u + matrix[1] * v + shift[0];
        out_y[j] = matrix[2] * u + matrix[3] * v + shift[1];
    }
}

MORE_CLONES
int spline_tile(
    Axis along_x, Axis along_y, ptrdiff_t order, const double *coeff_x, const double *coeff_y,
    ptrdiff_t coeff_rows, ptrdiff_t coeff_columns, const double *matrix, const double *shift,
    double *out_x, double *out_y)
{
    for (ptrdiff_t j = 0; j < along_x.size; j++)
        if (along_x.first[j] < 0 || along_x.first[j] + order > coeff_columns)
            return OUT_OF_BOUNDS;
    for (ptrdiff_t i = 0; i < along_y.size; i++)
        if (along_y.first[i] < 0 || along_y.first[i] + order > coeff_rows)
            return OUT_OF_BOUNDS;
    /* the spline on the row, at the columns of the coefficients */
    double *line_x = malloc(2 * (size_t)coeff_columns * sizeof(double) + 1);
    if (line_x == NULL)
        return NO_MEMORY;
    double *line_y = line_x + coeff_columns;
    const ptrdiff_t nx = along_x.size;
    for (ptrdiff_t i = 0; i < along_y.size; i++) {
        memset(line_x, 0, 2 * (size_t)coeff_columns * sizeof(double));
        for (ptrdiff_t k = 0; k < order; k++) {
            const double weight = along_y.weights[k * along_y.size + i];
            const double *RESTRICT row_x = coeff_x + (along_y.first[i] + k) * coeff_columns;
            const double *RESTRICT row_y = coeff_y + (along_y.first[i] + k) * coeff_columns;
            for (ptrdiff_t column = 0; column < coeff_columns; column++) {
                line_x[column] += weight * row_x[column];
                line_y[column] += weight * row_y[column];
            }
        }
        ptrdiff_t start = 0;
        while (start < nx) {
            const int64_t first = along_x.first[start];
            ptrdiff_t end = start + 1;
            while (end < nx && along_x.first[end] == first)
                end++;
#define CELL(ORDER) \
    spline_cell( \
        end - start, ORDER, along_x.at + start, along_y.at[i], along_x.weights + start, nx, \
        line_x + first, line_y + first, matrix, shift, out_x + i * nx + start, \
        out_y + i * nx + start)
            if (order == 6)
                CELL(6);
            else if (order == 4)
                CELL(4);
            else
                CELL(order);
#undef CELL
            start = end;
        }
    }
    free(line_x);
    return DONE;
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
