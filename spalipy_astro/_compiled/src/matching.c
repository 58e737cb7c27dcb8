/* Star patterns of equal codes, and the stars that bear witness for what they propose. */

#include "matching.h"

#include <math.h>

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
        for (ptrdiff_t column = first; column <= last; column++) {
            const int64_t *start = cells->starts + column * cells->rows;
            for (int64_t j = start[lower]; j < start[upper + 1]; j++) {
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
