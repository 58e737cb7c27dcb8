#include "splines.h"

#include <math.h>
#include <stdlib.h>

/* Polynomials of one variable, factors (count, order), of which the first is constant. */
INLINE void polynomials(
    const double *RESTRICT factors, ptrdiff_t count, ptrdiff_t order, double u,
    double *RESTRICT out)
{
    /* of steps the slopes have no factor */
    for (ptrdiff_t j = 0; j < order; j++)
        out[j] = count > 0 ? factors[(count - 1) * order + j] : 0;
    for (ptrdiff_t k = count - 2; k >= 0; k--)
        for (ptrdiff_t j = 0; j < order; j++)
            out[j] = out[j] * u + factors[k * order + j];
}

/*
 * The functions of a basis that are not zero at a point, continued along their tangents beyond the
 * ends, or their derivatives by the distance in intervals. NaN where the point is not finite.
 */
INLINE ptrdiff_t find_basis(
    const Basis *basis, ptrdiff_t order, double t, int nu, double *RESTRICT weights)
{
    const double most = (double)(basis->number - order), u = (t - basis->low) / basis->step;
    if (!(t - t == 0)) {
        for (ptrdiff_t j = 0; j < order; j++)
            weights[j] = NAN;
        return 0;
    }
    double first = u > 0 ? u : 0;
    first = first < most ? first : most;
    first = (double)(ptrdiff_t)first;
    const double place = u - first;
    double inside = place > 0 ? place : 0;
    inside = inside < 1 ? inside : 1;
    const double excess = place - inside;
    double slopes[MOST_FUNCTIONS];
    if (nu) {
        polynomials(basis->slopes, order - 1, order, inside, weights);
        return (ptrdiff_t)first;
    }
    polynomials(basis->values, order, order, inside, weights);
    if (excess != 0) {
        polynomials(basis->slopes, order - 1, order, inside, slopes);
        for (ptrdiff_t j = 0; j < order; j++)
            weights[j] += excess * slopes[j];
    }
    return (ptrdiff_t)first;
}

INLINE void basis_at(
    const Basis *basis, ptrdiff_t order, const double *RESTRICT t, ptrdiff_t size, int nu,
    int64_t *RESTRICT first, double *RESTRICT weights)
{
    for (ptrdiff_t i = 0; i < size; i++) {
        first[i] = find_basis(basis, order, t[i], nu, weights + i * order);
        if (nu)
            for (ptrdiff_t j = 0; j < order; j++)
                weights[i * order + j] /= basis->step;
    }
}

CLONES
void spline_basis(
    const Basis *basis, const double *t, ptrdiff_t size, int nu, int64_t *first, double *weights)
{
    if (basis->order == 6)
        basis_at(basis, 6, t, size, nu, first, weights);
    else if (basis->order == 4)
        basis_at(basis, 4, t, size, nu, first, weights);
    else
        basis_at(basis, basis->order, t, size, nu, first, weights);
}

INLINE void points_at(
    const Basis *along_x, const Basis *along_y, ptrdiff_t order, const double *RESTRICT x,
    const double *RESTRICT y, ptrdiff_t size, const double *RESTRICT coefficients,
    const int64_t *RESTRICT terms, ptrdiff_t number, double *RESTRICT out)
{
    const ptrdiff_t columns = along_x->number, plane = columns * along_y->number;
    int slopes_x = 0, slopes_y = 0;
    for (ptrdiff_t k = 0; k < number; k++) {
        slopes_x |= terms[3 * k + 1] != 0;
        slopes_y |= terms[3 * k + 2] != 0;
    }
    for (ptrdiff_t i = 0; i < size; i++) {
        double in_x[2][MOST_FUNCTIONS], in_y[2][MOST_FUNCTIONS];
        const ptrdiff_t left = find_basis(along_x, order, x[i], 0, in_x[0]);
        const ptrdiff_t low = find_basis(along_y, order, y[i], 0, in_y[0]);
        if (slopes_x) {
            find_basis(along_x, order, x[i], 1, in_x[1]);
            for (ptrdiff_t j = 0; j < order; j++)
                in_x[1][j] /= along_x->step;
        }
        if (slopes_y) {
            find_basis(along_y, order, y[i], 1, in_y[1]);
            for (ptrdiff_t j = 0; j < order; j++)
                in_y[1][j] /= along_y->step;
        }
        for (ptrdiff_t k = 0; k < number; k++) {
            const double *RESTRICT weights_x = in_x[terms[3 * k + 1]];
            const double *RESTRICT weights_y = in_y[terms[3 * k + 2]];
            const double *RESTRICT window
                = coefficients + terms[3 * k] * plane + low * columns + left;
            double lines[MOST_FUNCTIONS], total = 0;
            /* down the columns first: these are next to each other */
            for (ptrdiff_t j = 0; j < order; j++)
                lines[j] = 0;
            for (ptrdiff_t r = 0; r < order; r++)
                for (ptrdiff_t j = 0; j < order; j++)
                    lines[j] += weights_y[r] * window[r * columns + j];
            for (ptrdiff_t j = 0; j < order; j++)
                total += weights_x[j] * lines[j];
            out[k * size + i] = total;
        }
    }
}

