#include "smoothing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REAL double
#define INTEGER int64_t
#define LANE_BYTES 8
#define NAME(name) name##_double
#include "vectors.h"

/* Rows and columns are taken by fours, which fill a vector; the last ones are padded. */
#define SIDE 4

/* A square of numbers, column by column. */
typedef struct {
    four_double columns[SIDE];
} Square;

/* Inner products of four rows with four others, (rows, others), over a multiple of four numbers. */
INLINE void products(
    const double *RESTRICT rows, const double *RESTRICT others, ptrdiff_t stride,
    ptrdiff_t number, Square *out)
{
    for (int c = 0; c < SIDE; c += 2) { /* two columns leave room in the registers */
        const double zeros[SIDE] = { 0 };
        four_double sums[2][SIDE];
        for (int r = 0; r < SIDE; r++)
            sums[0][r] = sums[1][r] = four_load_double(zeros);
        const double *one = others + c * stride, *two = one + stride;
        for (ptrdiff_t k = 0; k < number; k += SIDE) {
            const four_double first = four_load_double(one + k);
            const four_double second = four_load_double(two + k);
            for (int r = 0; r < SIDE; r++) {
                const four_double own = four_load_double(rows + r * stride + k);
                sums[0][r] = four_add_double(sums[0][r], four_multiply_double(own, first));
                sums[1][r] = four_add_double(sums[1][r], four_multiply_double(own, second));
            }
        }
        for (int d = 0; d < 2; d++)
            out->columns[c + d]
                = four_sums_double(sums[d][0], sums[d][1], sums[d][2], sums[d][3]);
    }
}

/* Solve X T' = S for a square X, with T lower triangular and the inverse of its diagonal. */
INLINE void divide(
    Square *square, const double *RESTRICT triangle, ptrdiff_t stride,
    const double *RESTRICT inverse)
{
    for (int c = 0; c < SIDE; c++) {
        for (int d = 0; d < c; d++)
            square->columns[c] = four_subtract_double(
                square->columns[c],
                four_scale_double(triangle[c * stride + d], square->columns[d]));
        square->columns[c] = four_scale_double(inverse[c], square->columns[c]);
    }
}

/* Write a square to its rows. */
INLINE void write_rows(Square square, double *RESTRICT rows, ptrdiff_t stride)
{
    four_transpose_double(square.columns);
    for (int r = 0; r < SIDE; r++)
        four_store_double(rows + r * stride, square.columns[r]);
}

/* Factor a square, of which the part above the diagonal is not looked at. */
INLINE int factor_square(Square *square, double *RESTRICT inverse)
{
    double own[SIDE][SIDE]; /* column, row */
    for (int c = 0; c < SIDE; c++)
        four_store_double(own[c], square->columns[c]);
    for (int c = 0; c < SIDE; c++) {
        for (int d = 0; d < c; d++)
            for (int r = c; r < SIDE; r++)
                own[c][r] -= own[d][r] * own[d][c];
        if (!(own[c][c] > 0))
            return SINGULAR;
        const double root = sqrt(own[c][c]);
        inverse[c] = 1 / root;
        for (int r = 0; r < SIDE; r++)
            own[c][r] = r < c ? 0 : r == c ? root : own[c][r] * inverse[c];
        square->columns[c] = four_load_double(own[c]);
    }
    return DONE;
}

/*
 * Factor the matrix below and on the diagonal in place, and with it the rows of the right-hand side
 * that follow it, which become the factor's solution. SINGULAR where it is not positive definite.
 */
INLINE int factor(double *RESTRICT lower, ptrdiff_t padded, double *RESTRICT inverse)
{
    for (ptrdiff_t i = 0; i <= padded; i += SIDE) {
        double *rows = lower + i * padded;
        for (ptrdiff_t j = 0; j <= i && j < padded; j += SIDE) {
            const double *others = lower + j * padded;
            Square square, known;
            products(rows, others, padded, j, &square);
            for (int r = 0; r < SIDE; r++)
                known.columns[r] = four_load_double(rows + r * padded + j);
            four_transpose_double(known.columns);
            for (int c = 0; c < SIDE; c++)
                square.columns[c]
                    = four_subtract_double(known.columns[c], square.columns[c]);
            if (j == i) {
                if (factor_square(&square, inverse + i) != DONE)
                    return SINGULAR;
            } else
                divide(&square, others + j, padded, inverse + j);
            write_rows(square, rows + j, padded);
        }
    }
    return DONE;
}

