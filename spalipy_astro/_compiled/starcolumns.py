"""What the columns of the tables of the fit of stars hold; as in src/starcolumns.h."""

from __future__ import annotations

__all__ = [
    "CHI2",
    "COMPANION",
    "CONVERGED",
    "FOREIGN",
    "GOOD",
    "N_PARAMETERS",
    "N_QUALITIES",
    "SHARPNESS",
    "SNR",
    "SUMS",
    "VARIANCE_BY_LIGHT",
    "VARIANCE_BY_SQUARE",
]

N_PARAMETERS = 5  # x, y, flux, sky, width

# Columns of the table of qualities; a companion has three, the sums over the core have five.
SNR, CHI2, GOOD, CONVERGED, FOREIGN, SHARPNESS, COMPANION = range(7)
SUMS, VARIANCE_BY_LIGHT, VARIANCE_BY_SQUARE, N_QUALITIES = 10, 15, 16, 17