CLONES
int spline_points(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y, ptrdiff_t size,
    const double *coefficients, ptrdiff_t planes, const int64_t *terms, ptrdiff_t number,
    double *out)
{
    for (ptrdiff_t k = 0; k < number; k++)
        if (terms[3 * k] < 0 || terms[3 * k] >= planes || (terms[3 * k + 1] & ~1)
            || (terms[3 * k + 2] & ~1))
            return OUT_OF_BOUNDS;
    if (along_x->order == 6)
        points_at(along_x, along_y, 6, x, y, size, coefficients, terms, number, out);
    else if (along_x->order == 4)
        points_at(along_x, along_y, 4, x, y, size, coefficients, terms, number, out);
    else
        points_at(
            along_x, along_y, along_x->order, x, y, size, coefficients, terms, number, out);
    return DONE;
}

/* All functions that are not zero at a point, and the numbers of the first ones along both axes. */
INLINE void functions_at(
    const Basis *along_x, const Basis *along_y, ptrdiff_t order, double x, double y,
    double *RESTRICT functions, ptrdiff_t *left, ptrdiff_t *low)
{
    double in_x[MOST_FUNCTIONS], in_y[MOST_FUNCTIONS];
    *left = find_basis(along_x, order, x, 0, in_x);
    *low = find_basis(along_y, order, y, 0, in_y);
    for (ptrdiff_t r = 0; r < order; r++)
        for (ptrdiff_t j = 0; j < order; j++)
            functions[r * order + j] = in_y[r] * in_x[j];
}

/* The sums of each cell (cells, order squared, order squared + columns). */
INLINE void cells_at(
    const Basis *along_x, const Basis *along_y, ptrdiff_t order, const double *RESTRICT x,
    const double *RESTRICT y, const double *RESTRICT roots, ptrdiff_t size,
    const double *RESTRICT values, ptrdiff_t columns, double *RESTRICT cells)
{
    const ptrdiff_t number = order * order, wide = number + columns;
    for (ptrdiff_t i = 0; i < size; i++) {
        double functions[MOST_FUNCTIONS * MOST_FUNCTIONS];
        ptrdiff_t left, low;
        if (roots[i] == 0)
            continue;
        functions_at(along_x, along_y, order, x[i], y[i], functions, &left, &low);
        for (ptrdiff_t r = 0; r < number; r++)
            functions[r] *= roots[i];
        double *RESTRICT cell
            = cells + (low * (along_x->number - order + 1) + left) * number * wide;
        for (ptrdiff_t r = 0; r < number; r++) {
            const double own = functions[r], weighted = own * roots[i];
            /* the other lines are the same, mirrored */
            for (ptrdiff_t c = r / order * order; c < number; c++)
                cell[r * wide + c] += own * functions[c];
            for (ptrdiff_t k = 0; k < columns; k++)
                cell[r * wide + number + k] += weighted * values[i * columns + k];
        }
    }
}

/* Adds the sums of one cell, whose first function is number `corner`, to those of all. */
INLINE void add_cell(
    const double *RESTRICT cell, ptrdiff_t order, ptrdiff_t columns, ptrdiff_t corner,
    ptrdiff_t across, ptrdiff_t all, double *RESTRICT matrix, double *RESTRICT right)
{
    const ptrdiff_t number = order * order, wide = number + columns;
    for (ptrdiff_t line = 0; line < order; line++)
        for (ptrdiff_t place = 0; place < order; place++) {
            const ptrdiff_t r = line * order + place, row = corner + line * across + place;
            for (ptrdiff_t k = 0; k < order; k++)
                for (ptrdiff_t j = 0; j < order; j++)
                    matrix[row * all + corner + k * across + j]
                        += k < line ? cell[(k * order + j) * wide + r]
                                    : cell[r * wide + k * order + j];
            for (ptrdiff_t k = 0; k < columns; k++)
                right[row * columns + k] += cell[r * wide + number + k];
        }
}

