/* The loops for pixels of a type REAL, under names NAME(...); included once for each. */

/* Sum the weights on good pixels, and one less the absolute weight on bad ones.
 *
 * The first is never smaller than the second. What lies outside of the frame counts for the first
 * only: edges are as good as the pixels within. */
#define GOOD_WEIGHT(NUMBER, WEIGHT) \
    double missing = 0, outside = 0, bad = 0; \
    for (ptrdiff_t row = 0; row < rows; row++) { \
        const REAL *RESTRICT line = pixels + row * stride; \
        int any = 0; \
        for (ptrdiff_t column = 0; column < columns; column++) \
            any |= !(line[column] - line[column] == 0); \
        if (!any) \
            continue; \
        for (ptrdiff_t column = 0; column < columns; column++) { \
            if (finite((double)line[column])) \
                continue; \
            const NUMBER weight = WEIGHT; \
            missing += weight; \
            const ptrdiff_t x = left + column, y = top + row; \
            if (x >= 0 && x < width && y >= 0 && y < height) \
                bad += fabs((double)weight); \
            else \
                outside += weight; \
        } \
    } \
    *share = 1 - bad / (1 - outside); \
    return 1 - missing

INLINE double NAME(good_kernel)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, const double *RESTRICT weights_x,
    const double *RESTRICT weights_y, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t left,
    ptrdiff_t top, double width, double height, double *share)
{
    GOOD_WEIGHT(double, weights_y[row] * weights_x[column]);
}

INLINE double NAME(good_average)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, const REAL *RESTRICT weights, ptrdiff_t rows,
    ptrdiff_t columns, ptrdiff_t left, ptrdiff_t top, double width, double height, double *share)
{
    GOOD_WEIGHT(REAL, weights[row * columns + column]);
}
#undef GOOD_WEIGHT

/* Write some pixels of a tile, scaled by area, filled where too little weight is good. */
INLINE void NAME(store)(
    const Tile *tile, ptrdiff_t plane, ptrdiff_t row, ptrdiff_t first, ptrdiff_t number,
    const double *RESTRICT values, double *RESTRICT shares, double *RESTRICT spreads,
    const double *RESTRICT factor, REAL *RESTRICT out)
{
    const ptrdiff_t at
        = (plane * tile->out_height + tile->row + row) * tile->out_width + tile->column + first;
    const double least = tile->least, fill = tile->fill;
    REAL *RESTRICT line = out + at;
    for (ptrdiff_t j = 0; j < number; j++)
        /* a factor that is NaN: at the edge of what the map is defined for */
        shares[j] = factor[j] == factor[j] ? shares[j] : -INFINITY;
    for (ptrdiff_t j = 0; j < number; j++) {
        const double value = values[j] * factor[j];
        line[j] = (REAL)(shares[j] >= least ? value : fill);
    }
    if (has_spread(tile)) {
        for (ptrdiff_t j = 0; j < number; j++) {
            const double value = spreads[j] * (factor[j] * factor[j]);
            spreads[j] = shares[j] >= least ? value : NAN;
        }
        store_spread(tile, at, number, spreads);
    }
    if (tile->bad != NULL) {
        unsigned char *RESTRICT bad = tile->bad + at;
        for (ptrdiff_t j = 0; j < number; j++)
            bad[j] = !(shares[j] >= least);
    }
    if (tile->footprint != NULL) {
        float *RESTRICT footprint = tile->footprint + at;
        for (ptrdiff_t j = 0; j < number; j++)
            footprint[j] = (float)(shares[j] > 0 ? shares[j] : 0);
    }
}

/* The same where all weight is on good pixels. */
INLINE void NAME(store_good)(
    const Tile *tile, ptrdiff_t plane, Piece *piece, const REAL *RESTRICT sums, REAL *RESTRICT out)
{
    const ptrdiff_t n = piece->number, first = tile->column + piece->first;
    const ptrdiff_t at
        = (plane * tile->out_height + tile->row + piece->row) * tile->out_width + first;
    const double *RESTRICT factor = piece->factor;
    REAL *RESTRICT line = out + at;
    for (ptrdiff_t j = 0; j < n; j++) {
        const double value = sums[j] * factor[j];
        line[j] = (REAL)value;
    }
    if (has_spread(tile)) {
        for (ptrdiff_t j = 0; j < n; j++)
            piece->spreads[j] *= factor[j] * factor[j];
        store_spread(tile, at, n, piece->spreads);
    }
    if (tile->bad != NULL)
        memset(tile->bad + at, 0, (size_t)n);
    if (tile->footprint != NULL)
        for (ptrdiff_t j = 0; j < n; j++)
            tile->footprint[at + j] = 1;
}

