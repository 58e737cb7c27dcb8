/* Penalized fits: their solution, and how likely penalties are. */

#ifndef SPALIPY_ASTRO_SMOOTHING_H
#define SPALIPY_ASTRO_SMOOTHING_H

#include "portable.h"

/* What the likelihood is made of; the numpy version says what each is. */
enum {
    LOG_DET,
    EXPLAINED,
    VALUE_FIGURES,
    ONCE_LOW = VALUE_FIGURES,
    ONCE_HIGH,
    TWICE_LOW,
    TWICE_BOTH,
    TWICE_HIGH,
    TRACE_LOW,
    TRACE_HIGH,
    SQUARE_LOW,
    SQUARE_BOTH,
    SQUARE_HIGH,
    SHARE,
    SHARE_SQUARE,
    ALL_FIGURES
};

/*
 * Normal equations of which the first `size` functions are looked at: matrix (all, all), of which
 * the lower triangle is read, right (all, 2) and the roughness (all) of each function.
 */
typedef struct {
    const double *matrix;
    const double *right;
    const double *roughness;
    ptrdiff_t all, size;
} Equations;

/*
 * The figures for a penalty of low + high * roughness: those of the value, or all. SINGULAR where
 * the penalized matrix is not positive definite.
 */
int penalized_figures(
    const Equations *equations, double low, double high, int derivatives, double *figures);

/*
 * With L the Cholesky factor of a matrix (size, size), of which the lower triangle is read, and a
 * right-hand side (size, 2): `half` (2, size) becomes that of L half' = right, and `upper` (size,
 * size), which must be zero, the transposed inverse of L. SINGULAR where there is no such factor.
 */
int invert_factor(
    const double *matrix, const double *right, ptrdiff_t size, double *half, double *upper);

enum { SINGULAR = -1 };

#endif
