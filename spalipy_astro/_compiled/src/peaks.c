/* The search for peaks. */

#include "detection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REAL float
#define INTEGER int32_t
#define LANE_BYTES 4
#define NAME(name) name##_float
#include "vectors.h"

/* Vectors that are summed up at once, and the pixels in them. */
#define SUMS 4
#define GROUP (SUMS * LANES)

/* Pixels that are looked at at once. */
#define MANY 64
#define FEW 16

INLINE ptrdiff_t least(ptrdiff_t a, ptrdiff_t b)
{
    return a < b ? a : b;
}

/* Interpolate a plane of the mesh to an image row, at the mesh's columns. */
INLINE void mesh_line(
    const float *mesh, ptrdiff_t my, ptrdiff_t mx, ptrdiff_t row, double cell_y,
    float *RESTRICT out)
{
    double f = ((double)row + 0.5) / cell_y - 0.5;
    f = f > 0 ? f : 0;
    f = f < (double)(my - 1) ? f : (double)(my - 1);
    ptrdiff_t i = least((ptrdiff_t)f, my > 2 ? my - 2 : 0);
    const float t = (float)(f - (double)i);
    const float *RESTRICT lower = mesh + i * mx;
    const float *RESTRICT upper = mesh + least(i + 1, my - 1) * mx;
    for (ptrdiff_t k = 0; k < mx; k++)
        out[k] = lower[k] + t * (upper[k] - lower[k]);
}

/* Subtract the sky and divide by the noise between two columns of the mesh. */
INLINE void normalize_piece(
    const float *RESTRICT row, const float *RESTRICT part, ptrdiff_t n, float l0, float l1,
    float n0, float n1, float *RESTRICT out)
{
    for (ptrdiff_t x = 0; x < n; x++) {
        const float t = part[x];
        out[x] = (row[x] - (l0 + t * l1)) * (n0 + t * n1);
    }
}

/* Subtract the sky and divide by the noise; both are linear between the mesh's columns. */
INLINE void normalize(
    const Strip *strip, const float *row, const float *level, const float *noise, float *out)
{
    for (ptrdiff_t k = 0; k < strip->pieces; k++) {
        const ptrdiff_t j = least(k + 1, strip->mx - 1), from = strip->edges[k];
        const float n0 = 1 / noise[k];
        normalize_piece(
            row + from, strip->part_x + from, strip->edges[k + 1] - from, level[k],
            level[j] - level[k], n0, 1 / noise[j] - n0, out + from);
    }
}

/* Whether a row has NaN or infinite values. */
INLINE int has_bad(const float *RESTRICT row, ptrdiff_t n)
{
    int32_t any = 0;
    for (ptrdiff_t x = 0; x < n; x++)
        any |= !(row[x] - row[x] == 0);
    return any;
}

/*
 * Convolve a group of pixels along the other axis of some rows, as many as the kernel has values.
 *
 * Rows that begin a pixel later each are one row, smoothed along itself.
 */
INLINE void smooth_some(
    const float *const *rows, const float *kernel, ptrdiff_t radius, ptrdiff_t x, float *out)
{
    eight_float total[SUMS];
    for (int v = 0; v < SUMS; v++)
        total[v] = eight_scale_float(
            kernel[radius], eight_load_float(rows[radius] + x + v * LANES));
    for (ptrdiff_t k = 1; k <= radius; k++)
        for (int v = 0; v < SUMS; v++) {
            const float *one = rows[radius - k] + x + v * LANES;
            const float *two = rows[radius + k] + x + v * LANES;
            total[v] = eight_add_float(
                total[v],
                eight_scale_float(
                    kernel[radius + k],
                    eight_add_float(eight_load_float(one), eight_load_float(two))));
        }
    for (int v = 0; v < SUMS; v++)
        eight_store_float(out + x + v * LANES, total[v]);
}

/* The same for whole rows, which have room for a whole number of groups. */
INLINE void smooth(
    const float *const *rows, const float *kernel, ptrdiff_t radius, float *out, ptrdiff_t nx)
{
    for (ptrdiff_t x = 0; x < nx; x += GROUP)
        smooth_some(rows, kernel, radius, x, out);
}

/* Whether any of some values exceeds a limit. */
INLINE int any_above(const float *RESTRICT values, ptrdiff_t n, float limit)
{
    int32_t any = 0;
    for (ptrdiff_t x = 0; x < n; x++)
        any |= values[x] > limit;
    return any;
}

