#include "strips.h"

#include <math.h>
#include <stdlib.h>

/* The last strip that begins at x or before; the first one if none does. */
static ptrdiff_t strip_of(const Strips *s, double x)
{
    ptrdiff_t first = 0, last = s->strips;
    while (last - first > 1) {
        const ptrdiff_t middle = (first + last) / 2;
        if (s->low[middle] <= x)
            first = middle;
        else
            last = middle;
    }
    return first;
}

/* The first point of a strip at y or above. */
static ptrdiff_t place_in(const Strips *s, ptrdiff_t strip, double y)
{
    ptrdiff_t first = s->starts[strip], last = s->starts[strip + 1];
    while (first < last) {
        const ptrdiff_t middle = (first + last) / 2;
        if (s->y[middle] < y)
            first = middle + 1;
        else
            last = middle;
    }
    return first;
}

/* The nearest points so far. */
typedef struct {
    ptrdiff_t k;
    int64_t *numbers;
    double *squares;
} Best;

INLINE void consider(const Best *best, double square, int64_t number)
{
    ptrdiff_t j = best->k - 1;
    if (square > best->squares[j] || (square == best->squares[j] && number > best->numbers[j]))
        return;
    for (; j > 0; j--) {
        const double before = best->squares[j - 1];
        if (before < square || (before == square && best->numbers[j - 1] < number))
            break;
        best->squares[j] = before;
        best->numbers[j] = best->numbers[j - 1];
    }
    best->squares[j] = square;
    best->numbers[j] = number;
}

static void nearest_in(const Strips *s, ptrdiff_t strip, double x, double y, const Best *best)
{
    const double *worst = best->squares + best->k - 1;
    const ptrdiff_t from = place_in(s, strip, y);
    for (ptrdiff_t i = from; i < s->starts[strip + 1]; i++) {
        const double dx = s->x[i] - x, dy = s->y[i] - y;
        if (dy * dy > *worst)
            break;
        consider(best, dx * dx + dy * dy, s->numbers[i]);
    }
    for (ptrdiff_t i = from - 1; i >= s->starts[strip]; i--) {
        const double dx = s->x[i] - x, dy = s->y[i] - y;
        if (dy * dy > *worst)
            break;
        consider(best, dx * dx + dy * dy, s->numbers[i]);
    }
}

void nearest_points(
    const Strips *s, const double *x, const double *y, ptrdiff_t places, ptrdiff_t k,
    int64_t *numbers, double *squares)
{
    for (ptrdiff_t p = 0; p < places; p++) {
        const Best best = {k, numbers + p * k, squares + p * k};
        for (ptrdiff_t j = 0; j < k; j++) {
            best.numbers[j] = s->size;
            best.squares[j] = INFINITY;
        }
        const double *worst = best.squares + k - 1;
        const ptrdiff_t own = strip_of(s, x[p]);
        nearest_in(s, own, x[p], y[p], &best);
        ptrdiff_t left = own - 1, right = own + 1;
        for (;;) {
            const double west = left >= 0 ? x[p] - s->high[left] : INFINITY;
            const double east = right < s->strips ? s->low[right] - x[p] : INFINITY;
            const double gap = west < east ? west : east;
            if (gap == INFINITY || gap * gap > *worst)
                break;
            nearest_in(s, west < east ? left-- : right++, x[p], y[p], &best);
        }
    }
}

/* Numbers of points, and for how many there is room. */
typedef struct {
    int64_t *numbers;
    ptrdiff_t count, room;
} List;

/* Add the points of a strip whose squares of distances are as given or less. */
static void add_strip(
    const Strips *s, ptrdiff_t strip, double x, double y, double most, List *list)
{
    const ptrdiff_t from = place_in(s, strip, y);
    for (int upwards = 0; upwards < 2; upwards++) {
        const ptrdiff_t step = upwards ? 1 : -1;
        const ptrdiff_t end = upwards ? s->starts[strip + 1] : s->starts[strip] - 1;
        for (ptrdiff_t i = upwards ? from : from - 1; i != end; i += step) {
            const double dx = s->x[i] - x, dy = s->y[i] - y;
            if (dy * dy > most)
                break;
            if (dx * dx + dy * dy <= most) {
                if (list->count < list->room)
                    list->numbers[list->count] = s->numbers[i];
                list->count++;
            }
        }
    }
}

static void add_near(const Strips *s, double x, double y, double reach, List *list)
{
    const double most = reach * reach;
    const ptrdiff_t own = strip_of(s, x);
    add_strip(s, own, x, y, most, list);
    for (ptrdiff_t k = own - 1; k >= 0; k--) {
        const double gap = x - s->high[k];
        if (gap * gap > most)
            break;
        add_strip(s, k, x, y, most, list);
    }
    for (ptrdiff_t k = own + 1; k < s->strips; k++) {
        const double gap = s->low[k] - x;
        if (gap * gap > most)
            break;
        add_strip(s, k, x, y, most, list);
    }
}

void count_points(
    const Strips *s, const double *x, const double *y, const double *reach, ptrdiff_t places,
    int64_t *counts)
{
    for (ptrdiff_t p = 0; p < places; p++) {
        List list = {NULL, 0, 0};
        add_near(s, x[p], y[p], reach[p], &list);
        counts[p] = list.count;
    }
}

static int compare(const void *one, const void *two)
{
    const int64_t a = *(const int64_t *)one, b = *(const int64_t *)two;
    return (a > b) - (a < b);
}

/* Few numbers are sorted by insertion, which needs no calls. */
static void sort_numbers(int64_t *numbers, ptrdiff_t size)
{
    if (size > 24) {
        qsort(numbers, (size_t)size, sizeof(int64_t), compare);
        return;
    }
    for (ptrdiff_t i = 1; i < size; i++) {
        const int64_t number = numbers[i];
        ptrdiff_t j = i;
        for (; j > 0 && numbers[j - 1] > number; j--)
            numbers[j] = numbers[j - 1];
        numbers[j] = number;
    }
}

int list_points(
    const Strips *s, const double *x, const double *y, const double *reach, ptrdiff_t places,
    const int64_t *pointer, int64_t *out, ptrdiff_t size)
{
    for (ptrdiff_t p = 0; p < places; p++) {
        if (pointer[p] < 0 || pointer[p + 1] < pointer[p] || pointer[p + 1] > size)
            return OUT_OF_BOUNDS;
        List list = {out + pointer[p], 0, (ptrdiff_t)(pointer[p + 1] - pointer[p])};
        add_near(s, x[p], y[p], reach[p], &list);
        if (list.count != list.room)
            return OUT_OF_BOUNDS;
        sort_numbers(list.numbers, list.count);
    }
    return DONE;
}
