/*
 * The fit of stars.
 *
 * The loops over the pixels of a star are many and short so that each has few arrays and can be
 * vectorized; one loop over everything takes six times as long. Single precision is enough for sums
 * that only steer and weigh. The number of pixels is rounded up to whole vectors; those that are
 * added have no weight.
 */

#include "detection.h"
#include "starcolumns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REAL float
#define INTEGER int32_t
#define LANE_BYTES 4
#define NAME(name) name##_float
#include "vectors.h"

/* Neighbors that are worked on at once. */
enum { FEW = 16 };

/* Pixels of one star, and memory to work in. */
typedef struct {
    float *rows[N_ROWS];
    int32_t *knots;               /* places in the table, for each pixel */
    float *parts;                 /* between two of its rows */
    float *circle_x, *circle_y;   /* columns and rows of all pixels of a stamp that are used */
    int32_t *circle;              /* and their places in it */
    int32_t *places;              /* those of the good ones */
    double *grid, *grid2;         /* (size, size), or that and the kernel's margin */
    ptrdiff_t n, padded, n_core;
} Work;

INLINE double larger(double a, double b)
{
    return a > b ? a : b;
}

INLINE double smaller(double a, double b)
{
    return a < b ? a : b;
}

INLINE float add_lanes(const float *sums)
{
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* Fill in the squared elliptical radius of every pixel. */
INLINE void squared_radius(Work *work, const double *matrix, double x0, double y0, double scale)
{
    const float *RESTRICT x = work->rows[X], *RESTRICT y = work->rows[Y];
    float *RESTRICT q = work->rows[Q];
    const float a = (float)matrix[0], b = (float)matrix[1], c = (float)matrix[2];
    const float px = (float)x0, py = (float)y0, f = (float)scale;
    for (ptrdiff_t m = 0; m < work->padded; m++) {
        const float u = x[m] - px, v = y[m] - py;
        q[m] = (u * (a * u + b * v + b * v) + c * v * v) * f;
    }
}

/* Fill in the profile and, if it is wanted, its derivative by the squared radius. */
INLINE void look_up(
    Work *work, const float *RESTRICT table, ptrdiff_t entries, double step, double scale,
    int with_slope)
{
    const float *RESTRICT q = work->rows[Q];
    float *RESTRICT light = work->rows[LIGHT], *RESTRICT slope = work->rows[SLOPE];
    float *RESTRICT parts = work->parts;
    int32_t *RESTRICT knots = work->knots;
    const float per_step = (float)(1 / step), top = (float)(entries - 2);
    const float f = (float)scale, g = f * per_step;
    for (ptrdiff_t m = 0; m < work->padded; m++) {
        float place = q[m] * per_step;
        place = place < top ? place : top;
        const int32_t k = (int32_t)place;
        knots[m] = k > 0 ? k : 0;
        parts[m] = place - (float)k;
    }
    for (ptrdiff_t m = 0; m < work->padded; m += 4) {
        /* two rows of two numbers each, for four pixels; then each number of all four */
        four_float v[4];
        for (int k = 0; k < 4; k++)
            v[k] = four_load_float(table + 2 * (ptrdiff_t)knots[m + k]);
        four_transpose_float(v);
        const four_float part = four_load_float(parts + m);
        const four_float more = four_multiply_float(part, four_subtract_float(v[2], v[0]));
        four_store_float(light + m, four_scale_float(f, four_add_float(v[0], more)));
        if (with_slope) {
            const four_float steeper = four_multiply_float(part, four_subtract_float(v[3], v[1]));
            four_store_float(slope + m, four_scale_float(g, four_add_float(v[1], steeper)));
        }
    }
}

/* Fill in the derivatives of the model by position. */
INLINE void gradients(Work *work, const double *matrix, double x0, double y0, double factor)
{
    const float *RESTRICT x = work->rows[X], *RESTRICT y = work->rows[Y];
    const float *RESTRICT slope = work->rows[SLOPE];
    float *RESTRICT dx = work->rows[DX], *RESTRICT dy = work->rows[DY];
    const float a = (float)matrix[0], b = (float)matrix[1], c = (float)matrix[2];
    const float px = (float)x0, py = (float)y0, f = (float)factor;
    for (ptrdiff_t m = 0; m < work->padded; m++) {
        const float u = x[m] - px, v = y[m] - py, tilt = f * slope[m];
        dx[m] = tilt * (a * u + b * v);
        dy[m] = tilt * (b * u + c * v);
    }
}

/* Fill in noise with that of the photons, weight, residual and the derivative by width. */
INLINE void weigh(Work *work, double flux, double sky, double width, double gain)
{
    const float *RESTRICT value = work->rows[VALUE], *RESTRICT variance = work->rows[VARIANCE];
    const float *RESTRICT q = work->rows[Q], *RESTRICT light = work->rows[LIGHT];
    const float *RESTRICT slope = work->rows[SLOPE];
    float *RESTRICT noise = work->rows[NOISE], *RESTRICT weight = work->rows[WEIGHT];
    float *RESTRICT rest = work->rows[REST], *RESTRICT dwidth = work->rows[DWIDTH];
    const float f = (float)flux, b = (float)sky, g = (float)gain;
    const float per_width = (float)(-2 / width), glow = (float)larger(sky, 0.0);
    for (ptrdiff_t m = 0; m < work->padded; m++) {
        const float model = f * light[m];
        const float total = variance[m] + g * (glow + (model > 0 ? model : 0));
        noise[m] = total;
        weight[m] = 1 / total;
    }
    for (ptrdiff_t m = 0; m < work->padded; m++)
        rest[m] = value[m] - f * light[m] - b;
    for (ptrdiff_t m = 0; m < work->padded; m++)
        dwidth[m] = per_width * (f * light[m] + f * slope[m] * q[m]);
    for (ptrdiff_t m = work->n; m < work->padded; m++)
        weight[m] = rest[m] = 0;
}

/* Sum the lower triangle of the normal matrix and the right-hand side. */
INLINE void normal_equations(const Work *work, double *RESTRICT h, double *RESTRICT g)
{
    const float *RESTRICT weight = work->rows[WEIGHT], *RESTRICT dx = work->rows[DX];
    const float *RESTRICT dy = work->rows[DY], *RESTRICT light = work->rows[LIGHT];
    const float *RESTRICT dwidth = work->rows[DWIDTH], *RESTRICT rest = work->rows[REST];
    float h00[LANES] = { 0 }, h10[LANES] = { 0 }, h11[LANES] = { 0 }, h20[LANES] = { 0 };
    float h21[LANES] = { 0 }, h22[LANES] = { 0 }, h30[LANES] = { 0 }, h31[LANES] = { 0 };
    float h32[LANES] = { 0 }, h33[LANES] = { 0 }, h40[LANES] = { 0 }, h41[LANES] = { 0 };
    float h42[LANES] = { 0 }, h43[LANES] = { 0 }, h44[LANES] = { 0 }, g0[LANES] = { 0 };
    float g1[LANES] = { 0 }, g2[LANES] = { 0 }, g3[LANES] = { 0 }, g4[LANES] = { 0 };
    /* in two passes: the sums of one fit the registers */
    for (ptrdiff_t m = 0; m < work->padded; m += LANES)
        for (int l = 0; l < LANES; l++) {
            const float w = weight[m + l], d0 = dx[m + l], d1 = dy[m + l], t = light[m + l];
            const float w0 = w * d0, w1 = w * d1, w2 = w * t;
            h00[l] += w0 * d0;
            h10[l] += w0 * d1;
            h11[l] += w1 * d1;
            h20[l] += w0 * t;
            h21[l] += w1 * t;
            h22[l] += w2 * t;
            h30[l] += w0;
            h31[l] += w1;
            h32[l] += w2;
            h33[l] += w;
        }
    for (ptrdiff_t m = 0; m < work->padded; m += LANES)
        for (int l = 0; l < LANES; l++) {
            const float w = weight[m + l], d0 = dx[m + l], d1 = dy[m + l], t = light[m + l];
            const float d4 = dwidth[m + l], r = rest[m + l], w4 = w * d4, wr = w * r;
            h40[l] += w4 * d0;
            h41[l] += w4 * d1;
            h42[l] += w4 * t;
            h43[l] += w4;
            h44[l] += w4 * d4;
            g0[l] += wr * d0;
            g1[l] += wr * d1;
            g2[l] += wr * t;
            g3[l] += wr;
            g4[l] += wr * d4;
        }
    h[0] = add_lanes(h00);
    h[5] = add_lanes(h10);
    h[6] = add_lanes(h11);
    h[10] = add_lanes(h20);
    h[11] = add_lanes(h21);
    h[12] = add_lanes(h22);
    h[15] = add_lanes(h30);
    h[16] = add_lanes(h31);
    h[17] = add_lanes(h32);
    h[18] = add_lanes(h33);
    h[20] = add_lanes(h40);
    h[21] = add_lanes(h41);
    h[22] = add_lanes(h42);
    h[23] = add_lanes(h43);
    h[24] = add_lanes(h44);
    g[0] = add_lanes(g0);
    g[1] = add_lanes(g1);
    g[2] = add_lanes(g2);
    g[3] = add_lanes(g3);
    g[4] = add_lanes(g4);
}

/* Find how the variance of x and y would grow with photon noise and errors of the model. */
INLINE void variance_sums(const Work *work, double flux, double *RESTRICT out)
{
    const float *RESTRICT weight = work->rows[WEIGHT], *RESTRICT dx = work->rows[DX];
    const float *RESTRICT dy = work->rows[DY], *RESTRICT light = work->rows[LIGHT];
    const float *RESTRICT noise = work->rows[NOISE];
    const float f = (float)flux;
    float noise_x[LANES] = { 0 }, noise_y[LANES] = { 0 }, light_x[LANES] = { 0 };
    float light_y[LANES] = { 0 }, square_x[LANES] = { 0 }, square_y[LANES] = { 0 };
    for (ptrdiff_t m = 0; m < work->padded; m += LANES)
        for (int l = 0; l < LANES; l++) {
            float wx = weight[m + l] * dx[m + l], wy = weight[m + l] * dy[m + l];
            wx *= wx;
            wy *= wy;
            const float model = f * light[m + l];
            noise_x[l] += wx * noise[m + l];
            noise_y[l] += wy * noise[m + l];
            light_x[l] += wx * model;
            light_y[l] += wy * model;
            square_x[l] += wx * model * model;
            square_y[l] += wy * model * model;
        }
    const double of_x = larger(add_lanes(noise_x), 1e-30f);
    const double of_y = larger(add_lanes(noise_y), 1e-30f);
    out[VARIANCE_BY_LIGHT] = larger(add_lanes(light_x) / of_x, add_lanes(light_y) / of_y);
    out[VARIANCE_BY_SQUARE] = larger(add_lanes(square_x) / of_x, add_lanes(square_y) / of_y);
}

/* Sum up the core; find its chi-square and that of all pixels. */
INLINE void core_sums(
    const Work *work, double flux, double model_error, double *RESTRICT out, double *chi2,
    double *chi2_all)
{
    const float *RESTRICT rest = work->rows[REST], *RESTRICT noise = work->rows[NOISE];
    const float *RESTRICT variance = work->rows[VARIANCE], *RESTRICT light = work->rows[LIGHT];
    const float *RESTRICT core = work->rows[CORE];
    const float f = (float)flux, relative = (float)(model_error * model_error);
    float chi[LANES] = { 0 }, all[LANES] = { 0 }, number[LANES] = { 0 }, square[LANES] = { 0 };
    float dark[LANES] = { 0 }, bright[LANES] = { 0 }, bright2[LANES] = { 0 };
    for (ptrdiff_t m = 0; m < work->padded; m += LANES)
        for (int l = 0; l < LANES; l++) {
            const float model = f * light[m + l], in = core[m + l];
            const float rr = rest[m + l] * rest[m + l];
            const float z2 = rr / (noise[m + l] + relative * model * model);
            all[l] += z2;
            chi[l] += in * z2;
            number[l] += in;
            square[l] += in * rr;
            dark[l] += in * variance[m + l];
            bright[l] += in * model;
            bright2[l] += in * model * model;
        }
    out[0] = add_lanes(number);
    out[1] = add_lanes(square);
    out[2] = add_lanes(dark);
    out[3] = add_lanes(bright);
    out[4] = add_lanes(bright2);
    *chi2 = add_lanes(chi);
    *chi2_all = add_lanes(all);
}

/* Take away a neighbor's light, known to a twentieth; return its part in the core. */
INLINE double subtract(Work *work, double gain)
{
    const float *RESTRICT core = work->rows[CORE];
    float *RESTRICT light = work->rows[LIGHT], *RESTRICT value = work->rows[VALUE];
    float *RESTRICT variance = work->rows[VARIANCE];
    const float g = (float)gain;
    float foreign[LANES] = { 0 };
    /* Squares of what is still smaller have no normal numbers, and processors are slow with them.
     * In a loop of its own: a compiler squares first, and then chooses. */
    for (ptrdiff_t m = 0; m < work->padded; m++)
        light[m] = light[m] > 1e-15f ? light[m] : 0;
    for (ptrdiff_t m = 0; m < work->padded; m += LANES)
        for (int l = 0; l < LANES; l++) {
            const float t = light[m + l];
            value[m + l] -= t;
            variance[m + l] += g * t + 0.0025f * t * t;
            foreign[l] += core[m + l] * t;
        }
    return add_lanes(foreign);
}

/* List the pixels of all stamps. */
INLINE void list_circle(const StarBatch *batch, Work *work)
{
    for (ptrdiff_t m = 0; m < batch->pixels; m++) {
        const int64_t i = batch->circle[2 * m], j = batch->circle[2 * m + 1];
        work->circle_x[m] = (float)j;
        work->circle_y[m] = (float)i;
        work->circle[m] = (int32_t)(i * batch->size + j);
    }
}

/* List the good pixels of a stamp. */
INLINE void gather(
    const StarBatch *batch, ptrdiff_t star, double x, double y, double core2, Work *work)
{
    const ptrdiff_t pixels = batch->size * batch->size;
    const float *RESTRICT stamp = batch->stamps + star * pixels;
    const float *RESTRICT variance = batch->variance + star * (batch->many ? pixels : 1);
    float *RESTRICT xs = work->rows[X], *RESTRICT ys = work->rows[Y];
    float *RESTRICT values = work->rows[VALUE], *RESTRICT variances = work->rows[VARIANCE];
    float *RESTRICT core = work->rows[CORE];
    int32_t *RESTRICT places = work->places;
    const float px = (float)x, py = (float)y, reach = (float)core2;
    ptrdiff_t n = batch->pixels;
    int32_t bad = 0;
    for (ptrdiff_t m = 0; m < n; m++)
        values[m] = stamp[work->circle[m]];
    for (ptrdiff_t m = 0; m < n; m++)
        bad |= values[m] != values[m];
    memcpy(xs, work->circle_x, (size_t)n * sizeof(float));
    memcpy(ys, work->circle_y, (size_t)n * sizeof(float));
    memcpy(places, work->circle, (size_t)n * sizeof(int32_t));
    if (bad) {
        n = 0;
        for (ptrdiff_t m = 0; m < batch->pixels; m++) {
            const float value = values[m];
            xs[n] = xs[m];
            ys[n] = ys[m];
            places[n] = places[m];
            values[n] = value;
            n += value == value;
        }
    }
    for (ptrdiff_t m = 0; m < n; m++)
        variances[m] = variance[batch->many ? places[m] : 0];
    work->n = n;
    work->padded = (n + LANES - 1) / LANES * LANES;
    for (ptrdiff_t m = n; m < work->padded; m++) {
        xs[m] = ys[m] = values[m] = 0;
        variances[m] = 1;
    }
    ptrdiff_t n_core = 0;
    for (ptrdiff_t m = 0; m < n; m++) {
        const float u = xs[m] - px, v = ys[m] - py;
        const int inside = u * u + v * v < reach;
        core[m] = inside ? 1.0f : 0.0f;
        n_core += inside;
    }
    for (ptrdiff_t m = n; m < work->padded; m++)
        core[m] = 0;
    work->n_core = n_core;
}

/*
 * Factor the lower triangle in place; return 0 if it is singular. On the diagonal are the reciprocals:
 * a division takes as long as ten multiplications.
 */
INLINE int cholesky(double *h)
{
    int regular = 1;
    for (int i = 0; i < N_PARAMETERS; i++)
        for (int j = 0; j <= i; j++) {
            double *element = &h[i * N_PARAMETERS + j];
            double total = *element;
            for (int k = 0; k < j; k++)
                total -= h[i * N_PARAMETERS + k] * h[j * N_PARAMETERS + k];
            if (i != j) {
                *element = total * h[j * N_PARAMETERS + j];
                continue;
            }
            if (!(total > 1e-10 * *element)) {
                regular = 0;
                total = larger(*element, 1e-30);
            }
            *element = 1 / sqrt(total);
        }
    return regular;
}

/* Solve with the Cholesky factor. */
INLINE void solve(const double *h, const double *g, double *d)
{
    for (int i = 0; i < N_PARAMETERS; i++) {
        double value = g[i];
        for (int j = 0; j < i; j++)
            value -= h[i * N_PARAMETERS + j] * d[j];
        d[i] = value * h[i * N_PARAMETERS + i];
    }
    for (int i = N_PARAMETERS - 1; i >= 0; i--) {
        double value = d[i];
        for (int j = i + 1; j < N_PARAMETERS; j++)
            value -= h[j * N_PARAMETERS + i] * d[j];
        d[i] = value * h[i * N_PARAMETERS + i];
    }
}

/*
 * Find the roots of the diagonal of the inverse from the Cholesky factor.
 *
 * Its columns are solved for side by side: divisions take long, and wait for each other.
 */
INLINE void standard_errors(const double *h, double *errors)
{
    double d[N_PARAMETERS][LANES], value[LANES];
    for (int i = 0; i < N_PARAMETERS; i++) {
        for (int l = 0; l < LANES; l++)
            value[l] = l == i ? 1 : 0;
        for (int j = 0; j < i; j++)
            for (int l = 0; l < LANES; l++)
                value[l] -= h[i * N_PARAMETERS + j] * d[j][l];
        for (int l = 0; l < LANES; l++)
            d[i][l] = value[l] * h[i * N_PARAMETERS + i];
    }
    for (int i = N_PARAMETERS - 1; i >= 0; i--) {
        for (int j = i + 1; j < N_PARAMETERS; j++)
            for (int l = 0; l < LANES; l++)
                d[i][l] -= h[j * N_PARAMETERS + i] * d[j][l];
        for (int l = 0; l < LANES; l++)
            d[i][l] *= h[i * N_PARAMETERS + i];
        errors[i] = sqrt(larger(d[i][i], 0));
    }
}

/* Put values of the listed pixels back on a grid; NaN where there is none. */
INLINE void to_grid(const Work *work, const float *values, ptrdiff_t size, double *grid)
{
    for (ptrdiff_t k = 0; k < size * size; k++)
        grid[k] = NAN;
    for (ptrdiff_t m = 0; m < work->n; m++)
        grid[work->places[m]] = values[m];
}

/*
 * Find by how many sigma the brightest pixel of the middle stands out too much.
 *
 * Of all stars one that is centered on a pixel has the faintest neighbors, in each direction.
 * Single pixels have fainter ones in every direction, thin lines in at least one. A fifth is left to
 * the error of the PSF.
 */
INLINE double sharpness(const StarBatch *batch, const double *grid, double noise2)
{
    static const int DIRECTIONS[4][2] = { { 0, 1 }, { 1, 0 }, { 1, 1 }, { 1, -1 } };
    const ptrdiff_t size = batch->size, center = size / 2;
    const double top = (double)(batch->entries - 2);
    double peak = -INFINITY;
    const double *at = grid;
    for (ptrdiff_t i = center - 1; i < center + 2; i++)
        for (ptrdiff_t j = center - 1; j < center + 2; j++)
            if (grid[i * size + j] > peak) {
                peak = grid[i * size + j];
                at = &grid[i * size + j];
            }
    if (!(peak > 0))
        return 0;
    double worst = 0, ring = 0, ring_share = 0;
    int n_ring = 0;
    for (int direction = 0; direction < 4; direction++) {
        const int dy = DIRECTIONS[direction][0], dx = DIRECTIONS[direction][1];
        const double q = batch->matrix[0] * dx * dx + 2 * batch->matrix[1] * dx * dy
            + batch->matrix[2] * dy * dy;
        const double place = larger(smaller(q / batch->step, top), 0);
        const ptrdiff_t k = (ptrdiff_t)place;
        const float *low = batch->table + 2 * k;
        const double share
            = (low[0] + (place - (double)k) * (low[2] - low[0])) / batch->table[0];
        const double pair = 0.5 * (at[dy * size + dx] + at[-dy * size - dx]);
        if (isnan(pair))
            continue;
        n_ring++;
        ring += pair;
        ring_share += share;
        const double expected = share * peak, fifth = 0.2 * expected;
        const double variance = (0.5 + share * share) * noise2 + batch->gain * expected;
        worst = larger(worst, (expected - pair) / sqrt(variance + fifth * fifth));
    }
    if (n_ring == 4) {
        const double share = ring_share / 4, expected = share * peak, fifth = 0.2 * expected;
        const double variance = (0.125 + share * share) * noise2 + batch->gain * expected;
        /* one test of eight pixels is worth more than the best of four */
        worst = larger(worst, 1.1 * (expected - ring / 4) / sqrt(variance + fifth * fifth));
    }
    return worst;
}

/* Put values of the listed pixels on a grid with a margin; zeros where there is none. */
INLINE void to_wide_grid(
    const Work *work, const float *values, ptrdiff_t size, ptrdiff_t margin, double *grid)
{
    const ptrdiff_t wide = size + 2 * margin;
    memset(grid, 0, (size_t)(wide * wide) * sizeof(double));
    for (ptrdiff_t m = 0; m < work->n; m++) {
        const ptrdiff_t i = (ptrdiff_t)work->rows[Y][m], j = (ptrdiff_t)work->rows[X][m];
        grid[(i + margin) * wide + j + margin] = values[m];
    }
}

/*
 * Find the most significant peak of the residuals outside of the star's own center.
 *
 * Where the PSF is wrong, the residuals have structure of their own: in proportion to the model near
 * the center, and more than that farther out.
 */
INLINE void companion(
    const StarBatch *batch, const Work *work, double x, double y, double flux, double *out)
{
    const ptrdiff_t size = batch->size, side = batch->side, radius = side / 2;
    const ptrdiff_t wide = size + 2 * radius;
    const double closest = larger(0.6 * batch->fwhm, 1.0), reach = 0.5 * (double)size - 1;
    const float *RESTRICT rest = work->rows[REST], *RESTRICT weight = work->rows[WEIGHT];
    const float *RESTRICT light = work->rows[LIGHT];
    double *RESTRICT rests = work->grid, *RESTRICT weights = work->grid2;
    to_wide_grid(work, rest, size, radius, rests);
    to_wide_grid(work, weight, size, radius, weights);
    double brightest = 0;
    for (ptrdiff_t m = 0; m < work->n; m++)
        brightest = larger(light[m] * (float)flux, brightest);
    out[0] = 0;
    for (ptrdiff_t m = 0; m < work->n; m++) {
        const double here = rest[m];
        /* a peak worth 5 sigma is seen in its middle pixel */
        if (!(here > 0) || here * here * weight[m] < 1)
            continue;
        const ptrdiff_t i = (ptrdiff_t)work->rows[Y][m], j = (ptrdiff_t)work->rows[X][m];
        if (i == 0 || j == 0 || i == size - 1 || j == size - 1)
            continue;
        const double v = (double)i - y, u = (double)j - x, rr = v * v + u * u;
        if (rr < closest * closest || rr > reach * reach)
            continue;
        double top = 0, bottom = 0;
        for (ptrdiff_t p = 0; p < side; p++)
            for (ptrdiff_t q = 0; q < side; q++) {
                const double k = batch->kernel[p * side + q];
                const ptrdiff_t at = (i + p) * wide + j + q;
                top += k * rests[at] * weights[at];
                bottom += k * k * weights[at];
            }
        if (!(bottom > 0))
            continue;
        const double model = larger(light[m] * (float)flux, 0);
        const double doubt = batch->model_error * (2 * model + sqrt(model * brightest));
        const double strength = top / sqrt(bottom + bottom * doubt * bottom * doubt);
        if (strength > out[0]) {
            out[0] = strength;
            out[1] = (double)j;
            out[2] = (double)i;
        }
    }
}

/* Take the light of the neighbors of a star away; return their part in its core. */
INLINE double subtract_neighbors(
    const StarBatch *batch, Work *work, ptrdiff_t me, double x0, double y0)
{
    double near[FEW][N_PARAMETERS], foreign = 0;
    const int64_t end = batch->pointer[me + 1];
    for (int64_t first = batch->pointer[me]; first < end; first += FEW) {
        const int64_t some = end - first < FEW ? end - first : FEW;
        /* all at once: they are anywhere in memory, and take long to come from there */
        for (int64_t k = 0; k < some; k++)
            memcpy(
                near[k], batch->parameters + batch->index[first + k] * N_PARAMETERS,
                sizeof(near[k]));
        for (int64_t k = 0; k < some; k++) {
            const double *other = near[k];
            if (!(other[2] > 0))
                continue;
            const double scale = 1 / (other[4] * other[4]);
            squared_radius(work, batch->matrix, other[0] - x0, other[1] - y0, scale);
            look_up(work, batch->table, batch->entries, batch->step, scale * other[2], 0);
            foreign += subtract(work, batch->gain);
        }
    }
    return foreign;
}

/* Have what is known of a star's neighbors, which are anywhere in memory, on its way from there. */
INLINE void fetch_neighbors(const StarBatch *batch, ptrdiff_t me)
{
    for (int64_t k = batch->pointer[me]; k < batch->pointer[me + 1]; k++)
        PREFETCH(batch->parameters + batch->index[k] * N_PARAMETERS);
}

/* What the steps of a fit end with. */
typedef struct {
    double h[N_PARAMETERS * N_PARAMETERS];
    double x, y, flux, sky, width, snr, last_flux;
    int converged;
} Solution;

/* Fit one star by Gauss-Newton steps. */
INLINE void iterate(const StarBatch *batch, Work *work, Solution *at)
{
    const double limit = larger(0.25 * batch->fwhm, 0.4), farthest = larger(batch->fwhm, 1.5);
    /* stars narrower than a pixel have no width to measure */
    const double prior = batch->fwhm > 1.3 ? 0.3 : 0.03;
    const double x_start = at->x, y_start = at->y;
    at->converged = 0;
    at->snr = 0;
    at->last_flux = at->flux;
    for (int iteration = 0; iteration < 12; iteration++) {
        const double scale = 1 / (at->width * at->width);
        double g[N_PARAMETERS], d[N_PARAMETERS], *h = at->h;
        squared_radius(work, batch->matrix, at->x, at->y, scale);
        look_up(work, batch->table, batch->entries, batch->step, scale, 1);
        gradients(work, batch->matrix, at->x, at->y, -2 * at->flux * scale);
        weigh(work, at->flux, at->sky, at->width, batch->gain);
        normal_equations(work, h, g);
        at->snr = at->flux * sqrt(h[12]);
        double small = larger(0.05 / sqrt(larger(smaller(h[0], h[6]), 1e-30)), 0.001);
        /* a weak prior keeps the width of faint stars near that of the PSF */
        h[24] += 1 / (prior * prior);
        g[4] -= (at->width - 1) / (prior * prior);
        const int regular = cholesky(h);
        solve(h, g, d);
        const double dx = smaller(larger(d[0], -limit), limit);
        const double dy = smaller(larger(d[1], -limit), limit);
        at->last_flux = at->flux;
        at->x += dx;
        at->y += dy;
        at->flux += d[2];
        at->sky += d[3];
        at->width += smaller(larger(d[4], -0.25), 0.25);
        at->width = smaller(larger(at->width, 0.3), 3.0);
        const int lost = fabs(at->x - x_start) > farthest || fabs(at->y - y_start) > farthest;
        if (lost) {
            at->x = x_start;
            at->y = y_start;
        }
        small *= iteration < 8 ? 1 : 3;
        at->converged = regular && !lost && fabs(dx) < small && fabs(dy) < small;
        if (at->converged || lost || !regular)
            break;
    }
}

/* Fit one star, and update its rows of the tables. */
INLINE void fit_star(const StarBatch *batch, Work *work, ptrdiff_t star)
{
    const ptrdiff_t me = batch->members[star], size = batch->size;
    const double x0 = batch->corner[2 * star], y0 = batch->corner[2 * star + 1];
    const double core_radius = larger(0.85 * batch->fwhm, 1.5);
    const double core2 = core_radius * core_radius;
    double *parameters = batch->parameters + me * N_PARAMETERS;
    double *errors = batch->errors + me * N_PARAMETERS;
    double *mine = batch->quality + me * N_QUALITIES;
    Solution at = { .x = parameters[0] - x0, .y = parameters[1] - y0, .flux = parameters[2],
                    .sky = parameters[3], .width = parameters[4] };
    gather(batch, star, at.x, at.y, core2, work);
    for (int k = 0; k < N_QUALITIES; k++)
        mine[k] = 0;
    mine[GOOD] = (double)work->n_core / (3.141592653589793 * core2);
    if (work->n_core < 4 || work->n < 8)
        return;
    const double foreign = subtract_neighbors(batch, work, me, x0, y0);
    iterate(batch, work, &at);
    parameters[0] = at.x + x0;
    parameters[1] = at.y + y0;
    parameters[2] = at.flux;
    parameters[3] = at.sky;
    parameters[4] = at.width;
    standard_errors(at.h, errors);
    double chi2, chi2_all;
    core_sums(work, at.last_flux, batch->model_error, mine + SUMS, &chi2, &chi2_all);
    variance_sums(work, at.last_flux, mine);
    mine[SNR] = at.snr;
    mine[CHI2] = chi2 / larger(mine[SUMS] - 3, 1);
    mine[CONVERGED] = at.converged;
    mine[FOREIGN] = foreign / larger(at.flux, 1e-30);
    to_grid(work, work->rows[VALUE], size, work->grid);
    mine[SHARPNESS] = sharpness(batch, work->grid, mine[SUMS + 2] / larger(mine[SUMS], 1));
    if (batch->search && chi2_all > 1.15 * (double)work->n) {
        companion(batch, work, at.x, at.y, at.last_flux, mine + COMPANION);
        mine[COMPANION + 1] += x0;
        mine[COMPANION + 2] += y0;
    }
}

/* Whether every number that stars, neighbors and pixels are known by is within its range. */
static int within_bounds(const StarBatch *batch)
{
    for (ptrdiff_t k = 0; k < batch->number; k++) {
        const int64_t me = batch->members[k];
        if (me < 0 || me >= batch->stars || batch->pointer[me] < 0
            || batch->pointer[me + 1] > batch->indices)
            return 0;
        for (int64_t n = batch->pointer[me]; n < batch->pointer[me + 1]; n++)
            if (batch->index[n] < 0 || batch->index[n] >= batch->stars)
                return 0;
    }
    for (ptrdiff_t k = 0; k < 2 * batch->pixels; k++)
        if (batch->circle[k] < 0 || batch->circle[k] >= batch->size)
            return 0;
    return 1;
}

CLONES
int fit_batch(const StarBatch *batch)
{
    if (!within_bounds(batch))
        return OUT_OF_BOUNDS;
    const size_t wide = (size_t)(batch->size + batch->side), pixels = wide * wide;
    /* one more than there are: the next pixel is written before it is known to be good */
    const size_t row = ((size_t)batch->pixels / LANES + 1) * LANES;
    float *memory = malloc((N_ROWS + 6) * row * sizeof(float) + 2 * pixels * sizeof(double));
    if (memory == NULL)
        return NO_MEMORY;
    Work work;
    work.grid = (double *)memory;
    work.grid2 = work.grid + pixels;
    for (int k = 0; k < N_ROWS; k++)
        work.rows[k] = (float *)(work.grid2 + pixels) + (size_t)k * row;
    work.parts = work.rows[N_ROWS - 1] + row;
    work.circle_x = work.parts + row;
    work.circle_y = work.circle_x + row;
    work.knots = (int32_t *)(work.circle_y + row);
    work.circle = work.knots + row;
    work.places = work.circle + row;
    list_circle(batch, &work);
    for (ptrdiff_t star = 0; star < batch->number; star++) {
        if (star + 1 < batch->number)
            fetch_neighbors(batch, batch->members[star + 1]);
        fit_star(batch, &work, star);
    }
    free(memory);
    return DONE;
}