/* Append the local maxima of a part of a row; the lines have a margin of one on both sides. */
INLINE ptrdiff_t some_peaks(
    const float *above, const float *here, const float *below, ptrdiff_t start, ptrdiff_t stop,
    float threshold, ptrdiff_t row, int32_t *position, float *significance, ptrdiff_t capacity,
    ptrdiff_t n)
{
    for (ptrdiff_t x = start; x < stop; x++) {
        const float s = here[x];
        if (s > threshold && n < capacity && s > here[x - 1] && s >= here[x + 1]
            && s > above[x - 1] && s > above[x] && s > above[x + 1] && s >= below[x - 1]
            && s >= below[x] && s >= below[x + 1]) {
            position[2 * n] = (int32_t)row;
            position[2 * n + 1] = (int32_t)(x - 1);
            significance[n] = s;
            n++;
        }
    }
    return n;
}

/* Append the local maxima of a row: most of it is dark, and that is seen many pixels at once. */
INLINE ptrdiff_t row_peaks(
    const float *above, const float *here, const float *below, ptrdiff_t nx, float threshold,
    ptrdiff_t row, int32_t *position, float *significance, ptrdiff_t capacity, ptrdiff_t n)
{
    for (ptrdiff_t start = 1; start <= nx; start += MANY) {
        const ptrdiff_t stop = least(start + MANY, nx + 1);
        if (!any_above(here + start, stop - start, threshold))
            continue;
        for (ptrdiff_t few = start; few < stop; few += FEW) {
            const ptrdiff_t end = least(few + FEW, stop);
            if (any_above(here + few, end - few, threshold))
                n = some_peaks(
                    above, here, below, few, end, threshold, row, position, significance,
                    capacity, n);
        }
    }
    return n;
}

/*
 * Memory of a strip. The rows that a row of the result is made from take turns. Each has room for a
 * whole number of groups, at least nx.
 */
typedef struct {
    ptrdiff_t wide;
    float *padded, *ones;           /* (wide + 2 radius,) */
    float *zeros;                   /* (wide,) */
    float *lines[3];                /* (wide + 2,) */
    float *norm, *whole_row;        /* (wide,) */
    float *line_weight;             /* (wide,) */
    float *level_line, *noise_line; /* (mx,) */
    float *smooth, *weight;         /* (2 radius + 1, wide) */
    const float **rows;             /* (2 radius + 1,) */
    float whole;                    /* sum of the squared kernel, squared */
} Room;

/* Smooth a row that has a margin on both sides. */
INLINE void smooth_row(
    const Strip *strip, const Room *room, const float *padded, const float *kernel, float *out)
{
    for (ptrdiff_t k = 0; k < 2 * strip->radius + 1; k++)
        room->rows[k] = padded + k;
    smooth(room->rows, kernel, strip->radius, out, strip->nx);
}

/* Smooth a row with those above and below it; there is nothing beyond the strip. */
INLINE void smooth_columns(
    const Strip *strip, const Room *room, const float *planes, ptrdiff_t i, const float *kernel,
    float *out)
{
    const ptrdiff_t size = 2 * strip->radius + 1;
    for (ptrdiff_t k = 0; k < size; k++) {
        const ptrdiff_t row = i + k - strip->radius;
        const int inside = row >= 0 && row < strip->rows;
        room->rows[k] = inside ? planes + row % size * room->wide : room->zeros;
    }
    smooth(room->rows, kernel, strip->radius, out, strip->nx);
}

static float *make_room(Room *room, const Strip *strip)
{
    const size_t nx = (size_t)strip->nx, mx = (size_t)strip->mx, radius = (size_t)strip->radius;
    const size_t size = 2 * radius + 1, wide = (nx + GROUP - 1) / GROUP * GROUP;
    const size_t padded = wide + 2 * radius, clean = 2 * padded + wide + 3 * (wide + 2);
    float *at = malloc(
        size * sizeof(float *) + (clean + 3 * wide + 2 * mx + 2 * size * wide) * sizeof(float));
    if (at == NULL)
        return NULL;
    room->wide = (ptrdiff_t)wide;
    room->rows = (const float **)at;
    room->padded = (float *)(room->rows + size);
    room->ones = room->padded + padded;
    room->zeros = room->ones + padded;
    room->lines[0] = room->zeros + wide;
    room->lines[1] = room->lines[0] + wide + 2;
    room->lines[2] = room->lines[1] + wide + 2;
    room->norm = room->lines[2] + wide + 2;
    room->whole_row = room->norm + wide;
    room->line_weight = room->whole_row + wide;
    room->level_line = room->line_weight + wide;
    room->noise_line = room->level_line + mx;
    room->smooth = room->noise_line + mx;
    room->weight = room->smooth + size * wide;
    memset(room->padded, 0, clean * sizeof(float));
    for (size_t x = 0; x < nx; x++)
        room->ones[radius + x] = 1;
    smooth_row(strip, room, room->ones, strip->square, room->whole_row);
    for (size_t x = 0; x < nx; x++)
        room->norm[x] = 1 / sqrtf(room->whole_row[x]);
    room->whole = 0;
    for (size_t k = 0; k < size; k++)
        room->whole += strip->square[k];
    room->whole *= room->whole;
    return at;
}

