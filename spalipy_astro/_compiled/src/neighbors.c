/* Stars that are near each other, and the pixels around them. */

#include "detection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Points sorted into the cells of a grid, whose rows follow each other. */
typedef struct {
    double left, low, side;
    ptrdiff_t columns, rows;
    ptrdiff_t *start;  /* (rows * columns + 1,): of the cells among the members */
    ptrdiff_t *member; /* (n,) */
    double *place;     /* (n, 2): positions of the members, which are read in this order */
} Grid;

INLINE ptrdiff_t cell_along(double place, double first, double side, ptrdiff_t number)
{
    const ptrdiff_t cell = (ptrdiff_t)((place - first) / side);
    return cell < number ? cell : number - 1;
}

INLINE ptrdiff_t cell_of(const Grid *grid, const double *point)
{
    return cell_along(point[1], grid->low, grid->side, grid->rows) * grid->columns
        + cell_along(point[0], grid->left, grid->side, grid->columns);
}

/* Make a grid whose cells are at least as wide as the reach, and not many more than points. */
static int make_grid(Grid *grid, const double *position, ptrdiff_t n, double reach)
{
    double least[2] = { INFINITY, INFINITY }, most[2] = { -INFINITY, -INFINITY };
    for (ptrdiff_t k = 0; k < 2 * n; k++) {
        if (!(position[k] - position[k] == 0))
            return OUT_OF_BOUNDS;
        least[k % 2] = fmin(least[k % 2], position[k]);
        most[k % 2] = fmax(most[k % 2], position[k]);
    }
    const double width = most[0] - least[0], height = most[1] - least[1];
    if (!(width + height < INFINITY))
        return OUT_OF_BOUNDS;
    /* a little more than the reach: divisions round */
    grid->side = fmax(1.000001 * reach, 1e-6);
    grid->side = fmax(grid->side, sqrt(width) * sqrt(height) / sqrt((double)n));
    grid->side = fmax(grid->side, fmax(width, height) / (double)n);
    grid->left = least[0];
    grid->low = least[1];
    grid->columns = (ptrdiff_t)(width / grid->side) + 1;
    grid->rows = (ptrdiff_t)(height / grid->side) + 1;
    const size_t cells = (size_t)(grid->rows * grid->columns);
    grid->place = malloc(2 * (size_t)n * sizeof(double));
    grid->start = calloc(cells + 1 + (size_t)n, sizeof(ptrdiff_t));
    if (grid->place == NULL || grid->start == NULL)
        return NO_MEMORY;
    grid->member = grid->start + cells + 1;
    for (ptrdiff_t k = 0; k < n; k++)
        grid->start[cell_of(grid, position + 2 * k)]++;
    ptrdiff_t total = 0;
    for (size_t c = 0; c <= cells; c++) {
        const ptrdiff_t number = grid->start[c];
        grid->start[c] = total += number;
    }
    /* each begins where it is filled up to, from its end */
    for (ptrdiff_t k = n - 1; k >= 0; k--) {
        const ptrdiff_t m = --grid->start[cell_of(grid, position + 2 * k)];
        grid->member[m] = k;
        memcpy(grid->place + 2 * m, position + 2 * k, 2 * sizeof(double));
    }
    return DONE;
}

/* List the neighbors of a member in their order, if there is a list, and return how many they are. */
INLINE ptrdiff_t visit(const Grid *grid, ptrdiff_t me, double reach2, int64_t *list)
{
    const double x = grid->place[2 * me], y = grid->place[2 * me + 1];
    const ptrdiff_t column = cell_along(x, grid->left, grid->side, grid->columns);
    const ptrdiff_t row = cell_along(y, grid->low, grid->side, grid->rows);
    const ptrdiff_t first = column > 0 ? column - 1 : 0;
    const ptrdiff_t last = column + 1 < grid->columns ? column + 1 : column;
    ptrdiff_t number = 0;
    for (ptrdiff_t r = row > 0 ? row - 1 : 0; r <= row + 1 && r < grid->rows; r++) {
        const ptrdiff_t *start = grid->start + r * grid->columns;
        for (ptrdiff_t m = start[first]; m < start[last + 1]; m++) {
            const double dx = grid->place[2 * m] - x, dy = grid->place[2 * m + 1] - y;
            if (m == me || !(dx * dx + dy * dy <= reach2))
                continue;
            if (list != NULL) {
                const ptrdiff_t other = grid->member[m];
                ptrdiff_t k = number;
                for (; k > 0 && list[k - 1] > other; k--)
                    list[k] = list[k - 1];
                list[k] = other;
            }
            number++;
        }
    }
    return number;
}

int find_neighbors(
    const double *position, ptrdiff_t n, double reach, int64_t *pointer, int64_t *index,
    ptrdiff_t capacity, ptrdiff_t *number)
{
    Grid grid = { .start = NULL, .place = NULL };
    pointer[0] = 0;
    *number = 0;
    if (n == 0)
        return DONE;
    const int status = make_grid(&grid, position, n, reach);
    if (status == DONE) {
        for (ptrdiff_t m = 0; m < n; m++)
            pointer[grid.member[m] + 1] = visit(&grid, m, reach * reach, NULL);
        for (ptrdiff_t k = 0; k < n; k++)
            pointer[k + 1] += pointer[k];
        *number = pointer[n];
    }
    if (status == DONE && *number <= capacity)
        for (ptrdiff_t m = 0; m < n; m++)
            visit(&grid, m, reach * reach, index + pointer[grid.member[m]]);
    free(grid.start);
    free(grid.place);
    return status;
}

void cut_squares(
    const char *image, const ptrdiff_t *shape, const ptrdiff_t *strides, ptrdiff_t item,
    const int64_t *x, const int64_t *y, ptrdiff_t n, ptrdiff_t radius, char *out)
{
    const ptrdiff_t size = 2 * radius + 1;
    for (ptrdiff_t k = 0; k < n; k++) {
        const ptrdiff_t left = (ptrdiff_t)x[k] - radius, top = (ptrdiff_t)y[k] - radius;
        const ptrdiff_t first = left > 0 ? 0 : -left, low = top > 0 ? 0 : -top;
        const ptrdiff_t last = left + size < shape[1] ? size : shape[1] - left;
        const ptrdiff_t high = top + size < shape[0] ? size : shape[0] - top;
        if (first >= last)
            continue;
        for (ptrdiff_t i = low; i < high; i++) {
            char *to = out + ((k * size + i) * size + first) * item;
            const char *from = image + (top + i) * strides[0] + (left + first) * strides[1];
            if (strides[1] == item)
                memcpy(to, from, (size_t)((last - first) * item));
            else
                for (ptrdiff_t j = 0; j < last - first; j++)
                    memcpy(to + j * item, from + j * strides[1], (size_t)item);
        }
    }
}

CLONES
void level_squares(
    float *squares, ptrdiff_t n, ptrdiff_t pixels, const float *level, float saturation,
    uint8_t *saturated)
{
    for (ptrdiff_t k = 0; k < n; k++) {
        float *RESTRICT values = squares + k * pixels;
        uint8_t *RESTRICT full = saturated + k * pixels;
        const float below = level[k];
        for (ptrdiff_t m = 0; m < pixels; m++) {
            const float value = values[m];
            const int good = value - value == 0, over = good & (value >= saturation);
            full[m] = (uint8_t)over;
            values[m] = good & !over ? value - below : NAN;
        }
    }
}
