/* Star patterns of equal codes, and the stars that bear witness for what they propose. */

#include "matching.h"

#include <math.h>
#include <stdlib.h>

INLINE ptrdiff_t cell_along(double place, double first, double side, ptrdiff_t number)
{
    const double cell = floor((place - first) / side);
    if (!(cell > 0))
        return 0;
    return cell < (double)number ? (ptrdiff_t)cell : number - 1;
}

/* List the pairs; with a constant number of axes compilers unroll the sums. */
INLINE ptrdiff_t list_pairs(
    const Cells *cells, const double *codes, ptrdiff_t n, double radius, int64_t *row,
    int64_t *index, double *distance, ptrdiff_t room, ptrdiff_t axes)
{
    const double most = radius * radius;
    const double reach = radius * 1.000001; /* a little more: divisions round */
    const double side = cells->side;
    ptrdiff_t found = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double *code = codes + axes * i;
        const ptrdiff_t first = cell_along(code[0] - reach, cells->left, side, cells->columns);
        const ptrdiff_t last = cell_along(code[0] + reach, cells->left, side, cells->columns);
        const ptrdiff_t lower = cell_along(code[1] - reach, cells->low, side, cells->rows);
        const ptrdiff_t upper = cell_along(code[1] + reach, cells->low, side, cells->rows);
        /* in a plane the cells of a column follow each other */
        ptrdiff_t bottom = 0, top = 0, step = upper - lower + 1;
        if (axes > 2) {
            bottom = cell_along(code[2] - reach, cells->bottom, side, cells->layers);
            top = cell_along(code[2] + reach, cells->bottom, side, cells->layers);
            step = 1;
        }
        for (ptrdiff_t column = first; column <= last; column++)
            for (ptrdiff_t line = lower; line <= upper; line += step) {
                const int64_t *start
                    = cells->starts + (column * cells->rows + line) * cells->layers + bottom;
                const int64_t end = start[step + top - bottom];
                for (int64_t j = *start; j < end; j++) {
                    const double *point = cells->points + axes * j;
                    double square = 0;
                    for (ptrdiff_t axis = 0; axis < axes; axis++) {
                        const double apart = point[axis] - code[axis];
                        square += apart * apart;
                    }
                    if (!(square <= most))
                        continue;
                    if (found < room) {
                        row[found] = i;
                        index[found] = cells->numbers[j];
                        distance[found] = sqrt(square);
                    }
                    found++;
                }
            }
    }
    return found;
}

/*
 * List all pairs of a code and a point that are no farther apart than the radius. Returns how many
 * there are, also where there is room for fewer.
 */
CLONES ptrdiff_t equal_codes(
    const Cells *cells, const double *codes, ptrdiff_t n, double radius, int64_t *row,
    int64_t *index, double *distance, ptrdiff_t room)
{
    if (cells->axes == 2)
        return list_pairs(cells, codes, n, radius, row, index, distance, room, 2);
    if (cells->axes == 4)
        return list_pairs(cells, codes, n, radius, row, index, distance, room, 4);
    return list_pairs(cells, codes, n, radius, row, index, distance, room, cells->axes);
}

/* Compare the points of some cells of one column with the nearest one so far. */
INLINE void look_into(
    const Cells *cells, ptrdiff_t column, ptrdiff_t lower, ptrdiff_t upper, double x, double y,
    double *square, int64_t *nearest)
{
    const int64_t *start = cells->starts + column * cells->rows;
    for (int64_t j = start[lower]; j < start[upper + 1]; j++) {
        const double dx = cells->points[2 * j] - x, dy = cells->points[2 * j + 1] - y;
        const double apart = dx * dx + dy * dy;
        if (apart < *square || (apart == *square && cells->numbers[j] < *nearest)) {
            *square = apart;
            *nearest = cells->numbers[j];
        }
    }
}