/*
 * Smooth a row along x; return whether it has bad pixels. These need weights, and if there are any,
 * those of all rows are smoothed.
 */
INLINE int add_row(const Strip *strip, const Room *room, ptrdiff_t i, int weighted)
{
    const ptrdiff_t nx = strip->nx, radius = strip->radius, row = strip->first + i;
    const ptrdiff_t place = i % (2 * radius + 1) * room->wide;
    float *inner = room->padded + radius, *weight = room->weight + place;
    mesh_line(strip->level, strip->my, strip->mx, row, strip->cell_y, room->level_line);
    mesh_line(strip->noise, strip->my, strip->mx, row, strip->cell_y, room->noise_line);
    normalize(strip, strip->strip + i * nx, room->level_line, room->noise_line, inner);
    const int bad = has_bad(inner, nx);
    if (bad && !weighted)
        return 1;
    if (bad) {
        for (ptrdiff_t x = 0; x < nx; x++) {
            const int good = inner[x] - inner[x] == 0;
            inner[x] = good ? inner[x] : 0.0f;
            room->ones[x + radius] = good ? 1.0f : 0.0f;
        }
        smooth_row(strip, room, room->ones, strip->square, weight);
    } else if (weighted) {
        memcpy(weight, room->whole_row, (size_t)room->wide * sizeof(float));
    }
    smooth_row(strip, room, room->padded, strip->kernel, room->smooth + place);
    return bad;
}

/* Smooth a row along y, in units of its noise; it has a margin of one on both sides. */
INLINE void finish_row(
    const Strip *strip, const Room *room, ptrdiff_t i, int weighted, float *line)
{
    const ptrdiff_t nx = strip->nx, radius = strip->radius;
    float *RESTRICT inner = line + 1;
    smooth_columns(strip, room, room->smooth, i, strip->kernel, inner);
    line[nx + 1] = 0;
    if (weighted) {
        float *RESTRICT w = room->line_weight;
        const float least_weight = 0.4f * room->whole;
        smooth_columns(strip, room, room->weight, i, strip->square, w);
        for (ptrdiff_t x = 0; x < nx; x++)
            inner[x] = w[x] > least_weight ? inner[x] / sqrtf(w[x]) : 0.0f;
        return;
    }
    float inside = 0;
    for (ptrdiff_t k = radius < i ? -radius : -i; k <= least(radius, strip->rows - 1 - i); k++)
        inside += strip->square[radius + k];
    const float factor = 1 / sqrtf(inside);
    const float *RESTRICT norm = room->norm;
    for (ptrdiff_t x = 0; x < nx; x++)
        inner[x] *= factor * norm[x];
}

/* Search a strip; return the number of peaks, or -1 if there are bad pixels and no weights. */
INLINE ptrdiff_t search(
    const Strip *strip, const Room *room, int weighted, int32_t *position, float *significance,
    ptrdiff_t capacity)
{
    const ptrdiff_t nx = strip->nx, rows = strip->rows, end = strip->first + rows;
    const ptrdiff_t low = (strip->start > strip->first ? strip->start - 1 : strip->first)
        - strip->first;
    const ptrdiff_t high = least(strip->stop + 1, end) - strip->first;
    ptrdiff_t n = 0, next = 0;
    for (ptrdiff_t i = low; i <= high; i++) {
        float *line = room->lines[i % 3];
        if (i == high) {
            memset(line, 0, (size_t)(nx + 2) * sizeof(float));
        } else {
            for (; next <= least(i + strip->radius, rows - 1); next++)
                if (add_row(strip, room, next, weighted) && !weighted)
                    return -1;
            finish_row(strip, room, i, weighted, line);
        }
        const ptrdiff_t row = strip->first + i - 1;
        if (i > low && strip->start <= row && row < strip->stop)
            n = row_peaks(
                room->lines[(i + 1) % 3], room->lines[(i + 2) % 3], line, nx, strip->threshold,
                row, position, significance, capacity, n);
    }
    return n;
}

CLONES
int strip_peaks(
    const Strip *strip, int32_t *position, float *significance, ptrdiff_t capacity,
    ptrdiff_t *number)
{
    Room room;
    float *memory = make_room(&room, strip);
    if (memory == NULL)
        return NO_MEMORY;
    *number = search(strip, &room, 0, position, significance, capacity);
    if (*number < 0) {
        for (int k = 0; k < 3; k++)
            memset(room.lines[k], 0, (size_t)(room.wide + 2) * sizeof(float));
        *number = search(strip, &room, 1, position, significance, capacity);
    }
    free(memory);
    return DONE;
}
