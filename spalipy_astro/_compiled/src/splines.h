/* Uniform tensor-product B-splines at scattered points. */

#ifndef SPALIPY_ASTRO_SPLINES_H
#define SPALIPY_ASTRO_SPLINES_H

#include "portable.h"

enum { MOST_FUNCTIONS = 8 };

/*
 * Functions of a uniform B-spline basis along one axis, `order` of them in each interval; what they
 * and their slopes are made of there, (order, order) and (order - 1, order), by powers.
 */
typedef struct {
    ptrdiff_t number, order;
    double low, step;
    const double *values;
    const double *slopes;
} Basis;

/* First function (size) and weights (size, order) of it and the next ones, or slopes (nu = 1). */
void spline_basis(
    const Basis *basis, const double *t, ptrdiff_t size, int nu, int64_t *first, double *weights);

/* Terms (number, 3), each a plane of coefficients, nu along x and nu along y: out (number, size). */
int spline_points(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y, ptrdiff_t size,
    const double *coefficients, ptrdiff_t planes, const int64_t *terms, ptrdiff_t number,
    double *out);

/*
 * Normal equations of least squares: matrix (all, all) and right (all, columns), of values (size,
 * columns) whose weights are the squares of roots (size); points of weight 0 do not count. All
 * others must be finite.
 */
int spline_equations(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y,
    const double *roots, ptrdiff_t size, const double *values, ptrdiff_t columns, double *matrix,
    double *right);

/* Sums of values (size, columns) at points, times each function there: out (all, columns). */
void spline_sums(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y, ptrdiff_t size,
    const double *values, ptrdiff_t columns, double *out);

/* Variance (size) of splines whose coefficients have a covariance (all, all), symmetric. */
void spline_variance(
    const Basis *along_x, const Basis *along_y, const double *x, const double *y, ptrdiff_t size,
    const double *covariance, double *out);

#endif
