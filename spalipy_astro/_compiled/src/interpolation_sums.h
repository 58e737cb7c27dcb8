/* Sums under a kernel of pixels of a type REAL, under names NAME(...); included once for each. */

/* The weights of some pixels, a vector for each: rows for x and y; and the sums. */
typedef struct {
    REAL x[PIECE * WIDEST], y[PIECE * WIDEST];
    REAL phase_x[PIECE], phase_y[PIECE];
    REAL sums[PIECE];
} NAME(Weights);

/* Weights of one axis: those of a row of the table, and as much of their change as the phase says. */
INLINE void NAME(find_weights)(
    const REAL *RESTRICT table, int32_t knot, REAL phase, int lanes, REAL *RESTRICT out)
{
    const REAL *RESTRICT low = table + (ptrdiff_t)knot * 2 * lanes;
    if (lanes == 8) {
        const NAME(eight) change = NAME(eight_scale)(phase, NAME(eight_load)(low + 8));
        NAME(eight_store)(out, NAME(eight_add)(NAME(eight_load)(low), change));
    } else if (lanes == 4) {
        const NAME(four) change = NAME(four_scale)(phase, NAME(four_load)(low + 4));
        NAME(four_store)(out, NAME(four_add)(NAME(four_load)(low), change));
    } else if (lanes == 2) {
        out[0] = low[0] + phase * low[2];
        out[1] = low[1] + phase * low[3];
    } else {
        out[0] = 1;
    }
}

/* Round numbers to the type. */
INLINE void NAME(round)(const double *RESTRICT from, ptrdiff_t number, REAL *RESTRICT to)
{
    for (ptrdiff_t j = 0; j < number; j++)
        to[j] = (REAL)from[j];
}

/*
 * Weights of some pixels. Those along x are left to the sums where these alone need them: a pass less
 * through memory.
 */
INLINE void NAME(find_all_weights)(
    const REAL *RESTRICT table, const Piece *piece, int lanes, int along_x, NAME(Weights) *weights)
{
    NAME(round)(piece->phase_x, piece->number, weights->phase_x);
    NAME(round)(piece->phase_y, piece->number, weights->phase_y);
    for (ptrdiff_t j = 0; j < piece->number; j++)
        NAME(find_weights)(
            table, piece->knot_y[j], weights->phase_y[j], lanes, weights->y + j * lanes);
    if (!along_x)
        return;
    for (ptrdiff_t j = 0; j < piece->number; j++)
        NAME(find_weights)(
            table, piece->knot_x[j], weights->phase_x[j], lanes, weights->x + j * lanes);
}

/* Sum of weight x pixel of one pixel, in lanes that are still to be added up: eight of them. */
INLINE NAME(eight) NAME(sum_eight)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, const REAL *RESTRICT weights_x,
    const REAL *RESTRICT weights_y)
{
    NAME(eight) total = NAME(eight_scale)(weights_y[0], NAME(eight_load)(pixels));
#define ADD_ROW(ROW) \
    total = NAME(eight_add)( \
        total, NAME(eight_scale)(weights_y[ROW], NAME(eight_load)(pixels + ROW * stride)));
    ADD_ROW(1)
    ADD_ROW(2)
    ADD_ROW(3)
    ADD_ROW(4)
    ADD_ROW(5)
#undef ADD_ROW
    return NAME(eight_multiply)(total, NAME(eight_load)(weights_x));
}

/* The same of four, to which eight are folded: half to half. */
INLINE NAME(four) NAME(sum_four)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, int lanes, const REAL *RESTRICT weights_x,
    const REAL *RESTRICT weights_y)
{
    if (lanes == 8) {
        const NAME(eight) sums = NAME(sum_eight)(pixels, stride, weights_x, weights_y);
        NAME(four) half[2];
        memcpy(half, &sums, sizeof(half));
        return NAME(four_add)(half[0], half[1]);
    }
    NAME(four) total = NAME(four_scale)(weights_y[0], NAME(four_load)(pixels));
#define ADD_ROW(ROW) \
    total = NAME(four_add)( \
        total, NAME(four_scale)(weights_y[ROW], NAME(four_load)(pixels + ROW * stride)));
    ADD_ROW(1)
    ADD_ROW(2)
    ADD_ROW(3)
#undef ADD_ROW
    return NAME(four_multiply)(total, NAME(four_load)(weights_x));
}