CLONES
int spline_equations(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y,
    const double *roots, ptrdiff_t size, const double *values, ptrdiff_t columns, double *matrix,
    double *right)
{
    const ptrdiff_t order = along_x->order, number = order * order, wide = number + columns;
    const ptrdiff_t cells_x = along_x->number - order + 1, cells_y = along_y->number - order + 1;
    const ptrdiff_t all = along_x->number * along_y->number;
    double *cells = calloc((size_t)(cells_x * cells_y * number * wide), sizeof(double));
    if (!cells)
        return NO_MEMORY;
    if (order == 6)
        cells_at(along_x, along_y, 6, x, y, roots, size, values, columns, cells);
    else if (order == 4)
        cells_at(along_x, along_y, 4, x, y, roots, size, values, columns, cells);
    else
        cells_at(along_x, along_y, order, x, y, roots, size, values, columns, cells);
    for (ptrdiff_t k = 0; k < all * all; k++)
        matrix[k] = 0;
    for (ptrdiff_t k = 0; k < all * columns; k++)
        right[k] = 0;
    for (ptrdiff_t low = 0; low < cells_y; low++)
        for (ptrdiff_t left = 0; left < cells_x; left++)
            add_cell(
                cells + (low * cells_x + left) * number * wide, order, columns,
                low * along_x->number + left, along_x->number, all, matrix, right);
    free(cells);
    return DONE;
}

INLINE void sums_at(
    const Basis *along_x, const Basis *along_y, ptrdiff_t order, const double *RESTRICT x,
    const double *RESTRICT y, ptrdiff_t size, const double *RESTRICT values, ptrdiff_t columns,
    double *RESTRICT out)
{
    const ptrdiff_t across = along_x->number;
    for (ptrdiff_t i = 0; i < size; i++) {
        double functions[MOST_FUNCTIONS * MOST_FUNCTIONS];
        ptrdiff_t left, low;
        functions_at(along_x, along_y, order, x[i], y[i], functions, &left, &low);
        for (ptrdiff_t r = 0; r < order * order; r++) {
            double *RESTRICT row
                = out + ((low + r / order) * across + left + r % order) * columns;
            for (ptrdiff_t k = 0; k < columns; k++)
                row[k] += functions[r] * values[i * columns + k];
        }
    }
}

CLONES
void spline_sums(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y, ptrdiff_t size,
    const double *values, ptrdiff_t columns, double *out)
{
    for (ptrdiff_t k = 0; k < along_x->number * along_y->number * columns; k++)
        out[k] = 0;
    if (along_x->order == 6)
        sums_at(along_x, along_y, 6, x, y, size, values, columns, out);
    else if (along_x->order == 4)
        sums_at(along_x, along_y, 4, x, y, size, values, columns, out);
    else
        sums_at(along_x, along_y, along_x->order, x, y, size, values, columns, out);
}

INLINE void variance_at(
    const Basis *along_x, const Basis *along_y, ptrdiff_t order, const double *RESTRICT x,
    const double *RESTRICT y, ptrdiff_t size, const double *RESTRICT covariance,
    double *RESTRICT out)
{
    const ptrdiff_t columns = along_x->number, all = columns * along_y->number;
    for (ptrdiff_t i = 0; i < size; i++) {
        double functions[MOST_FUNCTIONS * MOST_FUNCTIONS], sums[MOST_FUNCTIONS * MOST_FUNCTIONS];
        double total = 0;
        ptrdiff_t left, low;
        functions_at(along_x, along_y, order, x[i], y[i], functions, &left, &low);
        const ptrdiff_t corner = low * columns + left;
        for (ptrdiff_t c = 0; c < order * order; c++)
            sums[c] = 0;
        for (ptrdiff_t r = 0; r < order * order; r++) {
            const double *RESTRICT row
                = covariance + (corner + r / order * columns + r % order) * all + corner;
            double own = functions[r];
            for (ptrdiff_t k = r / order; k < order; k++) {
                for (ptrdiff_t j = 0; j < order; j++)
                    sums[k * order + j] += own * row[k * columns + j];
                own = 2 * functions[r]; /* of the lines that follow, their mirror images, too */
            }
        }
        for (ptrdiff_t c = 0; c < order * order; c++)
            total += functions[c] * sums[c];
        out[i] = total;
    }
}

CLONES
void spline_variance(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y, ptrdiff_t size,
    const double *covariance, double *out)
{
    if (along_x->order == 6)
        variance_at(along_x, along_y, 6, x, y, size, covariance, out);
    else if (along_x->order == 4)
        variance_at(along_x, along_y, 4, x, y, size, covariance, out);
    else
        variance_at(along_x, along_y, along_x->order, x, y, size, covariance, out);
}
