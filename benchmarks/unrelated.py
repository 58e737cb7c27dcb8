"""
Try to match pairs of star lists that have nothing to do with each other.

    OMP_NUM_THREADS=1 python benchmarks/unrelated.py [--pairs 1000] [--first 0]

The lists have 5 to 5000 stars each, spread evenly, in clusters, around one dense cluster, or (on
one side) on a jittered lattice. Prints how many pairs were accepted, which should be none, the
largest log-odds that chance reached, and the CPU seconds that saying no took.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from spalipy_astro.errors import NoMatchError
from spalipy_astro.matching import MIN_LOG_ODDS, StarField, match_stars

SHAPE = np.array([1024.0, 900.0])


def make_list(rng: np.random.Generator, n: int, kind: int) -> StarField:
    """Return a star list of one of four kinds, in random order of brightness."""
    xy = rng.uniform(0, 1, (n, 2)) * SHAPE
    if kind == 1:
        centers = rng.uniform(0, 1, (rng.integers(1, 6), 2)) * SHAPE
        xy = centers[rng.integers(0, len(centers), n)]
        xy = xy + rng.normal(size=(n, 2)) * rng.uniform(20, 120)
    elif kind == 2:
        xy[: n // 2] = SHAPE / 2 + rng.standard_t(2, size=(n // 2, 2)) * 40
    elif kind == 3:
        xy = np.round(xy / 40) * 40 + rng.normal(size=(n, 2)) * 4
    return StarField(xy, 10 ** rng.uniform(-2, -0.5, n))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first pair")
    options = parser.parse_args()
    odds, times, accepted = [], [], 0
    for seed in range(options.first, options.first + options.pairs):
        rng = np.random.default_rng(10_000 + seed)
        sizes = np.exp(rng.uniform(np.log(5), np.log(5000), 2)).astype(int)
        # Two lattices of one pitch do match, truly: not both sides.
        kinds = rng.integers(0, 4), rng.integers(0, 3)
        lists = [make_list(rng, n, kind) for n, kind in zip(sizes, kinds, strict=True)]
        start = time.process_time()
        try:
            match = match_stars(*lists)
        except NoMatchError as error:
            odds.append(error.log_odds)
        else:
            accepted += 1
            odds.append(match.log_odds)
            print(f"seed {seed}: {sizes} stars of kinds {kinds}: log-odds {match.log_odds:.1f}")
        times.append(time.process_time() - start)
    print(f"{accepted} of {options.pairs} unrelated pairs accepted; it takes {MIN_LOG_ODDS:.1f}")
    best = np.sort(odds)[-5:][::-1]
    print("largest log-odds: " + ", ".join(f"{value:.1f}" for value in best))
    print(
        "CPU seconds: median {:.2f}, 95 % {:.2f}, most {:.2f}".format(
            *np.percentile(times, [50, 95, 100])
        )
    )


if __name__ == "__main__":
    main()