/* Renormalize the sums that are not finite. */
INLINE void NAME(repair)(
    const Tile *tile, Piece *piece, const REAL *RESTRICT pixels, const REAL *RESTRICT table,
    const double *RESTRICT table64, const NAME(Weights) *weights, int taps, int lanes)
{
    for (ptrdiff_t j = 0; j < piece->number; j++) {
        if (finite(piece->values[j]))
            continue;
        if (!piece->all_inside && piece->inside[j] == 0) {
            piece->shares[j] = -INFINITY;
            continue;
        }
        const REAL *RESTRICT first = pixels + piece->start[j];
        double wide_x[WIDEST], wide_y[WIDEST];
        find_weights_double(table64, piece->knot_x[j], piece->phase_x[j], lanes, wide_x);
        find_weights_double(table64, piece->knot_y[j], piece->phase_y[j], lanes, wide_y);
        const double good = NAME(good_kernel)(
            first, tile->width, wide_x, wide_y, taps, taps, piece->left[j], piece->top[j],
            tile->frame_width, tile->frame_height, &piece->shares[j]);
        REAL clean[WIDEST * WIDEST], weights_x[WIDEST];
        NAME(find_weights)(table, piece->knot_x[j], weights->phase_x[j], lanes, weights_x);
        for (int row = 0; row < taps; row++) {
            const REAL *RESTRICT line = first + row * tile->width;
            /* the spare lanes, too, whose weights are zero: they must be finite */
            for (int l = 0; l < lanes; l++)
                clean[row * lanes + l] = line[l] - line[l] == 0 ? line[l] : 0;
        }
        const REAL sum
            = NAME(sum_one)(clean, lanes, lanes, weights_x, weights->y + j * lanes);
        piece->values[j] = sum / good;
        if (has_variance(tile))
            piece->spreads[j] /= good * good;
    }
}

/* Interpolate some pixels of one plane, of which the areas are defined or not. */
INLINE void NAME(interpolate_piece)(
    const Tile *tile, Piece *piece, const REAL *pixels, ptrdiff_t plane, NAME(Weights) *weights,
    Squares *squares, const REAL *table, const double *table64, int defined, REAL *out, int taps,
    int lanes)
{
    if (has_variance(tile)) {
        NAME(sum_piece)(tile, piece, pixels, weights, NULL, lanes, weights->sums);
        sum_variances(tile, piece, plane, squares, lanes);
    } else {
        NAME(sum_piece)(tile, piece, pixels, weights, table, lanes, weights->sums);
    }
    const int good = piece->all_inside & NAME(all_finite)(weights->sums, piece->number);
    if (good & defined & (tile->least <= 1)) {
        NAME(store_good)(tile, plane, piece, weights->sums, out);
        return;
    }
    NAME(widen)(weights->sums, piece->number, piece->values);
    set_shares(piece);
    if (!good)
        NAME(repair)(tile, piece, pixels, table, table64, weights, taps, lanes);
    NAME(store)(
        tile, plane, piece->row, piece->first, piece->number, piece->values, piece->shares,
        piece->spreads, piece->factor, out);
}

