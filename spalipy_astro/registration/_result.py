"""The result of a fit: its matched stars, its figures of merit, and the alignment with both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.modeling import Model
from astropy.table import QTable

from spalipy_astro.alignment import (
    Alignment,
    ErrorTerm,
    box_of,
    center_of,
    figures_of,
    provenance,
    scale_of,
)
from spalipy_astro.fitting import Fit
from spalipy_astro.matching import Match
from spalipy_astro.registration._prepare import StarFrame

__all__ = ["alignment_of"]


def alignment_of(
    fit: Fit,
    match: Match | None,
    source: StarFrame,
    template: StarFrame,
    *,
    options: Mapping[str, Any],
    times: Mapping[str, float],
) -> Alignment:
    """
    Wrap a fit of two frames.

    Parameters
    ----------
    fit : Fit
        The transform.
    match : Match or None
        The pairs of stars that it was fitted to; None where the stars of both sides are these
        pairs, which were given.
    source, template : StarFrame
        The two sides.
    options : mapping
        What the user asked for, to be kept with the result.
    times : mapping
        Seconds that the steps took.

    Returns
    -------
    Alignment
    """
    transform = fit.backward.inverse
    matches, summary = _describe_fit(fit, transform, match, source, template)
    return Alignment(
        transform=transform,
        matches=matches,
        source_shape=source.shape,
        template_shape=template.shape,
        original_wcs=template.wcs,
        _summary=summary,
        _errors=(ErrorTerm(fit.covariance, transform, summary["scale"]),),
        provenance={**provenance(options), **_quality(source, template)},
        times=times,
    )


def _quality(source: StarFrame, template: StarFrame) -> dict[str, Any]:
    """Return what is known of how good the two images are."""
    known = {
        side: dict(frame.quality)
        for side, frame in (("source", source), ("template", template))
        if frame.quality
    }
    return {"quality": known} if known else {}


def _describe_fit(
    fit: Fit, transform: Model, match: Match | None, source: StarFrame, template: StarFrame
) -> tuple[QTable, dict[str, Any]]:
    """Return the matched stars of a fit, brightest first, and its figures of merit."""
    s, t = source.stars, template.stars
    search: dict[str, Any] = {}
    if match is not None:
        s, t = s.take(match.source), t.take(match.template)
        search = {
            "n_expected": int(match.expected),
            "log_odds": float(match.log_odds),
            "hypotheses": int(match.hypotheses),
        }
    boxes = tuple(f.shape or box_of(f.stars.xy) for f in (source, template))
    images = np.column_stack(transform(*np.vstack((s.xy, center_of(boxes[0]))).T))
    offsets = t.xy - images[:-1]
    forward = np.linalg.inv(fit.matrix)
    matches = QTable(
        {
            "x_source": s.xy[:, 0],
            "y_source": s.xy[:, 1],
            "x_template": t.xy[:, 0],
            "y_template": t.xy[:, 1],
            "flux_source": s.flux,
            "flux_template": t.flux,
            "source_row": s.row,
            "template_row": t.row,
            "dx": offsets[:, 0],
            "dy": offsets[:, 1],
            "sigma": fit.sigma * scale_of(forward),
            "used": fit.used,
        }
    )
    at_stars = (s.xy - fit.offset) @ forward.T
    return matches, {
        "n_source": len(source.stars),
        "n_template": len(template.stars),
        **search,
        "excess_scatter": float(fit.floor * scale_of(forward)),
        "freedom": float(fit.freedom),
        **figures_of(transform, matches, forward, images[-1], at_stars, boxes, fit.freedom),
    }
