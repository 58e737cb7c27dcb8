#include "splines.h"

#include <math.h>

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
