/* Star patterns of equal codes, and the stars that bear witness for what they propose. */

#ifndef SPALIPY_ASTRO_MATCHING_H
#define SPALIPY_ASTRO_MATCHING_H

#include "portable.h"

/*
 * Points sorted into the cells of a grid over their first three coordinates: cells that follow each
 * other lie above each other. Where there are two coordinates, there is one layer.
 */
typedef struct {
    ptrdiff_t size, axes, columns, rows, layers;
    double left, low, bottom, side;
    const double *points;   /* (size, axes) */
    const int64_t *numbers; /* (size,): which point it is */
    const int64_t *starts;  /* (columns * rows * layers + 1,): of the cells among the points */
} Cells;

/* What all hypotheses are judged by. */
typedef struct {
    const double *source;       /* (n, 2): positions */
    const double *source_err;   /* (n,) */
    const double *template_err; /* (cells.size,) */
    const double *density;      /* (cells.size,) */
    const double *frame;        /* (2, 2): lower and upper corner */
    const double *shares;       /* (n_shares,): of distractors, of which the best counts */
    ptrdiff_t n_source, n_shares;
    double bending;             /* px of the template per square of the distance in it and scale */
} Court;

enum { SIMILARITY = 9, MOST_SHARES = 4 };

ptrdiff_t equal_codes(
    const Cells *cells, const double *codes, ptrdiff_t n, double radius, int64_t *row,
    int64_t *index, double *distance, ptrdiff_t room);

int witness_scores(
    const Cells *cells, const Court *court, const double *similarity, const int64_t *witnesses,
    ptrdiff_t number, const int64_t *pattern, ptrdiff_t k, ptrdiff_t n, double *scores);

void count_on_lines(
    const double *x, const double *y, ptrdiff_t n, double width, double shortest,
    int64_t *counts);

ptrdiff_t form_patterns(
    const int64_t *near, ptrdiff_t rows, ptrdiff_t wide, int64_t n, ptrdiff_t k, ptrdiff_t room,
    int64_t *stars, int64_t *row);

int encode_patterns(
    const double *xy, ptrdiff_t n, int64_t *stars, ptrdiff_t number, ptrdiff_t k, double *codes,
    double *size);

int fit_similarities(
    const double *source, ptrdiff_t n_source, const double *template, ptrdiff_t n_template,
    const int64_t *p, const int64_t *q, const uint8_t *flip, ptrdiff_t number, ptrdiff_t k,
    double *a, double *b, double *rms);

#endif