/* Find the nearest point of a place, in rings of cells around it. */
INLINE int64_t nearest_to(const Cells *cells, double x, double y, double *square)
{
    const double side = cells->side;
    const ptrdiff_t column = cell_along(x, cells->left, side, cells->columns);
    const ptrdiff_t row = cell_along(y, cells->low, side, cells->rows);
    const ptrdiff_t rings = cells->columns > cells->rows ? cells->columns : cells->rows;
    const double in_x = x - cells->left - side * (double)column;
    const double in_y = y - cells->low - side * (double)row;
    const double margin = fmax(fmin(fmin(in_x, side - in_x), fmin(in_y, side - in_y)), 0);
    int64_t nearest = 0;
    *square = INFINITY;
    for (ptrdiff_t ring = 0; ring < rings; ring++) {
        const ptrdiff_t lower = row > ring ? row - ring : 0;
        const ptrdiff_t upper = row + ring < cells->rows ? row + ring : cells->rows - 1;
        for (ptrdiff_t c = column - ring; c <= column + ring; c++) {
            if (c < 0 || c >= cells->columns)
                continue;
            if (c == column - ring || c == column + ring) {
                look_into(cells, c, lower, upper, x, y, square, &nearest);
                continue;
            }
            if (row - ring >= 0)
                look_into(cells, c, row - ring, row - ring, x, y, square, &nearest);
            if (row + ring < cells->rows)
                look_into(cells, c, row + ring, row + ring, x, y, square, &nearest);
        }
        const double seen = 0.999999 * (margin + side * (double)ring);
        if (*square <= seen * seen)
            break;
    }
    return nearest;
}

/*
 * Score hypotheses by the stars around their patterns, as `log_ratios` and `hope_of` do. Products
 * are taken in place of sums of logarithms, of which there would be too many.
 */
int witness_scores(
    const Cells *cells, const Court *court, const double *similarity, const int64_t *witnesses,
    ptrdiff_t number, const int64_t *pattern, ptrdiff_t k, ptrdiff_t n, double *scores)
{
    const double pi = 3.14159265358979323846;
    const double *frame = court->frame;
    for (ptrdiff_t h = 0; h < n; h++, similarity += SIMILARITY, pattern += k) {
        const double re = similarity[0], im = similarity[1], sign = similarity[4];
        const double scale = sqrt(re * re + im * im), rms = similarity[5];
        double sums[MOST_SHARES] = { 0 }, products[MOST_SHARES];
        for (ptrdiff_t s = 0; s < court->n_shares; s++)
            products[s] = 1;
        for (ptrdiff_t w = 0; w < number; w++) {
            const int64_t star = *witnesses++;
            if (star < 0 || star >= court->n_source)
                return OUT_OF_BOUNDS;
            int own = 0;
            for (ptrdiff_t p = 0; p < k; p++)
                own |= pattern[p] == star;
            if (own)
                continue;
            const double *z = court->source + 2 * star;
            const double x = re * z[0] - im * sign * z[1] + similarity[2];
            const double y = re * sign * z[1] + im * z[0] + similarity[3];
            if (x < frame[0] || y < frame[1] || x > frame[2] || y > frame[3])
                continue;
            double square;
            const int64_t partner = nearest_to(cells, x, y, &square);
            const double err = scale * court->source_err[star], other = court->template_err[partner];
            const double dx = x - similarity[6], dy = y - similarity[7];
            const double away2 = dx * dx + dy * dy;
            const double widening = 1 + sqrt(away2) / similarity[8];
            const double bend = court->bending / scale * away2;
            const double variance = (err * err + other * other + rms * rms + 0.01)
                    * (widening * widening) + bend * bend;
            const double peak = 1 + 1 / (2 * pi * court->density[partner] * variance);
            const double match = exp(-0.5 * square / variance) * peak;
            for (ptrdiff_t s = 0; s < court->n_shares; s++) {
                products[s] *= court->shares[s] + (1 - court->shares[s]) * match;
                if (products[s] > 1e100 || products[s] < 1e-100) {
                    sums[s] += log(products[s]);
                    products[s] = 1;
                }
            }
        }
        double best = -INFINITY;
        for (ptrdiff_t s = 0; s < court->n_shares; s++) {
            sums[s] += log(products[s]);
            best = sums[s] > best ? sums[s] : best;
        }
        scores[h] = best;
    }
    return DONE;
}

/*
 * Count the points near the straight line through each two of them, first by first; -1 where these
 * are too close to each other to have a direction.
 */
