"""Which frame of a sequence becomes the template, on lists whose common stars are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from astropy.table import Table

from spalipy_astro.batch._template import best_template
from spalipy_astro.registration import prepare

SIDE = 300.0
"""Side of the square that a group of stars fills, px."""


def frames_of(groups, *, own=None, with_flux=False):
    """
    Return a frame for each letter that shows the stars of each group whose name has the letter.

    Groups lie side by side and share no star, so that two frames have as many stars in common as
    the groups that name both have together. `own` more stars of a frame lie apart.
    """
    letters = sorted(set("".join(groups)))
    stars = {letter: [] for letter in letters}
    groups = {**groups, **(own or {})}
    for place, (name, count) in enumerate(groups.items()):
        rng = np.random.default_rng(place)
        corner = SIDE * np.array(divmod(place, 4))
        xy = corner + rng.uniform(0, 0.95 * SIDE, (count, 2))
        for letter in name:
            stars[letter].append(xy)
    frames = {}
    for key, letter in enumerate(letters):
        xy = np.vstack(stars[letter])
        xy = np.random.default_rng(key).permutation(xy)
        if with_flux:
            xy = Table({"x": xy[:, 0], "y": xy[:, 1], "flux": 500 + xy[:, 0] % 97})
        frames[key] = prepare(xy, name=letter)
    return frames


def test_the_most_common_stars_win_over_the_most_stars():
    """D has the fewest stars, but shares 200 with A, B and C, which share 180 with the others."""
    shared = {"AD": 100, "BD": 40, "CD": 60, "AB": 40, "AC": 40, "BC": 60}
    frames = frames_of(shared, own={"A": 60, "B": 100, "C": 80})
    assert [len(frame.stars) for frame in frames.values()] == [240, 240, 240, 200]
    assert best_template(frames).key == 3


def test_frames_of_another_sky_are_no_candidates():
    """Three frames of other fields have most stars, and none of them shares a star with others."""
    # five of eight frames are asked first: A, C, E, F and H
    shared = {"ACEFH": 40, "AC": 20, "CE": 20, "CH": 30}
    strangers = {"B": 300, "D": 310, "G": 320}
    frames = frames_of({**shared, **strangers})
    assert best_template(frames).key == 2


def test_the_sky_that_most_stars_vote_for():
    """B and D show another sky, and more stars; A, C and E have 90, 95 and 85 votes to their 50."""
    frames = frames_of({"ACE": 40, "AC": 10, "CE": 5, "BD": 50}, own={"B": 100, "D": 120})
    assert best_template(frames).key == 2


def test_a_frame_that_does_not_tell_comes_last():
    """A has no ellipticity, and most stars in common with the others."""
    shared = {"ABC": 40, "AB": 30, "AC": 30, "BC": 5}
    figures = {"fwhm": 3.0, "ellipticity": 0.1, "depth": 100.0}
    frames = frames_of(shared, with_flux=True)
    known = {key: replace(frame, quality=figures) for key, frame in frames.items()}
    known[0] = replace(frames[0], quality={**figures, "ellipticity": np.nan})
    known[1] = replace(frames[1], quality={**figures, "depth": 110.0})
    chosen = best_template(known)
    assert chosen.key == 2
    assert "FWHM 3.00 px" in chosen.reason
