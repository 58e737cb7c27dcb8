"""
Match and fit star lists of growing size, beside astroalign's find_transform on the same points.

    OMP_NUM_THREADS=1 python benchmarks/matching.py [--repeats 5]

Both sides get positions alone, brightest first, of two frames turned by 30 degrees, with 20 % of
the stars missing and 20 % false ones on each side, 0.1 px noise and a distortion of 0.7 % at the
corners, which only we can follow. Prints medians of CPU seconds on one core; astroalign's column
says "-" where it is not installed, and how it failed where it did.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from spalipy_astro.fitting import fit_backward
from spalipy_astro.matching import StarField, match_stars


def make_lists(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return source and template positions, and the true template positions of the source."""
    rng = np.random.default_rng([seed, n])
    side = 1000 * np.sqrt(n / 500)
    sky = rng.uniform(0, side, (n, 2))
    u = sky - side / 2
    r2 = np.sum(u**2, axis=1, keepdims=True) / (side**2 / 2)
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    truth = (u * (1 + 0.007 * r2)) @ turn.T + [40.2, -11.7]
    lists = []
    for xy in (sky, truth):
        order = np.argsort(np.arange(n) + rng.normal(0, 0.02 * n, n))
        star = order[rng.uniform(size=n) > 0.2]
        points = xy[star] + rng.normal(0, 0.1, (len(star), 2))
        at = np.sort(rng.integers(0, len(star), n // 5))
        false = rng.uniform(xy.min(axis=0), xy.max(axis=0), (n // 5, 2))
        lists.append((np.insert(points, at, false, axis=0), np.insert(star, at, -1)))
    return lists[0][0], lists[1][0], np.column_stack((sky, truth))


def ours(source: np.ndarray, template: np.ndarray):
    """Match and fit; return the map from template to source."""
    err = np.full(len(source), 0.1), np.full(len(template), 0.1)
    match = match_stars(StarField(source, err[0]), StarField(template, err[1]))
    s, t = match.source, match.template
    fit = fit_backward(source[s], template[t], source_err=err[0][s], template_err=err[1][t])
    return lambda xy: np.column_stack(fit.backward(*xy.T))


def astroaligns(source: np.ndarray, template: np.ndarray):
    """Do the same with astroalign, which looks at the 50 brightest."""
    import astroalign

    transform, _ = astroalign.find_transform(source, template)
    return lambda xy: (
        np.linalg.inv(transform.params)[:2] @ np.column_stack((xy, np.ones(len(xy)))).T
    )


def measure(run, source: np.ndarray, template: np.ndarray, truth: np.ndarray, repeats: int) -> str:
    """Return median CPU seconds and rms error in words."""
    times = []
    try:
        for _ in range(repeats):
            start = time.process_time()
            backward = run(source, template)
            times.append(time.process_time() - start)
    except ImportError:
        return "-"
    except Exception as error:
        return type(error).__name__
    mapped = np.asarray(backward(truth[:, 2:]))
    mapped = mapped if mapped.shape[1] == 2 else mapped.T
    rms = np.sqrt(np.mean(np.sum((mapped - truth[:, :2]) ** 2, axis=1)))
    return f"{statistics.median(times):.3f} s, rms {rms:.3f} px"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{'stars':>7s}  {'spalipy_astro':28s}{'astroalign':28s}")
    for n in (20, 100, 500, 2000, 10_000, 50_000):
        source, template, truth = make_lists(n, seed=1)
        row = [
            measure(run, source, template, truth, options.repeats) for run in (ours, astroaligns)
        ]
        print(f"{n:7d}  {row[0]:28s}{row[1]:28s}", flush=True)


if __name__ == "__main__":
    main()
