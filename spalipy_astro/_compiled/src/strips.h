/* Points of a plane near others. */

#ifndef SPALIPY_ASTRO_STRIPS_H
#define SPALIPY_ASTRO_STRIPS_H

#include "portable.h"

/*
 * Points (size) in strips of about as many each, from small x to large, and by y within a strip;
 * numbers (size) is what a point is called, starts (strips + 1) where the strips begin, low and
 * high (strips) their smallest and largest x.
 */
typedef struct {
    ptrdiff_t size, strips;
    const double *x, *y;
    const int64_t *numbers, *starts;
    const double *low, *high;
} Strips;

/*
 * The k nearest points of each place (places): numbers (places, k) and squares of distances, the
 * nearest first, of those as near the smallest numbers; size and infinity where there are no more.
 */
void nearest_points(
    const Strips *strips, const double *x, const double *y, ptrdiff_t places, ptrdiff_t k,
    int64_t *numbers, double *squares);

/* How many points are within a reach (places) of each place. */
void count_points(
    const Strips *strips, const double *x, const double *y, const double *reach, ptrdiff_t places,
    int64_t *counts);

/*
 * Their numbers, from small to large, at out[pointer[k]] to out[pointer[k + 1]] (size) for place k;
 * they must be as many as there are.
 */
int list_points(
    const Strips *strips, const double *x, const double *y, const double *reach, ptrdiff_t places,
    const int64_t *pointer, int64_t *out, ptrdiff_t size);

#endif
