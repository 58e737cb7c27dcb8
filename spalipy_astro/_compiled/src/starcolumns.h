/* What the columns and rows of the tables of the fit of stars hold; as in starcolumns.py. */

#ifndef SPALIPY_ASTRO_STARCOLUMNS_H
#define SPALIPY_ASTRO_STARCOLUMNS_H

enum { N_PARAMETERS = 5 }; /* x, y, flux, sky, width */

/* Columns of the table of qualities; a companion has three, the sums over the core have five. */
enum {
    SNR, CHI2, GOOD, CONVERGED, FOREIGN, SHARPNESS, COMPANION,
    SUMS = 10, VARIANCE_BY_LIGHT = 15, VARIANCE_BY_SQUARE = 16, N_QUALITIES = 17
};

/* Rows of the work array, whose columns are the pixels of one star. */
enum {
    X, Y, VALUE, VARIANCE, CORE, Q, LIGHT, SLOPE, DX, DY, DWIDTH, NOISE, WEIGHT, REST, N_ROWS
};

#endif
