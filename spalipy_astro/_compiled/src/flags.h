/* The loop over flags of a type BITS, under a NAME; included once for each. */

static int NAME(
    const BITS *RESTRICT block, ptrdiff_t height, const Tile *tile, double radius,
    BITS *RESTRICT out)
{
    const ptrdiff_t stride = tile->columns + 2;
    const double right = tile->frame_width - 0.5, end = tile->frame_height - 0.5;
    for (ptrdiff_t i = 0; i < tile->rows; i++) {
        BITS *RESTRICT line = out + (tile->row + i) * tile->out_width + tile->column;
        for (ptrdiff_t j = 0; j < tile->columns; j++) {
            const ptrdiff_t at = (i + 1) * stride + j + 1;
            const double u = tile->x[at], v = tile->y[at];
            BITS bits = 0;
            if (u >= -0.5 && u < right && v >= -0.5 && v < end) {
                ptrdiff_t first_row, last_row, first_column, last_column;
                if (radius == 0) {
                    first_row = last_row = (ptrdiff_t)floor(v + 0.5);
                    first_column = last_column = (ptrdiff_t)floor(u + 0.5);
                } else {
                    first_row = (ptrdiff_t)floor(v - radius) + 1;
                    last_row = (ptrdiff_t)ceil(v + radius) - 1;
                    first_column = (ptrdiff_t)floor(u - radius) + 1;
                    last_column = (ptrdiff_t)ceil(u + radius) - 1;
                }
                if (first_row < tile->top || last_row >= tile->top + height
                    || first_column < tile->left || last_column >= tile->left + tile->width)
                    return OUT_OF_BOUNDS;
                for (ptrdiff_t row = first_row; row <= last_row; row++)
                    for (ptrdiff_t column = first_column; column <= last_column; column++)
                        bits |= block[(row - tile->top) * tile->width + column - tile->left];
            }
            line[j] = bits;
        }
    }
    return DONE;
}

#undef BITS
#undef NAME
