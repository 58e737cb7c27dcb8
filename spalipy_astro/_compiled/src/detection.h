/* The loops of detection; see _detection.pyx for what the arrays are. */

#ifndef SPALIPY_ASTRO_DETECTION_H
#define SPALIPY_ASTRO_DETECTION_H

#include "portable.h"

int mesh_row(
    const float *values, ptrdiff_t rows, ptrdiff_t nx, const float *dither, int dithers,
    const int64_t *x_edges, ptrdiff_t cells, float *level, float *noise);

void difference_widths(
    const float *values, ptrdiff_t nx, const int64_t *pairs, ptrdiff_t number_of_pairs,
    ptrdiff_t rows, double sigma, double *widths);

/* Pointers (n + 1,) into an index of a capacity; the number that it must hold. */
int find_neighbors(
    const double *position, ptrdiff_t n, double reach, int64_t *pointer, int64_t *index,
    ptrdiff_t capacity, ptrdiff_t *number);

/* Of pixels of any type, of a size in bytes; strides in bytes. */
void cut_squares(
    const char *image, const ptrdiff_t *shape, const ptrdiff_t *strides, ptrdiff_t item,
    const int64_t *x, const int64_t *y, ptrdiff_t n, ptrdiff_t radius, char *out);

/* Squares of some pixels each less their levels, in place; what is bad or saturated becomes NaN. */
void level_squares(
    float *squares, ptrdiff_t n, ptrdiff_t pixels, const float *level, float saturation,
    uint8_t *saturated);

/* Two planes (my, mx) of a mesh between the centers of its cells, which are (height, width). */
void mesh_values(
    const float *level, const float *noise, ptrdiff_t my, ptrdiff_t mx, const double *cell,
    const double *x, const double *y, ptrdiff_t n, double *level_at, double *noise_at);

int bright_lines(
    const float *image, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t levels, ptrdiff_t near,
    ptrdiff_t far, float *value, int64_t *place);

/* A strip of an image and the mesh of its sky. */
typedef struct {
    const float *strip; /* (rows, nx) */
    ptrdiff_t rows, nx;
    ptrdiff_t first, start, stop; /* row of the strip's first, first to search, last + 1 */
    const float *kernel, *square; /* (2 radius + 1,) */
    ptrdiff_t radius;
    float threshold;
    const float *level, *noise; /* (my, mx) */
    ptrdiff_t my, mx;
    double cell_y;
    const int64_t *edges; /* (pieces + 1,) */
    ptrdiff_t pieces;
    const float *part_x; /* (nx,) */
} Strip;

int strip_peaks(
    const Strip *strip, int32_t *position, float *significance, ptrdiff_t capacity,
    ptrdiff_t *number);

/* Stars to fit a PSF to. */
typedef struct {
    const float *stamps, *variance; /* (stars, size, size) and that or (stars, 1, 1) */
    ptrdiff_t stars, size;
    int many; /* variances */
    const double *matrix, *light, *tipped;
    ptrdiff_t entries; /* of the tables */
    double step, tip, inverse_gain, model_error, outlying;
} PSFSample;

int psf_equations(
    const PSFSample *sample, const double *stars, double *h, double *g, double *misfit);

/* What stars are fitted with. */
typedef struct {
    ptrdiff_t stars; /* in all */
    const float *stamps, *variance;
    ptrdiff_t size;
    int many;
    const double *corner;
    const int64_t *members;
    ptrdiff_t number; /* of members */
    const int64_t *pointer, *index;
    ptrdiff_t indices;
    const double *matrix;
    const float *table; /* (entries, 2) */
    ptrdiff_t entries;
    double step, fwhm, gain, model_error;
    const int64_t *circle; /* (pixels, 2) */
    ptrdiff_t pixels;
    const double *kernel; /* (side, side) */
    ptrdiff_t side;
    int search;
    double *parameters, *errors, *quality; /* (stars, 5), (stars, 5), (stars, N_QUALITIES) */
} StarBatch;

int fit_batch(const StarBatch *batch);

#endif