CLONES void count_on_lines(
    const double *x, const double *y, ptrdiff_t n, double width, double shortest, int64_t *counts)
{
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = i + 1; j < n; j++) {
            const double dx = x[j] - x[i], dy = y[j] - y[i], size = sqrt(dx * dx + dy * dy);
            const double across = -dy / size, up = dx / size, start = across * x[i] + up * y[i];
            int64_t near = 0;
            for (ptrdiff_t k = 0; k < n; k++)
                near += fabs(across * x[k] + up * y[k] - start) < width;
            *counts++ = size > shortest ? near : -1;
        }
}

/* A pattern by its stars in rising order, two in one number: equal ones are one. */
typedef struct {
    uint64_t first, second;
} Key;

static const uint64_t FREE = UINT64_MAX;

/* Put a pattern into a table of a power of two of places; 0 where it is there already. */
INLINE int is_new(Key *table, size_t places, Key key)
{
    uint64_t mixed = (key.first * 0x9E3779B97F4A7C15u) ^ (key.second * 0xC2B2AE3D27D4EB4Fu);
    mixed ^= mixed >> 29;
    for (size_t place = (size_t)mixed & (places - 1);; place = (place + 1) & (places - 1)) {
        if (table[place].first == FREE) {
            table[place] = key;
            return 1;
        }
        if (table[place].first == key.first && table[place].second == key.second)
            return 0;
    }
}

/* Write k stars in rising order. */
INLINE void sort_stars(const int64_t *stars, ptrdiff_t k, int64_t *sorted)
{
    for (ptrdiff_t i = 0; i < k; i++) {
        ptrdiff_t place = i;
        for (; place > 0 && sorted[place - 1] > stars[i]; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = stars[i];
    }
}

/*
 * Combine each star, the first of its row, with any k - 1 of the neighbors that follow it, for k of
 * 3 or 4; a negative number ends a row. Lists the patterns once each, stars in rising order, and the
 * row that they are from; there must be room for all combinations. Returns how many there are, or
 * one of the reasons for none, less one.
 */
ptrdiff_t form_patterns(
    const int64_t *near, ptrdiff_t rows, ptrdiff_t wide, int64_t n, ptrdiff_t k, ptrdiff_t room,
    int64_t *stars, int64_t *row)
{
    size_t places = 16;
    while (places < 2 * (size_t)room)
        places *= 2;
    Key *table = malloc(places * sizeof(Key));
    if (!table)
        return -NO_MEMORY - 1;
    for (size_t place = 0; place < places; place++)
        table[place].first = FREE;
    ptrdiff_t found = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const int64_t *own = near + i * wide;
        ptrdiff_t end = 0;
        for (; end < wide && own[end] >= 0; end++)
            if (own[end] >= n) {
                free(table);
                return -OUT_OF_BOUNDS - 1;
            }
        for (ptrdiff_t one = 1; one < end; one++)
            for (ptrdiff_t two = one + 1; two < end; two++)
                for (ptrdiff_t three = k == 4 ? two + 1 : end - 1; three < end; three++) {
                    const int64_t some[4] = { own[0], own[one], own[two], own[three] };
                    int64_t sorted[4] = { 0 };
                    sort_stars(some, k, sorted);
                    const Key key = { (uint64_t)sorted[0] << 32 | (uint64_t)sorted[1],
                                      (uint64_t)sorted[2] << 32 | (uint64_t)sorted[3] };
                    if (!is_new(table, places, key))
                        continue;
                    if (found == room) {
                        free(table);
                        return -OUT_OF_BOUNDS - 1;
                    }
                    for (ptrdiff_t j = 0; j < k; j++)
                        stars[found * k + j] = sorted[j];
                    row[found++] = i;
                }
    }
    free(table);
    return found;
}

