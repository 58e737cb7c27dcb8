/* The estimate of the sky. */

#include "detection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Mean of a unit normal cut to (-3, +1.5), with which the clipped mean is corrected. */
static const double CUT_LOW = 3.0, CUT_HIGH = 1.5, CUT_MEAN = -0.134235;

/* Values that a first center and width are taken from. */
#define FEW 128

/* Values that are worked on at once: they fit the cache. */
#define BLOCK 256

#define REAL float
#define INTEGER int32_t
#define LANE_BYTES 4
#define NAME(name) name##_float
#include "vectors.h"

INLINE eight_float eight_zero(void)
{
    const float zeros[LANES] = { 0 };
    return eight_load_float(zeros);
}

INLINE float add_lanes(eight_float vector)
{
    float sums[LANES];
    eight_store_float(sums, vector);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* Fill up whole vectors with zeros; return the number of what they hold. */
INLINE ptrdiff_t pad(float *numbers, ptrdiff_t n)
{
    const ptrdiff_t padded = (n + LANES - 1) / LANES * LANES;
    for (ptrdiff_t m = n; m < padded; m++)
        numbers[m] = 0;
    return padded;
}

/*
 * Count and sum the values in a range, and count and square those below the center.
 *
 * What is added up comes from a loop of its own: compilers make vector instructions of comparisons
 * where a loop does nothing else.
 */
INLINE void clipped_sums(
    const float *RESTRICT v, ptrdiff_t n, float center, float low, float high,
    float *RESTRICT out)
{
    eight_float number = eight_zero(), total = number, n_below = number, below = number;
    float inside[BLOCK], cut[BLOCK], under[BLOCK], square[BLOCK];
    for (ptrdiff_t first = 0; first < n; first += BLOCK) {
        const ptrdiff_t size = n - first < BLOCK ? n - first : BLOCK;
        for (ptrdiff_t m = 0; m < size; m++) {
            const float d = v[first + m] - center;
            const float is_inside = (d > low) & (d < high) ? 1.0f : 0.0f;
            const float is_under = d < 0 ? is_inside : 0.0f;
            inside[m] = is_inside;
            cut[m] = is_inside * d;
            under[m] = is_under;
            square[m] = is_under * d * d;
        }
        pad(inside, size);
        pad(cut, size);
        pad(under, size);
        const ptrdiff_t padded = pad(square, size);
        for (ptrdiff_t m = 0; m < padded; m += LANES) {
            number = eight_add_float(number, eight_load_float(inside + m));
            total = eight_add_float(total, eight_load_float(cut + m));
            n_below = eight_add_float(n_below, eight_load_float(under + m));
            below = eight_add_float(below, eight_load_float(square + m));
        }
    }
    out[0] = add_lanes(number);
    out[1] = add_lanes(total);
    out[2] = add_lanes(n_below);
    out[3] = add_lanes(below);
}

/* Center and width of the normal distribution under the lower side of a histogram. */
INLINE void lower_side(const float *RESTRICT v, ptrdiff_t n, float *level, float *noise)
{
    float few[FEW], some[FEW];
    const ptrdiff_t step = n / 64 > 1 ? n / 64 : 1;
    const ptrdiff_t size = (n + step - 1) / step;
    for (ptrdiff_t i = 0; i < size; i++)
        some[i] = v[i * step];
    /* each to its rank: to count is quicker than to sort, as all of a few can be compared at once */
    for (ptrdiff_t i = 0; i < size; i++) {
        int32_t rank = 0;
        for (ptrdiff_t j = 0; j < i; j++)
            rank += some[j] <= some[i];
        for (ptrdiff_t j = i + 1; j < size; j++)
            rank += some[j] < some[i];
        few[rank] = some[i];
    }
    float center = few[size / 2];
    float width = center - few[size / 6];
    if (width <= 0)
        width = few[5 * size / 6] - few[size / 6];
    if (width <= 0)
        width = (few[size - 1] - few[0]) / 4;
    if (width <= 0) {
        *level = center;
        *noise = 0;
        return;
    }
    for (int round = 0; round < 8; round++) {
        float sums[4];
        clipped_sums(v, n, center, (float)(-CUT_LOW * width), (float)(CUT_HIGH * width), sums);
        if (sums[0] < 8 || sums[2] < 4)
            break;
        const float new_width = (float)(sqrt(sums[3] / sums[2]) * 1.0136);
        const float shift = (float)(sums[1] / sums[0] - CUT_MEAN * new_width);
        center += shift;
        if (new_width <= 0)
            break;
        const int done
            = fabs(shift) < 0.005 * width && fabs(new_width - width) < 0.005 * width;
        width = new_width;
        if (done)
            break;
    }
    *level = center;
    *noise = width;
}

/* Append the good values of a row, and what is added to them; whether they differ from one. */
INLINE void add_row(
    const float *RESTRICT line, const float *RESTRICT more, ptrdiff_t width,
    float *RESTRICT pixels, ptrdiff_t *n, float *one, int *differ)
{
    float *RESTRICT out = pixels + *n;
    int32_t bad = 0, other = 0;
    for (ptrdiff_t k = 0; k < width; k++)
        bad |= !(line[k] - line[k] == 0);
    if (!bad && width > 0) {
        const float first = isnan(*one) ? line[0] : *one;
        for (ptrdiff_t k = 0; k < width; k++) {
            out[k] = line[k] + more[k];
            other |= line[k] != first;
        }
        *n += width;
        *one = first;
        *differ |= other;
        return;
    }
    for (ptrdiff_t k = 0; k < width; k++) {
        if (!(line[k] - line[k] == 0))
            continue;
        *one = isnan(*one) ? line[k] : *one;
        *differ |= line[k] != *one;
        pixels[(*n)++] = line[k] + more[k];
    }
}

CLONES
int mesh_row(
    const float *values, ptrdiff_t rows, ptrdiff_t nx, const float *dither, int dithers,
    const int64_t *x_edges, ptrdiff_t cells, float *level, float *noise)
{
    ptrdiff_t widest = 0;
    for (ptrdiff_t j = 0; j < cells; j++) {
        const int64_t width = x_edges[j + 1] - x_edges[j];
        if (width < 0 || x_edges[j] < 0 || x_edges[j + 1] > nx)
            return OUT_OF_BOUNDS;
        widest = width > widest ? width : widest;
    }
    float *RESTRICT pixels = malloc((size_t)(rows * widest) * sizeof(float) + 1);
    if (pixels == NULL)
        return NO_MEMORY;
    for (ptrdiff_t j = 0; j < cells; j++) {
        const ptrdiff_t from = x_edges[j], width = x_edges[j + 1] - from;
        ptrdiff_t n = 0;
        int differ = 0;
        float one = NAN; /* of the good values */
        for (ptrdiff_t i = 0; i < rows; i++)
            add_row(
                values + i * nx + from, dither + (dithers ? i * nx : 0) + from, width, pixels, &n,
                &one, &differ);
        if (n >= 16 && n >= 0.2 * (double)(rows * width)) {
            if (!differ) {
                level[j] = one;
                noise[j] = 0;
            } else {
                lower_side(pixels, n, &level[j], &noise[j]);
            }
        }
    }
    free(pixels);
    return DONE;
}

/* Add number, sum and squares of the differences that are smaller than a limit. */
INLINE void add_differences(
    const float *RESTRICT a, const float *RESTRICT b, ptrdiff_t n, float limit,
    double *RESTRICT out)
{
    eight_float number = eight_zero(), total = number, squares = number;
    float small[BLOCK], cut[BLOCK], square[BLOCK];
    for (ptrdiff_t first = 0; first < n; first += BLOCK) {
        const ptrdiff_t size = n - first < BLOCK ? n - first : BLOCK;
        for (ptrdiff_t m = 0; m < size; m++) {
            const float d = b[first + m] - a[first + m];
            const float in = fabsf(d) < limit ? d : 0.0f;
            small[m] = fabsf(d) < limit ? 1.0f : 0.0f;
            cut[m] = in;
            square[m] = in * in;
        }
        pad(small, size);
        pad(cut, size);
        const ptrdiff_t padded = pad(square, size);
        for (ptrdiff_t m = 0; m < padded; m += LANES) {
            number = eight_add_float(number, eight_load_float(small + m));
            total = eight_add_float(total, eight_load_float(cut + m));
            squares = eight_add_float(squares, eight_load_float(square + m));
        }
    }
    out[0] += add_lanes(number);
    out[1] += add_lanes(total);
    out[2] += add_lanes(squares);
}

CLONES
void difference_widths(
    const float *values, ptrdiff_t nx, const int64_t *pairs, ptrdiff_t number_of_pairs,
    ptrdiff_t rows, double sigma, double *widths)
{
    for (int axis = 0; axis < 2; axis++) {
        double limit = 6 * sigma;
        for (int round = 0; round < 3; round++) {
            double sums[3] = { 0 };
            if (axis == 0)
                for (ptrdiff_t i = 0; i < rows; i++)
                    add_differences(
                        values + i * nx, values + i * nx + 1, nx - 1, (float)limit, sums);
            else
                for (ptrdiff_t k = 0; k < number_of_pairs; k++) {
                    const float *row = values + pairs[k] * nx;
                    add_differences(row, row + nx, nx, (float)limit, sums);
                }
            if (sums[0] < 64) {
                widths[axis] = NAN;
                break;
            }
            const double mean = sums[1] / sums[0];
            const double variance = sums[2] / sums[0] - mean * mean;
            widths[axis] = sqrt(variance > 0 ? variance : 0);
            limit = 3 * widths[axis];
        }
    }
}
