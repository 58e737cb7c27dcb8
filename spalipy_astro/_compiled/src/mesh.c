/* The estimate of the sky. */

#include "detection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Mean of a unit normal cut to (-3, +1.5), with which the clipped mean is corrected. */
static const double CUT_LOW = 3.0, CUT_HIGH = 1.5, CUT_MEAN = -0.134235;

/* Values that a first center and width are taken from. */
#define FEW 128

#define REAL float
#define INTEGER int32_t
#define LANE_BYTES 4
#define NAME(name) name##_float
#include "vectors.h"

INLINE eight_float eight_of(float number)
{
    const float numbers[LANES]
        = { number, number, number, number, number, number, number, number };
    return eight_load_float(numbers);
}

INLINE float add_lanes(eight_float vector)
{
    float sums[LANES];
    eight_store_float(sums, vector);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* The next values of some, as many as a vector holds; after the last of them, one that is none. */
INLINE eight_float next_of(const float *values, ptrdiff_t left)
{
    float last[LANES];
    if (left >= LANES)
        return eight_load_float(values);
    for (ptrdiff_t l = 0; l < LANES; l++)
        last[l] = l < left ? values[l] : NAN;
    return eight_load_float(last);
}

/* The lanes of a vector that lie between those of two others, and zeros; and the same of ones. */
typedef struct {
    eight_float values, ones;
} Chosen;

#if defined(__GNUC__)
typedef int32_t eight_bits __attribute__((vector_size(LANES * sizeof(int32_t))));

INLINE Chosen choose(eight_float v, eight_float low, eight_float high, eight_float one)
{
    const eight_bits inside = (v > low) & (v < high);
    Chosen out;
    out.values = (eight_float)((eight_bits)v & inside);
    out.ones = (eight_float)((eight_bits)one & inside);
    return out;
}
#else
INLINE Chosen choose(eight_float v, eight_float low, eight_float high, eight_float one)
{
    Chosen out;
    for (int l = 0; l < LANES; l++) {
        const int inside = (v.lane[l] > low.lane[l]) & (v.lane[l] < high.lane[l]);
        out.values.lane[l] = inside ? v.lane[l] : 0.0f;
        out.ones.lane[l] = inside ? one.lane[l] : 0.0f;
    }
    return out;
}
#endif

/* Count and sum the values in a range, and count and square those below the center. */
INLINE void clipped_sums(
    const float *RESTRICT v, ptrdiff_t n, float center, float low, float high,
    float *RESTRICT out)
{
    eight_float number = eight_of(0), total = number, n_below = number, below = number;
    const eight_float zero = eight_of(0), one = eight_of(1), middle = eight_of(center);
    const eight_float lowest = eight_of(low), highest = eight_of(high);
    for (ptrdiff_t m = 0; m < n; m += LANES) {
        const eight_float d = eight_subtract_float(next_of(v + m, n - m), middle);
        const Chosen inside = choose(d, lowest, highest, one);
        const Chosen under = choose(inside.values, lowest, zero, one);
        number = eight_add_float(number, inside.ones);
        total = eight_add_float(total, inside.values);
        n_below = eight_add_float(n_below, under.ones);
        below = eight_add_float(below, eight_multiply_float(under.values, under.values));
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
    eight_float number = eight_of(0), total = number, squares = number;
    const eight_float one = eight_of(1), lowest = eight_of(-limit), highest = eight_of(limit);
    for (ptrdiff_t m = 0; m < n; m += LANES) {
        const eight_float d
            = eight_subtract_float(next_of(b + m, n - m), next_of(a + m, n - m));
        const Chosen small = choose(d, lowest, highest, one);
        number = eight_add_float(number, small.ones);
        total = eight_add_float(total, small.values);
        squares = eight_add_float(squares, eight_multiply_float(small.values, small.values));
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

/* The cell before a place along an axis, the one after it, and how far the place is from it. */
INLINE double between_cells(
    double place, double cell, ptrdiff_t number, ptrdiff_t *first, ptrdiff_t *second)
{
    double f = (place + 0.5) / cell - 0.5;
    f = f > 0 ? f : 0;
    f = f < (double)(number - 1) ? f : (double)(number - 1);
    *first = (ptrdiff_t)f;
    if (*first > number - 2)
        *first = number > 1 ? number - 2 : 0;
    *second = *first + 1 < number ? *first + 1 : number - 1;
    return f - (double)*first;
}

void mesh_values(
    const float *level, const float *noise, ptrdiff_t my, ptrdiff_t mx, const double *cell,
    const double *x, const double *y, ptrdiff_t n, double *level_at, double *noise_at)
{
    const float *planes[2] = { level, noise };
    double *out[2] = { level_at, noise_at };
    for (ptrdiff_t k = 0; k < n; k++) {
        ptrdiff_t top, bottom, left, right;
        const double ty = between_cells(y[k], cell[0], my, &top, &bottom);
        const double tx = between_cells(x[k], cell[1], mx, &left, &right);
        for (int p = 0; p < 2; p++) {
            const float *one = planes[p] + top * mx, *two = planes[p] + bottom * mx;
            const double upper = one[left] * (1 - tx) + one[right] * tx;
            const double lower = two[left] * (1 - tx) + two[right] * tx;
            out[p][k] = upper * (1 - ty) + lower * ty;
        }
    }
}
