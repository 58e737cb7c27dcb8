/* The fit of the PSF. */

#include "detection.h"

#include <math.h>
#include <stdlib.h>

#define COLUMNS 8

/* Memory for one star: derivatives by its parameters and those of the PSF, weights, residuals. */
typedef struct {
    double *columns[COLUMNS];
    double *weight, *rest, *weighted;
} Work;

/* Fill in the derivatives of the model of one star, weights, residuals and their squares. */
INLINE void fill(
    const PSFSample *sample, const float *RESTRICT stamp, const float *RESTRICT variance,
    const double *RESTRICT star, const Work *work, double *RESTRICT misfit)
{
    const double a = sample->matrix[0], b = sample->matrix[1], c = sample->matrix[2];
    const double x0 = star[0], y0 = star[1], flux = star[2], sky = star[3];
    const ptrdiff_t size = sample->size, middle = size / 2;
    const double top = (double)sample->entries - 2.0;
    for (ptrdiff_t i = 0; i < size; i++) {
        const double v = (double)(i - middle) - y0;
        for (ptrdiff_t j = 0; j < size; j++) {
            const ptrdiff_t m = i * size + j;
            const double u = (double)(j - middle) - x0;
            const double q = a * u * u + 2 * b * u * v + c * v * v;
            double place = q / sample->step;
            /* so that it is within the table, whatever the star is */
            place = place < top ? place : top;
            place = place > 0 ? place : 0;
            const ptrdiff_t k = (ptrdiff_t)place;
            const double part = place - (double)k;
            const double *RESTRICT l = sample->light + k, *RESTRICT t = sample->tipped + k;
            const double rise = l[1] - l[0];
            const double light = l[0] + part * rise, tipped = t[0] + part * (t[1] - t[0]);
            const double slope = rise / sample->step;
            const double tilt = -2 * flux * slope;
            work->columns[0][m] = tilt * (a * u + b * v);
            work->columns[1][m] = tilt * (b * u + c * v);
            work->columns[2][m] = light;
            work->columns[3][m] = 1.0;
            work->columns[4][m] = -2 * flux * (light + slope * q);
            work->columns[5][m] = flux * slope * (u * u * a - v * v * c);
            work->columns[6][m] = flux * slope * (2 * u * v + b * (u * u + v * v));
            work->columns[7][m] = flux * (tipped - light) / sample->tip;
            const double value = stamp[m];
            if (value - value == 0) {
                const double model = flux * light, error = sample->model_error * model;
                const double r = value - model - sky;
                const double w = 1
                    / (variance[sample->many ? m : 0] + sample->inverse_gain * fabs(model)
                       + error * error);
                /* neighbors, cosmic rays and whole stars that are none lose their influence */
                const double square = r * r * w, excess = square / sample->outlying;
                misfit[m] = square;
                work->weight[m] = w / (1 + excess * excess);
                work->rest[m] = r;
            } else {
                work->weight[m] = work->rest[m] = misfit[m] = 0;
            }
        }
    }
}

INLINE double dot(const double *RESTRICT a, const double *RESTRICT b, ptrdiff_t n)
{
    double sums[LANES] = { 0 };
    const ptrdiff_t whole = n - n % LANES;
    for (ptrdiff_t m = 0; m < whole; m += LANES)
        for (int l = 0; l < LANES; l++)
            sums[l] += a[m + l] * b[m + l];
    for (int l = 0; l < LANES; l++)
        if (whole + l < n)
            sums[l] += a[whole + l] * b[whole + l];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

CLONES
int psf_equations(
    const PSFSample *sample, const double *stars, double *h, double *g, double *misfit)
{
    const ptrdiff_t pixels = sample->size * sample->size;
    Work work;
    double *memory = malloc((size_t)((COLUMNS + 3) * pixels) * sizeof(double) + 1);
    if (memory == NULL)
        return NO_MEMORY;
    for (int i = 0; i < COLUMNS; i++)
        work.columns[i] = memory + i * pixels;
    work.weight = memory + COLUMNS * pixels;
    work.rest = work.weight + pixels;
    work.weighted = work.rest + pixels;
    for (ptrdiff_t s = 0; s < sample->stars; s++) {
        fill(
            sample, sample->stamps + s * pixels, sample->variance + s * (sample->many ? pixels : 1),
            stars + 4 * s, &work, misfit + s * pixels);
        double *matrix = h + s * COLUMNS * COLUMNS;
        for (int i = 0; i < COLUMNS; i++) {
            double *RESTRICT weighted = work.weighted;
            const double *RESTRICT weight = work.weight, *RESTRICT column = work.columns[i];
            for (ptrdiff_t m = 0; m < pixels; m++)
                weighted[m] = weight[m] * column[m];
            for (int j = 0; j <= i; j++) {
                const double value = dot(weighted, work.columns[j], pixels);
                matrix[i * COLUMNS + j] = matrix[j * COLUMNS + i] = value;
            }
            g[s * COLUMNS + i] = dot(weighted, work.rest, pixels);
        }
    }
    free(memory);
    return DONE;
}
