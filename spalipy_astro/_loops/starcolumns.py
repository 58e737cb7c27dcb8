"""What the columns and rows of the tables of the fit of stars hold."""

from __future__ import annotations

__all__ = [
    "CHI2",
    "COMPANION",
    "CONVERGED",
    "CORE",
    "DWIDTH",
    "DX",
    "DY",
    "FOREIGN",
    "GOOD",
    "LIGHT",
    "NOISE",
    "N_PARAMETERS",
    "N_QUALITIES",
    "N_ROWS",
    "REST",
    "SHARPNESS",
    "SLOPE",
    "SNR",
    "SUMS",
    "VALUE",
    "VARIANCE",
    "VARIANCE_BY_LIGHT",
    "VARIANCE_BY_SQUARE",
    "WEIGHT",
    "Q",
    "X",
    "Y",
]

N_PARAMETERS = 5  # x, y, flux, sky, width

# Columns of the table of qualities; a companion has three, the sums over the core have five.
SNR, CHI2, GOOD, CONVERGED, FOREIGN, SHARPNESS, COMPANION = range(7)
SUMS, VARIANCE_BY_LIGHT, VARIANCE_BY_SQUARE, N_QUALITIES = 10, 15, 16, 17

# Rows of the work array, whose columns are the pixels of one star.
X, Y, VALUE, VARIANCE, CORE, Q, LIGHT, SLOPE, DX, DY, DWIDTH, NOISE, WEIGHT, REST = range(14)
N_ROWS = 14