INLINE int NAME(interpolate)(
    const Tile *tile, Kernel kernel, Rows *rows, const REAL *block, const REAL *table,
    const double *table64, REAL *out, int taps, int lanes)
{
    Piece piece;
    NAME(Weights) weights;
    Squares squares;
    for (ptrdiff_t first = 0; first < tile->columns; first += AT_ONCE) {
        const ptrdiff_t left = tile->columns - first, columns = left < AT_ONCE ? left : AT_ONCE;
        move_rows(tile, rows, first, columns);
        for (ptrdiff_t i = 0; i < tile->rows; i++) {
            next_rows(tile, rows, i);
            for (ptrdiff_t j = 0; j < columns; j += PIECE) {
                const ptrdiff_t n = columns - j < PIECE ? columns - j : PIECE;
                piece.row = i;
                piece.first = first + j;
                piece.number = n;
                if (plan(tile, kernel, &piece, rows->x[1] + j + 1, rows->y[1] + j + 1) != DONE)
                    return OUT_OF_BOUNDS;
                const int defined = measure(tile, rows, j, n, piece.factor);
                NAME(find_all_weights)(table, &piece, lanes, has_variance(tile), &weights);
                if (tile->single != NULL) {
                    NAME(square_single)(weights.x, n * lanes, squares.single.x);
                    NAME(square_single)(weights.y, n * lanes, squares.single.y);
                } else if (tile->wide != NULL) {
                    NAME(square_wide)(weights.x, n * lanes, squares.wide.x);
                    NAME(square_wide)(weights.y, n * lanes, squares.wide.y);
                }
                for (ptrdiff_t p = 0; p < tile->planes; p++)
                    NAME(interpolate_piece)(
                        tile, &piece, block + p * tile->size, p, &weights, &squares, table,
                        table64, defined, out, taps, lanes);
            }
        }
    }
    return DONE;
}

MORE_CLONES
int NAME(interpolate_rows)(
    const Tile *tile, Kernel kernel, Rows *rows, const REAL *block, const REAL *table,
    const double *table64, REAL *out)
{
    if (kernel.taps == 6)
        return NAME(interpolate)(tile, kernel, rows, block, table, table64, out, 6, 8);
    if (kernel.taps == 4)
        return NAME(interpolate)(tile, kernel, rows, block, table, table64, out, 4, 4);
    if (kernel.taps == 2)
        return NAME(interpolate)(tile, kernel, rows, block, table, table64, out, 2, 2);
    return NAME(interpolate)(tile, kernel, rows, block, table, table64, out, 1, 1);
}

int NAME(interpolate_tile)(
    const Tile *tile, Kernel kernel, const REAL *block, const REAL *table, const double *table64,
    REAL *out)
{
    Rows rows;
    if (tile->grid == NULL)
        return NAME(interpolate_rows)(tile, kernel, &rows, block, table, table64, out);
    if (!grid_is_valid(tile->grid, tile->row, tile->column, tile->rows + 2, tile->columns + 2))
        return OUT_OF_BOUNDS;
    if (open_strip(&rows.strip, tile->grid) != DONE)
        return NO_MEMORY;
    const int status = NAME(interpolate_rows)(tile, kernel, &rows, block, table, table64, out);
    close_strip(&rows.strip);
    return status;
}

/* Average one row of output pixels, of which ``fine`` begins with the first step. */
INLINE void NAME(average_row)(
    const Average *average, ptrdiff_t columns, const REAL *RESTRICT fine, double *RESTRICT line,
    double *RESTRICT values)
{
    memset(line, 0, (size_t)average->fine_columns * sizeof(double));
    for (ptrdiff_t k = 0; k < average->number_y; k++) {
        const REAL *RESTRICT row = fine + k * average->fine_columns;
        const double factor = average->factors_y[k];
        for (ptrdiff_t column = 0; column < average->fine_columns; column++)
            line[column] += factor * row[column];
    }
    for (ptrdiff_t j = 0; j < columns; j++) {
        double total = 0;
        for (ptrdiff_t k = 0; k < average->number_x; k++)
            total += average->factors_x[k] * line[j * average->steps_x + k];
        values[j] = total;
    }
}

/* Add the weights of a kernel, times a factor. */
INLINE void NAME(add_weights)(
    REAL *RESTRICT to, ptrdiff_t stride, int taps, int lanes, const REAL *RESTRICT weights_x,
    const REAL *RESTRICT weights_y, REAL factor)
{
    for (int row = 0; row < taps; row++) {
        REAL *RESTRICT line = to + row * stride;
        if (lanes == 8) {
            const NAME(eight) scaled = NAME(eight_scale)(factor, NAME(eight_load)(weights_x));
            const NAME(eight) term = NAME(eight_scale)(weights_y[row], scaled);
            NAME(eight_store)(line, NAME(eight_add)(NAME(eight_load)(line), term));
        } else if (lanes == 4) {
            const NAME(four) scaled = NAME(four_scale)(factor, NAME(four_load)(weights_x));
            const NAME(four) term = NAME(four_scale)(weights_y[row], scaled);
            NAME(four_store)(line, NAME(four_add)(NAME(four_load)(line), term));
        } else {
            for (int l = 0; l < lanes; l++)
                line[l] += weights_y[row] * (weights_x[l] * factor);
        }
    }
}