/* Invert the factor: `upper` becomes the inverse, transposed, above and on the diagonal. */
INLINE void invert(
    const double *RESTRICT lower, ptrdiff_t padded, const double *RESTRICT inverse, ptrdiff_t size,
    double *RESTRICT upper)
{
    for (ptrdiff_t i = 0; i < padded; i += SIDE) {
        double *rows = upper + i * padded;
        double unit[SIDE][SIDE] = { { 0 } };
        for (int r = 0; r < SIDE; r++)
            unit[r][r] = 1;
        for (ptrdiff_t k = i; k < padded; k += SIDE) {
            Square square;
            if (k == i)
                for (int c = 0; c < SIDE; c++)
                    square.columns[c] = four_load_double(unit[c]);
            else {
                products(rows + i, lower + k * padded + i, padded, k - i, &square);
                for (int c = 0; c < SIDE; c++)
                    square.columns[c] = four_scale_double(-1, square.columns[c]);
            }
            divide(&square, lower + k * padded + k, padded, inverse + k);
            write_rows(square, rows + k, padded);
        }
    }
    for (ptrdiff_t i = size; i < padded; i++) /* what is padded shall not count */
        memset(upper + i * padded, 0, (size_t)padded * sizeof(double));
}

/* Sum up the inverse B and its squares. */
INLINE void sum_inverse(
    const double *RESTRICT upper, ptrdiff_t padded, const double *RESTRICT roughness,
    double *RESTRICT figures)
{
    for (ptrdiff_t i = 0; i < padded; i += SIDE)
        for (ptrdiff_t j = 0; j <= i; j += SIDE) {
            Square square;
            double values[SIDE], low = 0, both = 0, high = 0;
            products(
                upper + i * padded + i, upper + j * padded + i, padded, padded - i, &square);
            for (int c = 0; c < SIDE; c++) {
                const double across = roughness[j + c];
                four_store_double(values, square.columns[c]);
                if (i == j) {
                    figures[TRACE_LOW] += values[c];
                    figures[TRACE_HIGH] += values[c] * across;
                }
                for (int r = 0; r < SIDE; r++) {
                    const double down = roughness[i + r], squared = values[r] * values[r];
                    low += squared;
                    both += squared * (across + down);
                    high += squared * across * down;
                }
            }
            /* those above the diagonal are the same, mirrored */
            figures[SQUARE_LOW] += i == j ? low : 2 * low;
            figures[SQUARE_BOTH] += i == j ? 0.5 * both : both;
            figures[SQUARE_HIGH] += i == j ? high : 2 * high;
        }
}

/* Sum up how the solutions s = B r change with the penalties: s . D s and D s . B D' s. */
INLINE void sum_changes(
    const double *RESTRICT upper, const double *RESTRICT half, ptrdiff_t padded,
    const double *RESTRICT roughness, double *RESTRICT plain, double *RESTRICT rough,
    double *RESTRICT figures)
{
    for (int column = 0; column < 2; column++, half += padded) {
        memset(plain, 0, (size_t)padded * sizeof(double));
        memset(rough, 0, (size_t)padded * sizeof(double));
        for (ptrdiff_t i = 0; i < padded; i++) {
            const double *row = upper + i * padded;
            const ptrdiff_t first = i / SIDE * SIDE;
            double lanes[SIDE] = { 0 };
            for (ptrdiff_t k = first; k < padded; k += SIDE)
                for (int l = 0; l < SIDE; l++)
                    lanes[l] += row[k + l] * half[k + l];
            const double solution = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
            const double weighted = solution * roughness[i];
            figures[ONCE_LOW] += solution * solution;
            figures[ONCE_HIGH] += solution * weighted;
            for (ptrdiff_t k = first; k < padded; k++) {
                plain[k] += row[k] * solution;
                rough[k] += row[k] * weighted;
            }
        }
        for (ptrdiff_t k = 0; k < padded; k++) {
            figures[TWICE_LOW] += plain[k] * plain[k];
            figures[TWICE_BOTH] += plain[k] * rough[k];
            figures[TWICE_HIGH] += rough[k] * rough[k];
        }
    }
}

