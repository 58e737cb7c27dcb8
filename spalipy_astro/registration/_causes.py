"""Why two star lists may not match, in a user's words, the likeliest cause first."""

from __future__ import annotations

import numpy as np

from spalipy_astro.errors import AmbiguousMatchError, NoMatchError
from spalipy_astro.matching import Priors
from spalipy_astro.registration._prepare import NEGATIVE, StarFrame
from spalipy_astro.wcs import similarity_between

__all__ = ["in_words"]

_FEW = 12  # stars that are few to be matched with a list that overlaps by a half
_TAKEN = 0.3  # usable share of the detections below which something has taken the stars
_DEEPER = 20.0  # ratio of the stars of both sides from which they hardly can be the same
_WIDE = 3.0  # a catalog that is so many times as wide as the source hides it
_MOST = 3  # causes that are told


def in_words(
    error: NoMatchError,
    source: StarFrame,
    template: StarFrame,
    priors: Priors,
    *,
    threshold: float,
    on_sky: bool = False,
    has_position: bool = True,
) -> NoMatchError:
    """
    Return an error that names the likeliest causes.

    Parameters
    ----------
    error : NoMatchError
        From the search; its ``details`` are kept.
    source, template : StarFrame
    priors : Priors
        What the user has said of the transform.
    threshold : float
        That of the detection.
    on_sky : bool, optional
        Whether the template is a catalog of sky positions.
    has_position : bool, optional
        Whether it is known where in such a catalog the source points.

    Returns
    -------
    NoMatchError
        The same error if it says what it found, as that of an ambiguous match does.
    """
    if isinstance(error, AmbiguousMatchError) or "hypotheses" not in error.details:
        return error
    found: list[tuple[float, str]] = []
    tell = found.append
    n, m = len(source.stars), len(template.stars)
    details = error.details

    refused = details.get("objection")
    if refused:
        tell((10, f"what fits best is refused: {refused}; a mask hides what is not sky"))
    if on_sky and not has_position:
        reach = _width(template) / max(_width(source), 1.0)
        words = (
            "the catalog covers far more sky than the source, and nothing says where to look: give "
            "position=SkyCoord(...), and radius= or pixel_scale= if they are known"
        )
        tell((9 if reach > _WIDE or m > _DEEPER * n else 4, words))
    given = _given(priors)
    if given:
        tell((7, f"{given} may exclude the right transform: leave it out, or give a wider range"))
    apart = _apart(source, template)
    if apart is not None:
        tell((8, apart))
    for name, frame in (("source", source), ("template", template)):
        if frame.negative:
            tell((9.5, f"the {name} {NEGATIVE}"))
        usable, detected = len(frame.stars), frame.n_detected
        if frame.shape is not None and detected >= 10 and usable < _TAKEN * detected:
            words = (
                f"masks and flags took most of the stars: of {detected} detections on the {name} "
                f"{usable} are usable; look at the flags of detect_stars"
            )
            tell((6, words))
    if min(n, m) < _FEW:
        side = "source" if n <= m else "template"
        words = (
            f"the {side} has few stars, {min(n, m)}: a lower threshold= than {threshold:g} finds "
            "fainter ones, and with scale=, rotation=, parity= or max_shift= fewer are enough"
        )
        tell((5, words))
    if max(n, m) > _DEEPER * min(n, m) and not on_sky:
        deeper, number = ("source", n) if n > m else ("template", m)
        words = (
            f"the {deeper} is far deeper ({number} stars): a higher threshold= for both, or "
            "select={'brightest': ...}, leaves those that both show"
        )
        tell((4.5, words))
    tell((3, "the images do not show the same part of the sky: check that they overlap"))
    words = (
        f"their scales differ by more than scale=({priors.scale[0]:g}, {priors.scale[1]:g}) allows"
    )
    tell((2, words))
    words = "something that does not move with the sky outnumbers the stars: a mask hides it"
    # a catalog has been through somebody's hands
    tell((1 if source.shape is None or template.shape is None else 2.5, words))

    causes = [words for _, words in sorted(found, key=lambda cause: -cause[0])[:_MOST]]
    listed = " ".join(f"({k}) {words}." for k, words in enumerate(causes, 1))
    return NoMatchError(
        f"no transform matches {n} source stars to {m} template stars. Likely causes: {listed} "
        "The figures of the search are in error.details.",
        error.log_odds,
        details=details,
    )


def _given(priors: Priors) -> str:
    """Name the priors that a user has given."""
    named = {
        "scale=": priors.scale != Priors.scale,
        "rotation=": priors.rotation is not None,
        "parity=": priors.parity is not None,
        "max_shift=": priors.max_shift is not None,
    }
    return " or ".join(name for name, is_given in named.items() if is_given)


def _width(frame: StarFrame) -> float:
    """Return the larger side of the region that has stars, px."""
    return float(np.ptp(frame.stars.xy, axis=0).max()) if len(frame.stars) else 0.0


def _apart(source: StarFrame, template: StarFrame) -> str | None:
    """Say so where both headers know the sky and put the images beside each other."""
    known = similarity_between(source.wcs, template.wcs, source.shape)
    if known is None or source.shape is None or template.shape is None:
        return None
    scale, _, _, (x, y) = known
    half = 0.5 * scale * float(np.hypot(*source.shape))
    ny, nx = template.shape
    beyond = np.hypot(max(-x, x - nx + 1, 0.0), max(-y, y - ny + 1, 0.0))
    if beyond <= half:
        return None
    return (
        f"by their headers the images do not overlap: the source's center lies {beyond:.0f} px "
        "outside the template; use_wcs=False ignores headers that are wrong"
    )