/* Find the weights of source pixels in the average over one output pixel. */
INLINE void NAME(pixel_weights)(
    const Average *average, const Footprint *print, double u, double v, int taps, int lanes,
    ptrdiff_t steps, const REAL *RESTRICT table, REAL *RESTRICT weights)
{
    const ptrdiff_t ends_x = average->number_x / 2, ends_y = average->number_y / 2;
    const double shift = 1 - taps / 2.0;
    memset(weights, 0, (size_t)(print->rows * print->columns) * sizeof(REAL));
    for (ptrdiff_t k = 0; k < average->number_y; k++) {
        for (ptrdiff_t m = 0; m < average->number_x; m++) {
            const REAL factor = (REAL)(average->factors_x[m] * average->factors_y[k]);
            if (factor == 0)
                continue;
            const double right = (double)(m - ends_x), up = (double)(k - ends_y);
            double s = u + shift + right * print->a + up * print->b - (double)print->left;
            double t = v + shift + right * print->c + up * print->d - (double)print->top;
            s = s > 0 ? s : 0;
            t = t > 0 ? t : 0;
            const ptrdiff_t column = (ptrdiff_t)s, row = (ptrdiff_t)t;
            s = (s - (double)column) * (double)steps;
            t = (t - (double)row) * (double)steps;
            const int32_t knot_x = (int32_t)s, knot_y = (int32_t)t;
            REAL *at = weights + row * print->columns + column;
            const REAL phase_x = (REAL)(s - knot_x), phase_y = (REAL)(t - knot_y);
            REAL weights_x[WIDEST], weights_y[WIDEST];
            NAME(find_weights)(table, knot_x, phase_x, lanes, weights_x);
            NAME(find_weights)(table, knot_y, phase_y, lanes, weights_y);
            NAME(add_weights)(at, print->columns, taps, lanes, weights_x, weights_y, factor);
        }
    }
}

/* Sum of weight x pixel over the good pixels. */
INLINE double NAME(good_sum)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, const REAL *RESTRICT weights, ptrdiff_t rows,
    ptrdiff_t columns)
{
    double total = 0;
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t column = 0; column < columns; column++) {
            const REAL value = pixels[row * stride + column];
            if (finite((double)value))
                total += weights[row * columns + column] * value;
        }
    return total;
}

/* Sum of squared weight x variance, one for each column first: these vectorize. */
INLINE double NAME(squared_sum)(
    const double *RESTRICT variances, ptrdiff_t stride, const REAL *RESTRICT weights,
    ptrdiff_t rows, ptrdiff_t columns, double *RESTRICT sums)
{
    for (ptrdiff_t column = 0; column < columns; column++)
        sums[column] = 0;
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t column = 0; column < columns; column++) {
            const REAL weight = weights[row * columns + column];
            sums[column] += weight * weight * variances[row * stride + column];
        }
    double total = 0;
    for (ptrdiff_t column = 0; column < columns; column++)
        total += sums[column];
    return total;
}

/* Average one pixel by the weights of source pixels: its values where NaN, and its variances. */
INLINE int NAME(average_pixel)(
    const Tile *tile, const Average *average, const REAL *block, const REAL *table,
    AverageRoom *room, REAL *weights, ptrdiff_t j, double u, double v, const Footprint *print,
    int taps, int lanes, ptrdiff_t steps)
{
    if (!window_holds(tile, print) || print->columns > room->most_columns
        || print->rows > room->most_columns)
        return OUT_OF_BOUNDS;
    NAME(pixel_weights)(average, print, u, v, taps, lanes, steps, table, weights);
    const ptrdiff_t start = (print->top - tile->top) * tile->width + print->left - tile->left;
    for (ptrdiff_t p = 0; p < tile->planes; p++) {
        const REAL *pixels = block + p * tile->size + start;
        const ptrdiff_t at = p * tile->columns + j;
        double good = 1.0;
        if (isnan(room->values[at])) {
            good = NAME(good_average)(
                pixels, tile->width, weights, print->rows, print->columns, print->left, print->top,
                tile->frame_width, tile->frame_height, &room->shares[at]);
            room->values[at]
                = NAME(good_sum)(pixels, tile->width, weights, print->rows, print->columns) / good;
        }
        if (tile->wide != NULL)
            room->spreads[at] = NAME(squared_sum)(
                                    tile->wide + p * tile->size + start, tile->width, weights,
                                    print->rows, print->columns, room->sums)
                / (good * good);
    }
    return DONE;
}

