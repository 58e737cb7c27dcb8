/* Sums under a kernel of pixels of a type REAL, under names NAME(...); included once for each. */

/* The weights of some pixels, a vector for each: rows for x and y; and sums before they are added. */
typedef struct {
    REAL x[PIECE * WIDEST], y[PIECE * WIDEST];
    REAL lanes[PIECE * WIDEST];
} NAME(Weights);

/* Weights of one axis: between two rows of the table. */
INLINE void NAME(find_weights)(
    const REAL *RESTRICT table, const int32_t *RESTRICT knot, const double *RESTRICT phase,
    ptrdiff_t number, int lanes, REAL *RESTRICT out)
{
    for (ptrdiff_t j = 0; j < number; j++) {
        const REAL *RESTRICT low = table + (ptrdiff_t)knot[j] * lanes;
        const REAL part = (REAL)phase[j];
        if (lanes == 8) {
            const NAME(eight) from = NAME(eight_load)(low), to = NAME(eight_load)(low + 8);
            const NAME(eight) step = NAME(eight_scale)(part, NAME(eight_subtract)(to, from));
            NAME(eight_store)(out + 8 * j, NAME(eight_add)(from, step));
        } else if (lanes == 4) {
            const NAME(four) from = NAME(four_load)(low), to = NAME(four_load)(low + 4);
            const NAME(four) step = NAME(four_scale)(part, NAME(four_subtract)(to, from));
            NAME(four_store)(out + 4 * j, NAME(four_add)(from, step));
        } else if (lanes == 2) {
            out[2 * j] = low[0] + part * (low[2] - low[0]);
            out[2 * j + 1] = low[1] + part * (low[3] - low[1]);
        } else {
            out[j] = 1;
        }
    }
}

/* Sum of weight x pixel of one pixel, in lanes that are still to be added up. */
INLINE void NAME(sum_lanes)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, int lanes, const REAL *RESTRICT weights_x,
    const REAL *RESTRICT weights_y, REAL *RESTRICT out)
{
    if (lanes == 8) {
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
        NAME(eight_store)(out, NAME(eight_multiply)(total, NAME(eight_load)(weights_x)));
    } else if (lanes == 4) {
        NAME(four) total = NAME(four_scale)(weights_y[0], NAME(four_load)(pixels));
#define ADD_ROW(ROW) \
    total = NAME(four_add)( \
        total, NAME(four_scale)(weights_y[ROW], NAME(four_load)(pixels + ROW * stride)));
        ADD_ROW(1)
        ADD_ROW(2)
        ADD_ROW(3)
#undef ADD_ROW
        NAME(four_store)(out, NAME(four_multiply)(total, NAME(four_load)(weights_x)));
    } else if (lanes == 2) {
        const REAL *RESTRICT next = pixels + stride;
        out[0] = (weights_y[0] * pixels[0] + weights_y[1] * next[0]) * weights_x[0];
        out[1] = (weights_y[0] * pixels[1] + weights_y[1] * next[1]) * weights_x[1];
    } else {
        out[0] = pixels[0];
    }
}

/* Add up the lanes, half to half. */
INLINE REAL NAME(add_up)(const REAL *RESTRICT sums, int lanes)
{
    if (lanes == 8)
        return ((sums[0] + sums[4]) + (sums[2] + sums[6]))
            + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    if (lanes == 4)
        return (sums[0] + sums[2]) + (sums[1] + sums[3]);
    if (lanes == 2)
        return sums[0] + sums[1];
    return sums[0];
}

/* Plain sums of some pixels. */
INLINE void NAME(sum_piece)(
    const Tile *tile, const Piece *piece, const REAL *RESTRICT pixels, NAME(Weights) *weights,
    int lanes, double *RESTRICT out)
{
    for (ptrdiff_t j = 0; j < piece->number; j++)
        NAME(sum_lanes)(
            pixels + piece->start[j], tile->width, lanes, weights->x + j * lanes,
            weights->y + j * lanes, weights->lanes + j * lanes);
    for (ptrdiff_t j = 0; j < piece->number; j++)
        out[j] = NAME(add_up)(weights->lanes + j * lanes, lanes);
}

INLINE void NAME(square)(REAL *RESTRICT weights, ptrdiff_t number)
{
    for (ptrdiff_t k = 0; k < number; k++)
        weights[k] *= weights[k];
}
