"""The match of two sides, in the units and with the pixels that they may have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spalipy_astro.errors import AmbiguousMatchError, NoMatchError
from spalipy_astro.matching import MIN_LOG_ODDS, Match, Priors, match_stars
from spalipy_astro.registration._findoptions import FindOptions
from spalipy_astro.registration._prepare import StarFrame
from spalipy_astro.registration._units import ways_to_look
from spalipy_astro.wcs import similarity_between

__all__ = ["matched_frames"]

_SECOND_LOOK = np.log(100.0)  # what a match in other units, or of other pixels, pays for it


def matched_frames(
    one: StarFrame, two: StarFrame, priors: Priors, given: FindOptions
) -> tuple[StarFrame, StarFrame, Match]:
    """Match two sides in the units and with the pixels that they may have, likeliest first."""
    common = priors.max_shift is not None or given.affine in ("shift", "rigid")
    failure: NoMatchError | None = None
    for first, second in ways_to_look(
        one, two, (given.source_pixels, given.template_pixels), common=common
    ):
        scaled = priors
        # an implied scale is that of the sky, a given one that of pixels or of the lists' units
        if given.scale is not None or given.affine not in ("shift", "rigid"):
            ratio = float(np.sqrt(np.prod(second.pixels) / np.prod(first.pixels)))
            if given.scale is not None:
                ratio *= second.unit / first.unit
            if ratio != 1:
                low, high = priors.scale
                scaled = replace(scaled, scale=(low * ratio, high * ratio))
        if priors.max_shift is not None:
            stretch = second.unit * max(second.pixels)
            scaled = replace(scaled, max_shift=priors.max_shift * stretch)
        try:
            match = _match(first, second, scaled, given.use_wcs)
            if failure is not None and match.log_odds < MIN_LOG_ODDS + _SECOND_LOOK:
                continue
            return first, second, match
        except AmbiguousMatchError:
            raise
        except NoMatchError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _match(one: StarFrame, two: StarFrame, priors: Priors, use_wcs: bool | str) -> Match:
    """Match with the help of both WCS where there are any, else without."""
    shapes: dict[str, Any] = {"source_shape": one.square_shape, "template_shape": two.square_shape}
    if use_wcs:
        known = similarity_between(one.wcs, two.wcs, one.shape, (one.pixels, two.pixels))
        if known is None and use_wcs is True:
            raise ValueError("use_wcs=True needs a celestial WCS on both images.")
        if known is not None and one.shape is not None:
            scale, angle, sign, target = known
            low, high = max(priors.scale[0], scale / 1.1), min(priors.scale[1], scale * 1.1)
            narrow = replace(
                priors,
                # where both disagree, what the user says holds, as for the rotation
                scale=(low, high) if low < high else priors.scale,
                rotation=priors.rotation or (angle - 5.0, angle + 5.0),
                parity=priors.parity or sign,
            )
            if priors.max_shift is None:
                reach = 0.25 * float(np.hypot(*shapes["source_shape"])) * scale
                narrow = replace(narrow, target=target, max_shift=reach)
            try:
                return match_stars(one.field, two.field, priors=narrow, **shapes)
            except NoMatchError:
                if use_wcs is True:
                    raise
    return match_stars(one.field, two.field, priors=priors, **shapes)
