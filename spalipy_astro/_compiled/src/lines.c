/* The search for straight lines. */

#include "detection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

INLINE float smaller(float a, float b)
{
    return a < b ? a : b;
}

INLINE float larger(float a, float b)
{
    return a > b ? a : b;
}

/* By how much the sum of a line exceeds the darker of two on the left, and of two on the right. */
INLINE float contrast(const float *line, ptrdiff_t near, ptrdiff_t far)
{
    return line[0]
        - larger(smaller(line[-near], line[-far]), smaller(line[near], line[far]));
}

/* Find the largest contrast of a row of sums, and the first column that has it, if it is a record. */
INLINE void find_best(
    const float *RESTRICT line, ptrdiff_t columns, ptrdiff_t near, ptrdiff_t far, ptrdiff_t row,
    float *best, ptrdiff_t *place)
{
    float most[LANES];
    for (int l = 0; l < LANES; l++)
        most[l] = *best;
    ptrdiff_t x = far;
    for (; x + LANES <= columns; x += LANES)
        for (int l = 0; l < LANES; l++)
            most[l] = larger(contrast(line + x + l, near, far), most[l]);
    for (; x < columns; x++)
        most[0] = larger(contrast(line + x, near, far), most[0]);
    for (int l = 1; l < LANES; l++)
        most[0] = larger(most[0], most[l]);
    if (!(most[0] > *best))
        return;
    *best = most[0];
    for (x = far; contrast(line + x, near, far) != *best; x++)
        ;
    place[0] = row;
    place[1] = x;
}

/*
 * Join the sums of two strips of rows. The second strip's line begins in the column that the first
 * strip's ends in, or in the next one.
 */
INLINE void join(
    const float *RESTRICT first, const float *RESTRICT second, ptrdiff_t columns,
    float *RESTRICT out)
{
    for (ptrdiff_t x = 0; x < columns; x++)
        out[x] = first[x] + second[x];
}

CLONES
int bright_lines(
    const float *image, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t levels, ptrdiff_t near,
    ptrdiff_t far, float *value, int64_t *place)
{
    const ptrdiff_t size = (ptrdiff_t)1 << levels, wide = columns + size + far;
    float *memory = calloc(2 * (size_t)(size * wide), sizeof(float));
    if (memory == NULL)
        return NO_MEMORY;
    float *sums = memory, *longer = memory + size * wide;
    for (ptrdiff_t i = 0; i < rows; i++)
        memcpy(sums + i * wide, image + i * columns, (size_t)columns * sizeof(float));
    for (ptrdiff_t level = 1; level <= levels; level++) {
        const ptrdiff_t shears = (ptrdiff_t)1 << (level - 1), strip = 2 * shears;
        float best = -INFINITY;
        ptrdiff_t found[2] = { 0, 0 };
        for (ptrdiff_t row = 0; row < rows; row += strip)
            for (ptrdiff_t shear = 0; shear < strip; shear++) {
                const float *one = sums + (row + shear / 2) * wide;
                const float *two = one + shears * wide + (shear + 1) / 2;
                float *line = longer + (row + shear) * wide;
                join(one, two, columns, line);
                find_best(line, columns, near, far, row + shear, &best, found);
            }
        value[level - 1] = best;
        place[3 * (level - 1)] = found[0] / strip;
        place[3 * (level - 1) + 1] = found[0] % strip;
        place[3 * (level - 1) + 2] = found[1];
        float *other = sums;
        sums = longer;
        longer = other;
    }
    free(memory);
    return DONE;
}