/* Copy a matrix, the lower triangle of `size` rows, and its right-hand side to padded rows. */
INLINE void load(
    const double *RESTRICT matrix, ptrdiff_t stride, const double *RESTRICT right, ptrdiff_t size,
    ptrdiff_t padded, double *RESTRICT lower)
{
    double *half = lower + padded * padded;
    for (ptrdiff_t i = 0; i < size; i++) {
        memcpy(lower + i * padded, matrix + i * stride, (size_t)(i + 1) * sizeof(double));
        half[i] = right[2 * i];
        half[padded + i] = right[2 * i + 1];
    }
    for (ptrdiff_t i = size; i < padded; i++)
        lower[i * padded + i] = 1;
}

CLONES
int invert_factor(
    const double *matrix, const double *right, ptrdiff_t size, double *half, double *upper)
{
    const ptrdiff_t padded = (size + SIDE - 1) / SIDE * SIDE, plane = padded * padded;
    if (size < 1)
        return DONE;
    double *lower = calloc((size_t)(2 * plane + (SIDE + 1) * padded), sizeof(double));
    if (!lower)
        return NO_MEMORY;
    double *solved = lower + plane, *inverse = solved + SIDE * padded, *wide = inverse + padded;
    load(matrix, size, right, size, padded, lower);
    const int status = factor(lower, padded, inverse);
    if (status == DONE) {
        invert(lower, padded, inverse, size, wide);
        for (int column = 0; column < 2; column++)
            memcpy(half + column * size, solved + column * padded, (size_t)size * sizeof(double));
        for (ptrdiff_t i = 0; i < size; i++)
            memcpy(
                upper + i * size + i, wide + i * padded + i, (size_t)(size - i) * sizeof(double));
    }
    free(lower);
    return status;
}

CLONES
int penalized_figures(
    const Equations *equations, double low, double high, int derivatives, double *figures)
{
    const ptrdiff_t size = equations->size, all = equations->all;
    const ptrdiff_t padded = (size + SIDE - 1) / SIDE * SIDE, plane = padded * padded;
    for (int k = 0; k < (derivatives ? ALL_FIGURES : VALUE_FIGURES); k++)
        figures[k] = 0;
    if (size < 1)
        return DONE;
    double *lower = calloc(
        (size_t)(plane + SIDE * padded + (derivatives ? plane : 0) + 4 * padded), sizeof(double));
    if (!lower)
        return NO_MEMORY;
    double *half = lower + plane, *inverse = half + SIDE * padded, *roughness = inverse + padded;
    double *plain = roughness + padded, *rough = plain + padded, *upper = rough + padded;
    load(equations->matrix, all, equations->right, size, padded, lower);
    for (ptrdiff_t i = 0; i < size; i++) {
        const double penalty = low + high * equations->roughness[i], share = low / penalty;
        lower[i * padded + i] += penalty;
        roughness[i] = equations->roughness[i];
        figures[LOG_DET] -= log(penalty);
        if (derivatives) {
            figures[SHARE] += share;
            figures[SHARE_SQUARE] += share * share;
        }
    }
    const int status = factor(lower, padded, inverse);
    if (status == DONE) {
        for (ptrdiff_t i = 0; i < size; i++)
            figures[LOG_DET] -= 2 * log(inverse[i]);
        for (ptrdiff_t k = 0; k < 2 * padded; k++)
            figures[EXPLAINED] += half[k] * half[k];
        if (derivatives) {
            invert(lower, padded, inverse, size, upper);
            sum_inverse(upper, padded, roughness, figures);
            sum_changes(upper, half, padded, roughness, plain, rough, figures);
        }
    }
    free(lower);
    return status;
}