/* Sum of weight x pixel of one pixel. */
INLINE REAL NAME(sum_one)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, int lanes, const REAL *RESTRICT weights_x,
    const REAL *RESTRICT weights_y)
{
    if (lanes >= 4) {
        REAL sums[4];
        NAME(four_store)(sums, NAME(sum_four)(pixels, stride, lanes, weights_x, weights_y));
        return (sums[0] + sums[2]) + (sums[1] + sums[3]);
    }
    if (lanes == 1)
        return pixels[0];
    const REAL *RESTRICT next = pixels + stride;
    return (weights_y[0] * pixels[0] + weights_y[1] * next[0]) * weights_x[0]
        + (weights_y[0] * pixels[1] + weights_y[1] * next[1]) * weights_x[1];
}

/* Plain sums of some pixels; weights along x are made from a table if there is one. */
INLINE void NAME(sum_piece)(
    const Tile *tile, const Piece *piece, const REAL *RESTRICT pixels,
    const NAME(Weights) *weights, const REAL *RESTRICT table, int lanes, REAL *RESTRICT out)
{
    const ptrdiff_t stride = tile->width;
    REAL made[4 * WIDEST];
#define ALONG_X(J, K) \
    const REAL *weights_x_##K = weights->x + (J + K) * lanes; \
    if (table != NULL) { \
        NAME(find_weights)( \
            table, piece->knot_x[J + K], weights->phase_x[J + K], lanes, made + K * lanes); \
        weights_x_##K = made + K * lanes; \
    }
    ptrdiff_t j = 0;
    if (lanes >= 4)
        for (; j + 4 <= piece->number; j += 4) {
            ALONG_X(j, 0)
            ALONG_X(j, 1)
            ALONG_X(j, 2)
            ALONG_X(j, 3)
#define ONE(K) \
    NAME(sum_four)( \
        pixels + piece->start[j + K], stride, lanes, weights_x_##K, weights->y + (j + K) * lanes)
            NAME(four_store)(out + j, NAME(four_sums)(ONE(0), ONE(1), ONE(2), ONE(3)));
#undef ONE
        }
    for (; j < piece->number; j++) {
        ALONG_X(j, 0)
        out[j] = NAME(sum_one)(
            pixels + piece->start[j], stride, lanes, weights_x_0, weights->y + j * lanes);
    }
#undef ALONG_X
}

/* Whether all numbers are finite. */
INLINE int NAME(all_finite)(const REAL *RESTRICT values, ptrdiff_t number)
{
    INTEGER any = 0;
    for (ptrdiff_t j = 0; j < number; j++)
        any |= !(values[j] - values[j] == 0);
    return !any;
}

INLINE void NAME(widen)(const REAL *RESTRICT from, ptrdiff_t number, double *RESTRICT to)
{
    for (ptrdiff_t j = 0; j < number; j++)
        to[j] = from[j];
}

/* Square weights, for variances. */
INLINE void NAME(square_single)(const REAL *RESTRICT weights, ptrdiff_t number, float *RESTRICT out)
{
    for (ptrdiff_t k = 0; k < number; k++)
        out[k] = (float)(weights[k] * weights[k]);
}

INLINE void NAME(square_wide)(const REAL *RESTRICT weights, ptrdiff_t number, double *RESTRICT out)
{
    for (ptrdiff_t k = 0; k < number; k++)
        out[k] = weights[k] * weights[k];
}
