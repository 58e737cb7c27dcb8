/* The search for peaks. */

#include "detection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pixels that are worked on at once: they fit the nearest cache. */
#define PIECE 512

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

INLINE void scale(const float *RESTRICT values, float weight, float *RESTRICT out, ptrdiff_t n)
{
    for (ptrdiff_t x = 0; x < n; x++)
        out[x] = weight * values[x];
}

INLINE void add_pair(
    const float *RESTRICT left, const float *RESTRICT right, float weight, float *RESTRICT out,
    ptrdiff_t n)
{
    for (ptrdiff_t x = 0; x < n; x++)
        out[x] += weight * (left[x] + right[x]);
}

INLINE void add_one(const float *RESTRICT values, float weight, float *RESTRICT out, ptrdiff_t n)
{
    for (ptrdiff_t x = 0; x < n; x++)
        out[x] += weight * values[x];
}

/* Convolve a row that has a margin on both sides. */
INLINE void smooth_row(
    const float *padded, const float *kernel, ptrdiff_t radius, float *out, ptrdiff_t nx)
{
    for (ptrdiff_t start = 0; start < nx; start += PIECE) {
        const ptrdiff_t n = least(PIECE, nx - start);
        const float *center = padded + start + radius;
        scale(center, kernel[radius], out + start, n);
        for (ptrdiff_t k = 1; k <= radius; k++)
            add_pair(center - k, center + k, kernel[radius + k], out + start, n);
    }
}

/* Convolve along columns for row ``i`` of some; beyond the ends there is nothing. */
INLINE void smooth_columns(
    const float *rows, ptrdiff_t n_rows, ptrdiff_t nx, const float *kernel, ptrdiff_t radius,
    ptrdiff_t i, float *out)
{
    for (ptrdiff_t start = 0; start < nx; start += PIECE) {
        const ptrdiff_t n = least(PIECE, nx - start);
        const float *center = rows + i * nx + start;
        scale(center, kernel[radius], out + start, n);
        for (ptrdiff_t k = 1; k <= radius; k++) {
            const float weight = kernel[radius + k];
            const int above = i >= k, below = i + k < n_rows;
            if (above && below)
                add_pair(center - k * nx, center + k * nx, weight, out + start, n);
            else if (above)
                add_one(center - k * nx, weight, out + start, n);
            else if (below)
                add_one(center + k * nx, weight, out + start, n);
        }
    }
}

/* Whether any of some values exceeds a limit. */
INLINE int any_above(const float *RESTRICT values, ptrdiff_t n, float limit)
{
    int32_t any = 0;
    for (ptrdiff_t x = 0; x < n; x++)
        any |= values[x] > limit;
    return any;
}

/* Append the local maxima of a row; the lines have a margin of one on both sides. */
INLINE ptrdiff_t row_peaks(
    const float *above, const float *here, const float *below, ptrdiff_t nx, float threshold,
    ptrdiff_t row, int32_t *position, float *significance, ptrdiff_t capacity, ptrdiff_t n)
{
    for (ptrdiff_t start = 1; start <= nx; start += 64) {
        const ptrdiff_t stop = least(start + 64, nx + 1);
        if (!any_above(here + start, stop - start, threshold))
            continue;
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
    }
    return n;
}

/* Memory of a strip. */
typedef struct {
    float *level_line, *noise_line;       /* (mx,) */
    float *padded, *ones;                 /* (nx + 2 radius,) */
    float *norm, *whole_row;              /* (nx,) */
    float *lines[3];                      /* (nx + 2,) */
    float *smooth, *weight;               /* (rows, nx) */
} Room;

static float *make_room(Room *room, const Strip *strip)
{
    const size_t nx = (size_t)strip->nx, mx = (size_t)strip->mx, rows = (size_t)strip->rows;
    const size_t padded = nx + 2 * (size_t)strip->radius;
    float *at = calloc(2 * mx + 2 * padded + 2 * nx + 3 * (nx + 2) + 2 * rows * nx, sizeof(float));
    if (at == NULL)
        return NULL;
    room->level_line = at;
    room->noise_line = room->level_line + mx;
    room->padded = room->noise_line + mx;
    room->ones = room->padded + padded;
    room->norm = room->ones + padded;
    room->whole_row = room->norm + nx;
    room->lines[0] = room->whole_row + nx;
    room->lines[1] = room->lines[0] + nx + 2;
    room->lines[2] = room->lines[1] + nx + 2;
    room->smooth = room->lines[2] + nx + 2;
    room->weight = room->smooth + rows * nx;
    return at;
}

