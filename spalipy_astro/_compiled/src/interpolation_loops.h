/* The loops for pixels of a type REAL, under names NAME(...); included once for each. */

/* Weights of one axis: between two rows of the table. */
INLINE void NAME(weights)(
    const REAL *RESTRICT table, int32_t knot, REAL phase, int lanes, REAL *RESTRICT out)
{
    const REAL *RESTRICT low = table + (ptrdiff_t)knot * lanes;
    for (int l = 0; l < lanes; l++)
        out[l] = low[l] + phase * (low[lanes + l] - low[l]);
}

/* Sum the lanes of a vector, half to half. */
INLINE REAL NAME(reduce)(REAL *RESTRICT total, int lanes)
{
    for (int half = lanes / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            total[l] += total[l + half];
    return total[0];
}

/* Sum of weight x pixel; with ``clean`` over the good pixels alone. */
INLINE REAL NAME(sum)(
    const REAL *RESTRICT pixels, ptrdiff_t stride, int taps, int lanes,
    const REAL *RESTRICT weights_x, const REAL *RESTRICT weights_y, int clean)
{
    REAL total[MOST_LANES];
    for (int row = 0; row < taps; row++) {
        const REAL *RESTRICT line = pixels + row * stride;
        for (int l = 0; l < lanes; l++) {
            REAL value = line[l];
            if (clean)
                value = l < taps && value - value == 0 ? value : 0;
            const REAL term = weights_y[row] * value;
            total[l] = row == 0 ? term : total[l] + term;
        }
    }
    for (int l = 0; l < lanes; l++)
        total[l] *= weights_x[l];
    return NAME(reduce)(total, lanes);
}

/* Sum the weights on good pixels, and one less the absolute weight on bad ones.
 *
 * The first is never smaller than the second. What lies outside of the frame counts for the first
 * only: edges are as good as the pixels within. */
#define GOOD_WEIGHT(NUMBER, WEIGHT) \
    double missing = 0, outside = 0, bad = 0; \
    for (ptrdiff_t row = 0; row < rows; row++) { \
        const REAL *RESTRICT line = pixels + row * stride; \
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

/* Write one row of a tile, scaled by area, filled where too little weight is good. */
INLINE void NAME(store_row)(
    const Tile *tile, ptrdiff_t plane, ptrdiff_t i, const double *RESTRICT values,
    double *RESTRICT shares, const double *RESTRICT spreads, const double *RESTRICT factor,
    REAL *RESTRICT out)
{
    const ptrdiff_t number = tile->columns;
    const ptrdiff_t at
        = (plane * tile->out_height + tile->row + i) * tile->out_width + tile->column;
    const double least = tile->least, fill = tile->fill;
    REAL *RESTRICT line = out + at;
    for (ptrdiff_t j = 0; j < number; j++)
        /* a factor that is NaN: at the edge of what the map is defined for */
        shares[j] = factor[j] == factor[j] ? shares[j] : -INFINITY;
    for (ptrdiff_t j = 0; j < number; j++)
        line[j] = (REAL)(shares[j] >= least ? values[j] * factor[j] : fill);
    if (tile->out_variance != NULL) {
        double *RESTRICT variance = tile->out_variance + (plane * tile->rows + i) * number;
        for (ptrdiff_t j = 0; j < number; j++)
            variance[j] = shares[j] >= least ? spreads[j] * (factor[j] * factor[j]) : NAN;
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

/* Plain sums of one row. */
INLINE void NAME(sum_row)(
    const Tile *tile, const Row *row, const REAL *RESTRICT pixels, const REAL *RESTRICT table,
    int taps, int lanes)
{
    double *RESTRICT values = row->values;
    for (ptrdiff_t j = 0; j < row->number; j++) {
        const REAL *RESTRICT first
            = pixels + (row->top[j] - tile->top) * tile->width + row->left[j] - tile->left;
        if (taps == 1) {
            values[j] = first[0];
            continue;
        }
        REAL weights_x[MOST_LANES], weights_y[MOST_LANES];
        NAME(weights)(table, row->knot_x[j], (REAL)row->phase_x[j], lanes, weights_x);
        NAME(weights)(table, row->knot_y[j], (REAL)row->phase_y[j], lanes, weights_y);
        values[j] = NAME(sum)(first, tile->width, taps, lanes, weights_x, weights_y, 0);
    }
}

/* Renormalize the sums of one row that are not finite. */
INLINE void NAME(repair_row)(
    const Tile *tile, const Row *row, const REAL *RESTRICT pixels, const REAL *RESTRICT table,
    const double *RESTRICT table64, int taps, int lanes)
{
    double *RESTRICT values = row->values, *RESTRICT shares = row->shares;
    for (ptrdiff_t j = 0; j < row->number; j++) {
        if (finite(values[j]))
            continue;
        if (row->inside[j] == 0) {
            shares[j] = -INFINITY;
            continue;
        }
        const ptrdiff_t left = row->left[j], top = row->top[j];
        const REAL *RESTRICT first
            = pixels + (top - tile->top) * tile->width + left - tile->left;
        double wide_x[MOST_LANES] = { 1 }, wide_y[MOST_LANES] = { 1 };
        REAL weights_x[MOST_LANES] = { 1 }, weights_y[MOST_LANES] = { 1 };
        if (taps > 1) {
            const double px = row->phase_x[j], py = row->phase_y[j];
            weights_64(table64, row->knot_x[j], px, lanes, wide_x);
            weights_64(table64, row->knot_y[j], py, lanes, wide_y);
            NAME(weights)(table, row->knot_x[j], (REAL)px, lanes, weights_x);
            NAME(weights)(table, row->knot_y[j], (REAL)py, lanes, weights_y);
        }
        const double good = NAME(good_kernel)(
            first, tile->width, wide_x, wide_y, taps, taps, left, top, tile->frame_width,
            tile->frame_height, &shares[j]);
        values[j] = NAME(sum)(first, tile->width, taps, lanes, weights_x, weights_y, 1) / good;
        if (tile->variance != NULL)
            row->spreads[j] /= good * good;
    }
}

INLINE int NAME(interpolate)(
    const Tile *tile, Kernel kernel, const REAL *block, const REAL *table, const double *table64,
    REAL *out, Row *row, int taps, int lanes)
{
    for (ptrdiff_t i = 0; i < tile->rows; i++) {
        if (plan_row(tile, kernel, i, row) != DONE)
            return OUT_OF_BOUNDS;
        measure_row(tile, i, row);
        for (ptrdiff_t plane = 0; plane < tile->planes; plane++) {
            const REAL *pixels = block + plane * tile->size;
            NAME(sum_row)(tile, row, pixels, table, taps, lanes);
            if (tile->variance != NULL)
                sum_squares(tile, row, tile->variance + plane * tile->size, table64, taps, lanes);
            if (check_row(row))
                NAME(repair_row)(tile, row, pixels, table, table64, taps, lanes);
            NAME(store_row)(
                tile, plane, i, row->values, row->shares, row->spreads, row->factor, out);
        }
    }
    return DONE;
}

CLONES
int NAME(interpolate_tile)(
    const Tile *tile, Kernel kernel, const REAL *block, const REAL *table, const double *table64,
    REAL *out)
{
    Row row;
    if (make_row(&row, tile->columns) != DONE)
        return NO_MEMORY;
    int status;
    if (kernel.taps == 6)
        status = NAME(interpolate)(tile, kernel, block, table, table64, out, &row, 6, 8);
    else if (kernel.taps == 4)
        status = NAME(interpolate)(tile, kernel, block, table, table64, out, &row, 4, 4);
    else if (kernel.taps == 2)
        status = NAME(interpolate)(tile, kernel, block, table, table64, out, &row, 2, 2);
    else
        status = NAME(interpolate)(tile, kernel, block, table, table64, out, &row, 1, 1);
    free_row(&row);
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
            if (taps == 1) {
                at[0] += factor;
                continue;
            }
            REAL weights_x[MOST_LANES], weights_y[MOST_LANES];
            NAME(weights)(table, knot_x, (REAL)(s - knot_x), lanes, weights_x);
            NAME(weights)(table, knot_y, (REAL)(t - knot_y), lanes, weights_y);
            for (int l = 0; l < lanes; l++)
                weights_x[l] *= factor;
            for (int line = 0; line < taps; line++)
                for (int l = 0; l < lanes; l++)
                    at[line * print->columns + l] += weights_y[line] * weights_x[l];
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
        if (tile->variance != NULL)
            room->spreads[at] = NAME(squared_sum)(
                                    tile->variance + p * tile->size + start, tile->width, weights,
                                    print->rows, print->columns, room->sums)
                / (good * good);
    }
    return DONE;
}

INLINE int NAME(average)(
    const Tile *tile, Kernel kernel, const Average *average, const REAL *block, const REAL *table,
    const REAL *fine, REAL *out, Row *row, AverageRoom *room, REAL *weights, int taps, int lanes)
{
    const ptrdiff_t stride = tile->columns + 2, columns = tile->columns;
    for (ptrdiff_t i = 0; i < tile->rows; i++) {
        measure_row(tile, i, row);
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
            if (!on || !(tile->variance != NULL || isnan(total)))
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
            NAME(store_row)(
                tile, p, i, room->values + p * columns, room->shares + p * columns,
                room->spreads + p * columns, row->factor, out);
    }
    return DONE;
}

CLONES
int NAME(average_tile)(
    const Tile *tile, Kernel kernel, const Average *average, const REAL *block, const REAL *table,
    const REAL *fine, REAL *out)
{
    Row row = { 0 };
    AverageRoom room = { 0 };
    /* weights of one pixel, whose steps are 1.5 source pixels at the most */
    const ptrdiff_t side
        = 3 * (average->number_x / 2 + average->number_y / 2) + kernel.lanes + 3;
    REAL *weights = malloc((size_t)(side * side) * sizeof(REAL));
    int status = NO_MEMORY;
    if (weights != NULL && make_row(&row, tile->columns) == DONE
        && make_average_room(&room, tile, average, side) == DONE) {
        if (kernel.taps == 6)
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &row, &room, weights, 6, 8);
        else if (kernel.taps == 4)
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &row, &room, weights, 4, 4);
        else if (kernel.taps == 2)
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &row, &room, weights, 2, 2);
        else
            status = NAME(average)(
                tile, kernel, average, block, table, fine, out, &row, &room, weights, 1, 1);
    }
    free(weights);
    free(room.line);
    free_row(&row);
    return status;
}
