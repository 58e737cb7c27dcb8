"""
Cross-validate the distortion model on real pairs, beside polynomials.

    python benchmarks/real_pairs.py FOLDER

FOLDER has pairs.csv and the images. For each pair: matched stars, log-odds, and the rms distance of
stars that were left out of the fit (tenfold) for our spline, a cubic and an affine map, in px over
the stars whose position error is below the median. Then the seconds of detection, matching and
fitting together.
"""

from __future__ import annotations

import csv
import sys
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from spalipy_astro import AlignmentError, find_alignment
from spalipy_astro.fitting import fit_backward

MODELS = {"spline": {}, "cubic": {"polynomial": 3}, "affine": {"spline_order": 0}}


def read(path: Path) -> np.ndarray:
    """Return the first image of a file."""
    with fits.open(path) as hdus:
        return np.asarray(next(h.data for h in hdus if h.data is not None and h.data.ndim == 2))


def left_out_rms(alignment, options: dict) -> float:
    """Return the rms distance of stars that were left out, template px."""
    m = alignment.matches
    source = np.column_stack((m["x_source"], m["y_source"]))
    template = np.column_stack((m["x_template"], m["y_template"]))
    # One axis' share of the expected scatter, as of two equal catalogs.
    err = np.asarray(m["sigma"]) / np.sqrt(2)
    fold = np.random.default_rng(0).permutation(len(m)) % 10
    distance = np.empty(len(m))
    for k in range(10):
        inside, out = fold != k, fold == k
        fit = fit_backward(
            source[inside], template[inside],
            source_err=err[inside], template_err=err[inside], **options,
        )  # fmt: skip
        x, y = fit.backward.inverse(*source[out].T)
        distance[out] = np.hypot(x - template[out, 0], y - template[out, 1])
    # Stars that no model fits say nothing of the models.
    good = np.asarray(m["used"]) & (m["sigma"] <= np.median(m["sigma"]))
    return float(np.sqrt(np.mean(distance[good] ** 2)))


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    head = ("stars", "odds", *(f"{name} px" for name in MODELS), "seconds")
    print(f"{'pair':22s}" + "".join(f"{column:>11s}" for column in head))
    with open(folder / "pairs.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        try:
            alignment = find_alignment(read(folder / row["source"]), read(folder / row["template"]))
        except AlignmentError as error:
            print(f"{row['pair_id']:22s} {type(error).__name__}")
            continue
        summary = alignment.summary()
        rms = [f"{left_out_rms(alignment, options):11.3f}" for options in MODELS.values()]
        print(
            f"{row['pair_id']:22s}{summary['n_used']:11d}{summary['log_odds']:11.0f}"
            + "".join(rms) + f"{sum(alignment.times.values()):11.2f}",
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