INLINE int NAME(average)(
    const Tile *tile, Kernel kernel, const Average *average, const REAL *block, const REAL *table,
    const REAL *fine, REAL *out, AverageRoom *room, REAL *weights, int taps, int lanes)
{
    const ptrdiff_t stride = tile->columns + 2, columns = tile->columns;
    Rows rows;
    move_rows(tile, &rows, 0, columns);
    for (ptrdiff_t i = 0; i < tile->rows; i++) {
        next_rows(tile, &rows, i);
        measure(tile, &rows, 0, columns, room->factor);
        for (ptrdiff_t p = 0; p < tile->planes; p++)
            NAME(average_row)(
                average, columns,
                fine + (p * average->fine_rows + i * average->steps_y) * average->fine_columns,
                room->line, room->values + p * columns);
        for (ptrdiff_t j = 0; j < columns; j++) {
            const double *x = tile->x + i * stride + j, *y = tile->y + i * stride + j;
            const double u = x[stride + 1], v = y[stride + 1];
            const int on = u >= -0.5 && u < tile->frame_width - 0.5 && v >= -0.5
                && v < tile->frame_height - 0.5;
            double total = 0;
            for (ptrdiff_t p = 0; p < tile->planes; p++) {
                room->shares[p * columns + j] = on ? 1.0 : -INFINITY;
                total += room->values[p * columns + j];
            }
            if (!on || !(tile->wide != NULL || isnan(total)))
                continue;
            Footprint print;
            if (!find_footprint(&print, average, x, y, stride, taps, lanes)) {
                for (ptrdiff_t p = 0; p < tile->planes; p++)
                    room->shares[p * columns + j] = -INFINITY;
                continue;
            }
            if (NAME(average_pixel)(
                    tile, average, block, table, room, weights, j, u, v, &print, taps, lanes,
                    kernel.steps)
                != DONE)
                return OUT_OF_BOUNDS;
        }
        for (ptrdiff_t p = 0; p < tile->planes; p++)
            NAME(store)(
                tile, p, i, 0, columns, room->values + p * columns, room->shares + p * columns,
                room->spreads + p * columns, room->factor, out);
    }
    return DONE;
}

CLONES
int NAME(average_tile)(
    const Tile *tile, Kernel kernel, const Average *average, const REAL *block, const REAL *table,
    const REAL *fine, REAL *out)
{
    AverageRoom room = { 0 };
    /* weights of one pixel, whose steps are 1.5 source pixels at the most */
    const ptrdiff_t side
        = 3 * (average->number_x / 2 + average->number_y / 2) + kernel.lanes + 3;
    REAL *weights = malloc((size_t)(side * side) * sizeof(REAL));
    int status = NO_MEMORY;
    if (weights != NULL && make_average_room(&room, tile, average, side) == DONE) {
        if (kernel.taps == 6)
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &room, weights, 6, 8);
        else if (kernel.taps == 4)
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &room, weights, 4, 4);
        else if (kernel.taps == 2)
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &room, weights, 2, 2);
        else
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &room, weights, 1, 1);
    }
    free(weights);
    free(room.line);
    return status;
}

INLINE void NAME(accept_all)(
    int kind, double unit, ptrdiff_t number, REAL *RESTRICT block, double *RESTRICT spread)
{
    const double factor = 1 / unit;
    for (ptrdiff_t j = 0; j < number; j++) {
        const double variance = to_variance(kind, spread[j]);
        const int usable = (variance >= 0) & finite(variance) & (block[j] - block[j] == 0);
        block[j] = usable ? block[j] : (REAL)NAN;
        spread[j] = usable ? variance * factor : 0;
    }
}

CLONES
void NAME(accept)(int kind, double unit, ptrdiff_t number, REAL *block, double *spread)
{
    if (kind == STANDARD_DEVIATION)
        NAME(accept_all)(STANDARD_DEVIATION, unit, number, block, spread);
    else if (kind == INVERSE_VARIANCE)
        NAME(accept_all)(INVERSE_VARIANCE, unit, number, block, spread);
    else
        NAME(accept_all)(VARIANCE, unit, number, block, spread);
}