/* Smooth all rows along x; whether any has bad pixels, which leave their weights. */
INLINE int smooth_rows(const Strip *strip, const Room *room)
{
    const ptrdiff_t nx = strip->nx, radius = strip->radius;
    float *inner = room->padded + radius;
    int any_bad = 0;
    for (ptrdiff_t i = 0; i < strip->rows; i++) {
        const ptrdiff_t row = strip->first + i;
        mesh_line(strip->level, strip->my, strip->mx, row, strip->cell_y, room->level_line);
        mesh_line(strip->noise, strip->my, strip->mx, row, strip->cell_y, room->noise_line);
        normalize(strip, strip->strip + i * nx, room->level_line, room->noise_line, inner);
        if (has_bad(inner, nx)) {
            if (!any_bad) {
                any_bad = 1;
                for (ptrdiff_t j = 0; j < strip->rows; j++)
                    memcpy(room->weight + j * nx, room->whole_row, (size_t)nx * sizeof(float));
            }
            for (ptrdiff_t x = 0; x < nx; x++) {
                const int good = inner[x] - inner[x] == 0;
                inner[x] = good ? inner[x] : 0.0f;
                room->ones[x + radius] = good ? 1.0f : 0.0f;
            }
            smooth_row(room->ones, strip->square, radius, room->weight + i * nx, nx);
        }
        smooth_row(room->padded, strip->kernel, radius, room->smooth + i * nx, nx);
    }
    return any_bad;
}

CLONES
int strip_peaks(
    const Strip *strip, int32_t *position, float *significance, ptrdiff_t capacity,
    ptrdiff_t *number)
{
    const ptrdiff_t nx = strip->nx, radius = strip->radius, rows = strip->rows;
    Room room;
    float *memory = make_room(&room, strip);
    if (memory == NULL)
        return NO_MEMORY;
    for (ptrdiff_t x = 0; x < nx; x++)
        room.ones[radius + x] = 1;
    smooth_row(room.ones, strip->square, radius, room.whole_row, nx);
    const int any_bad = smooth_rows(strip, &room);
    float whole = 0;
    for (ptrdiff_t k = 0; k < 2 * radius + 1; k++)
        whole += strip->square[k];
    whole *= whole;
    if (!any_bad)
        for (ptrdiff_t x = 0; x < nx; x++)
            room.norm[x] = 1 / sqrtf(room.whole_row[x]);
    const ptrdiff_t end = strip->first + rows;
    const ptrdiff_t low = (strip->start > strip->first ? strip->start - 1 : strip->first)
        - strip->first;
    const ptrdiff_t high = least(strip->stop + 1, end) - strip->first;
    ptrdiff_t n = 0;
    for (ptrdiff_t i = low; i <= high; i++) {
        float *line = room.lines[i % 3];
        float *RESTRICT inner = line + 1;
        if (i == high) {
            memset(line, 0, (size_t)(nx + 2) * sizeof(float));
        } else {
            smooth_columns(room.smooth, rows, nx, strip->kernel, radius, i, inner);
            if (any_bad) {
                float *RESTRICT w = room.whole_row;
                smooth_columns(room.weight, rows, nx, strip->square, radius, i, w);
                for (ptrdiff_t x = 0; x < nx; x++)
                    inner[x] = w[x] > 0.4f * whole ? inner[x] / sqrtf(w[x]) : 0.0f;
            } else {
                float inside = 0;
                for (ptrdiff_t k = radius < i ? -radius : -i; k <= least(radius, rows - 1 - i); k++)
                    inside += strip->square[radius + k];
                const float factor = 1 / sqrtf(inside);
                const float *RESTRICT norm = room.norm;
                for (ptrdiff_t x = 0; x < nx; x++)
                    inner[x] *= factor * norm[x];
            }
        }
        const ptrdiff_t row = strip->first + i - 1;
        if (i > low && strip->start <= row && row < strip->stop)
            n = row_peaks(
                room.lines[(i + 1) % 3], room.lines[(i + 2) % 3], line, nx, strip->threshold, row,
                position, significance, capacity, n);
    }
    free(memory);
    *number = n;
    return DONE;
}