/* Order one pattern's stars as its code has them, and write the code and the size. */
INLINE void encode(
    const double *xy, int64_t *stars, ptrdiff_t k, double *code, double *size)
{
    ptrdiff_t a = 0, b = 1;
    double most = -1;
    for (ptrdiff_t i = 0; i < k; i++)
        for (ptrdiff_t j = i + 1; j < k; j++) {
            const double dx = xy[2 * stars[i]] - xy[2 * stars[j]];
            const double dy = xy[2 * stars[i] + 1] - xy[2 * stars[j] + 1];
            const double square = dx * dx + dy * dy;
            if (square > most) {
                most = square;
                a = i;
                b = j;
            }
        }
    int64_t ends[2] = { stars[a], stars[b] }, others[2] = { 0 };
    ptrdiff_t m = 0;
    for (ptrdiff_t i = 0; i < k; i++)
        if (i != a && i != b)
            others[m++] = stars[i];
    const double *start = xy + 2 * ends[0], *end = xy + 2 * ends[1];
    const double dx = end[0] - start[0], dy = end[1] - start[1];
    const double square = dx * dx + dy * dy;
    double re[2], im[2], along = 0;
    for (ptrdiff_t i = 0; i < m; i++) {
        const double x = xy[2 * others[i]] - start[0], y = xy[2 * others[i] + 1] - start[1];
        re[i] = square > 0 ? (x * dx + y * dy) / square : 0;
        im[i] = square > 0 ? (y * dx - x * dy) / square : 0;
        along += re[i];
    }
    if (along > 0.5 * (double)m) {
        for (ptrdiff_t i = 0; i < m; i++) {
            re[i] = 1 - re[i];
            im[i] = -im[i];
        }
        ends[0] = stars[b];
        ends[1] = stars[a];
    }
    const ptrdiff_t first = m == 2 && re[1] < re[0];
    stars[0] = ends[0];
    stars[1] = ends[1];
    for (ptrdiff_t i = 0; i < m; i++) {
        const ptrdiff_t from = i ^ first;
        stars[2 + i] = others[from];
        code[2 * i] = re[from];
        code[2 * i + 1] = im[from];
    }
    *size = sqrt(square);
}

/* Order the stars of patterns of 3 or 4 in place, and write their codes and sizes. */
int encode_patterns(
    const double *xy, ptrdiff_t n, int64_t *stars, ptrdiff_t number, ptrdiff_t k, double *codes,
    double *size)
{
    for (ptrdiff_t i = 0; i < number * k; i++)
        if (stars[i] < 0 || stars[i] >= n)
            return OUT_OF_BOUNDS;
    for (ptrdiff_t i = 0; i < number; i++)
        encode(xy, stars + i * k, k, codes + i * (2 * k - 4), size + i);
    return DONE;
}

/*
 * Fit a similarity, template = a * source + b of complex numbers, to each pair of patterns; of the
 * conjugate of the source where it is flipped. Writes a, b and how well they agree.
 */
int fit_similarities(
    const double *source, ptrdiff_t n_source, const double *template, ptrdiff_t n_template,
    const int64_t *p, const int64_t *q, const uint8_t *flip, ptrdiff_t number, ptrdiff_t k,
    double *a, double *b, double *rms)
{
    for (ptrdiff_t i = 0; i < number; i++, p += k, q += k, a += 2, b += 2) {
        const double sign = flip[i] ? -1 : 1;
        double x0 = 0, y0 = 0, u0 = 0, v0 = 0, re = 0, im = 0, total = 0, misfit = 0;
        for (ptrdiff_t j = 0; j < k; j++) {
            if (p[j] < 0 || p[j] >= n_source || q[j] < 0 || q[j] >= n_template)
                return OUT_OF_BOUNDS;
            x0 += source[2 * p[j]];
            y0 += source[2 * p[j] + 1] * sign;
            u0 += template[2 * q[j]];
            v0 += template[2 * q[j] + 1];
        }
        x0 /= (double)k;
        y0 /= (double)k;
        u0 /= (double)k;
        v0 /= (double)k;
        for (ptrdiff_t j = 0; j < k; j++) {
            const double x = source[2 * p[j]] - x0, y = source[2 * p[j] + 1] * sign - y0;
            const double u = template[2 * q[j]] - u0, v = template[2 * q[j] + 1] - v0;
            re += x * u + y * v;
            im += x * v - y * u;
            total += x * x + y * y;
        }
        a[0] = re / total;
        a[1] = im / total;
        b[0] = u0 - (a[0] * x0 - a[1] * y0);
        b[1] = v0 - (a[0] * y0 + a[1] * x0);
        for (ptrdiff_t j = 0; j < k; j++) {
            const double x = source[2 * p[j]] - x0, y = source[2 * p[j] + 1] * sign - y0;
            const double du = template[2 * q[j]] - u0 - (a[0] * x - a[1] * y);
            const double dv = template[2 * q[j] + 1] - v0 - (a[0] * y + a[1] * x);
            misfit += du * du + dv * dv;
        }
        rms[i] = sqrt(misfit / (double)k);
    }
    return DONE;
}
