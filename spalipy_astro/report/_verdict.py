"""The result of an alignment or a batch, in plain words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from spalipy_astro import _geometry
from spalipy_astro._checks import is_template

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = ["Verdict", "judge", "judge_group", "judge_sequence"]

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

# From where on something is worth a look.
_SAFE_ODDS = 30.0  # natural logarithm
_MANY_STARS = 12
_MATCHED_SHARE = 0.3
_CLIPPED_SHARE = 0.1
_CHI2 = 1.5
_SCATTER = 0.1  # px
_COVERAGE = 0.8
_ERROR = 0.3  # px
_OVERLAP = 0.25
_OUTLIER = 3.0  # times the median

_MOST_REASONS = 5
_LONG_REASON = 200  # characters


@dataclass(frozen=True)
class Verdict:
    """
    The verdict on a result.

    Attributes
    ----------
    headline : str
    facts : list of str
        Sentences, the most important first.
    concerns : list of str
        What to look at before the result is trusted.
    """

    headline: str
    facts: list[str]
    concerns: list[str]


def judge(alignment: Alignment) -> Verdict:
    """Judge an alignment."""
    summary = alignment.summary()
    concerns = list(_concerns(alignment, summary))
    headline = "✓ The frames match" if not concerns else "! The frames match, with reservations"
    facts = [_motion(summary)]
    if "freedom" in summary:
        n, rms = summary["n_used"], summary["rms"]
        facts.insert(
            0,
            f"{n} stars that both frames show lie where the transform puts them. Their scatter of "
            f"{rms:.2g} px (rms) is that of single stars, most of them faint."
            f"{_brightest(alignment)} {_odds(summary.get('log_odds', np.nan))}",
        )
        if "error" in summary:
            facts.insert(0, f"Aligned to {summary['error']:.2g} px by {n} stars.")
    else:
        headline = "The transform was given" + ("; see what to look at" if concerns else "")
    overlap, error = _overlap(alignment)
    if overlap is not None and error is not None:
        facts.append(
            f"Where the frames overlap, the transform itself is known to {np.median(error):.2g} px "
            f"(median), and to {error.max():.2g} px in the worst place (1 sigma)."
        )
    if overlap is not None:
        words = f"The source covers {overlap:.0%} of the template"
        if "coverage" in summary:
            words += f"; {summary['coverage']:.0%} of that lies among matched stars"
        facts.append(f"{words}.")
    return Verdict(headline, facts, concerns)


def judge_sequence(table: Table) -> Verdict:
    """Judge a batch."""
    good = np.asarray(table["status"]) == "ok"
    n, n_good = len(table), int(good.sum())
    if n_good == n:
        headline = f"✓ All {n} frames were aligned" if n > 1 else "✓ The frame was aligned"
    elif n_good == 0:
        headline = f"✗ None of {n} frames was aligned"
    else:
        was = "was" if n - n_good == 1 else "were"
        headline = f"! {n_good} of {n} frames were aligned, {n - n_good} {was} not"
    n_rejected = int((np.asarray(table["status"]) == "rejected").sum())
    if n_rejected:
        failed = n - n_good - n_rejected
        was = "was" if n_rejected == 1 else "were"
        headline = f"✓ {n_good} of {n} frames are good, {n_rejected} {was} rejected"
        if failed:
            headline = f"! {headline[2:]}, {failed} {'was' if failed == 1 else 'were'} not aligned"
    if n == 0:
        headline = "! There were no frames"
    facts = []
    others = good & ~is_template(table)
    if n_good:
        good = others if others.any() else good
        rms, stars = (np.asarray(table[name], float)[good] for name in ("rms", "n_matched"))
        error = _finite(table, "error", good)
        if error.size:
            facts.append(
                f"The frames are aligned to {np.median(error):.2g} px (the expected error of the "
                f"transform, median of the frames; {error.max():.2g} px in the worst)."
            )
        facts.append(
            f"{_stars(stars)} of each aligned frame match the template. Single stars scatter by "
            f"{np.median(rms):.2g} px (rms, median of the frames; {rms.max():.2g} px in the "
            "worst). " + _odds(_least_odds(table, good), "For the least certain one, the odds")
        )
        x, y = (np.asarray(table[f"shift_{axis}"], float)[good] for axis in "xy")
        facts.append(
            f"The frames lie shifted by {_span(x, 1)} px in x and {_span(y, 1)} px in y, and "
            f"turned by {_span(np.asarray(table['rotation'], float)[good], 3)} degrees."
        )
    return Verdict(headline, facts, list(_sequence_concerns(table)))


def _stars(numbers: Any) -> str:
    """Say how many stars there are, of one frame or of many."""
    low, high = int(numbers.min()), int(numbers.max())
    if low == high:
        return f"{low} stars"
    return f"{low} to {high} stars (median {np.median(numbers):.0f})"


def _finite(table: Table, name: str, rows: Any) -> Any:
    """Return the finite numbers of a column, none where the table does not have it."""
    if name not in table.colnames:
        return np.empty(0)
    values = np.asarray(table[name], float)[rows]
    return values[np.isfinite(values)]


def judge_group(group: Any) -> Verdict:
    """Judge a group."""
    table, links = group.table, group.links
    component = np.asarray(table["component"])
    n, n_good = len(table), int((component >= 0).sum())
    n_parts = int(component.max(initial=-1)) + 1
    if n_parts == 0:
        return Verdict(f"✗ No two of {n} frames could be connected", [], list(_lost(table)))
    words = f"All {n} frames" if n_good == n else f"{n_good} of {n} frames"
    headline = f"{words} are connected"
    if n_parts > 1:
        headline += f", in {n_parts} parts that do not overlap"
    facts, concerns = [], list(_lost(table))
    used = np.asarray(links["used"], bool)
    if used.any():  # else a catalog alone holds them together
        facts.append(_links(links[used], np.asarray(table["rms"], float)[component >= 0]))
    error = np.asarray(table["error"], float)[component >= 0]
    facts.append(
        f"Over its frame, a transform is known to {np.median(error):.2g} px (median of the "
        f"frames), and to {error.max():.2g} px for the least certain one (1 sigma)."
    )
    (ny, nx), _ = group.canvas()[:2]
    facts.append(f"The canvas that holds the largest part has {nx} × {ny} pixels.")
    names = [str(name) for name in table["source"]]
    for k in range(1, n_parts):
        inside = np.flatnonzero(component == k)
        concerns.append(
            f"Part {k}, {_frames(len(inside))} ({_listed([names[i] for i in inside])}), overlaps "
            "no other and is on a grid of its own."
        )
    if (~used).any():
        pairs = [f"{link['i']} and {link['j']}" for link in links[~used]]
        concerns.append(
            f"{len(pairs)} of {len(links)} links contradict the others and were not used: frames "
            f"{_listed(pairs)}. Is one of the frames distorted, or its field full of repeated "
            "patterns?"
        )
    ends = np.concatenate((np.asarray(links["i"])[used], np.asarray(links["j"])[used]))
    hanging = np.flatnonzero((np.bincount(ends, minlength=n) == 1) & (component >= 0))
    if n_good > 2 and len(hanging):
        concerns.append(
            f"{_frames(len(hanging))} {'hangs' if len(hanging) == 1 else 'hang'} by one link, "
            "which no loop can check: "
            f"{_listed([names[i] for i in hanging])}."
        )
    bad = np.flatnonzero((np.asarray(table["error"], float) > _ERROR) & (component >= 0))
    if len(bad):
        concerns.append(
            f"The transform is uncertain by more than {_ERROR} px over {_frames(len(bad))}: "
            f"{_listed([names[i] for i in bad])}. Few stars in common, or a distortion that shifts "
            "alone do not determine."
        )
    return Verdict(f"{'!' if concerns else '✓'} {headline}", facts, concerns)


def _links(links: Table, rms: Any) -> str:
    """Say how well the links of a group hold its frames together."""
    shared = np.asarray(links["n_matched"])
    least = float(np.asarray(links["log_odds"]).min())
    return (
        f"{len(links)} pairs of frames are linked by {shared.min()} to {shared.max()} stars that "
        f"both show (median {np.median(shared):.0f}). Stars lie where the other frames have them "
        f"to {np.median(rms):.2g} px (rms, median of the frames; {rms.max():.2g} px in the worst). "
        + _odds(least, "For the least certain link, the odds")
    )


def _lost(table: Table) -> Iterator[str]:
    """Yield why frames of a group could not be placed."""
    failed = np.asarray(table["component"]) < 0
    yield from _reasons(
        [str(reason) for reason in np.asarray(table["reason"])[failed]], "not placed"
    )


def _listed(names: list[str]) -> str:
    """Return some names."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _concerns(alignment: Alignment, s: Any) -> Iterator[str]:
    """Yield what to look at before an alignment is trusted."""
    if "freedom" in s:
        yield from _concerns_of_the_stars(s)
    yield from _concerns_of_the_field(alignment, s)


def _concerns_of_the_stars(s: Any) -> Iterator[str]:
    """Yield what to look at among the stars that a transform was fitted to."""
    if s.get("log_odds", np.inf) < _SAFE_ODDS:
        yield (
            f"The evidence is thin: log-odds of {s['log_odds']:.0f}, where most alignments have "
            f"more than {_SAFE_ODDS:.0f}. Blink the images, and see whether every star finds its "
            "partner."
        )
    if s["n_used"] < _MANY_STARS:
        yield (
            f"The transform rests on {s['n_used']} stars. A lower threshold finds more; with so "
            "few, distortions cannot be told from errors."
        )
    expected = s.get("n_expected", 0)
    if expected and s["n_matched"] < _MATCHED_SHARE * expected:
        yield (
            f"{s['n_matched']} stars match where {expected} were expected. That is usual for "
            "frames with different filters or depths; otherwise, look for stars without a match."
        )
    if s["n_clipped"] > _CLIPPED_SHARE * s["n_matched"]:
        yield (
            f"{s['n_clipped']} of {s['n_matched']} matched stars were left out of the fit because "
            "they lie elsewhere: blends, moving objects or wrong matches."
        )
    chi2 = np.nanmax([s["chi2_x"], s["chi2_y"], 0.0])
    if chi2 > _CHI2:
        yield (
            f"The residuals are {np.sqrt(chi2):.1f} times larger than the position errors of the "
            "stars explain. If neighboring arrows agree, the fit has missed a "
            "distortion."
        )
    if s.get("excess_scatter", 0.0) > _SCATTER:
        yield (
            f"Bright stars scatter by {s['excess_scatter']:.2f} px more than their noise explains. "
            "Short exposures through unsteady air cause this, as do blends and undersampled stars."
        )


def _concerns_of_the_field(alignment: Alignment, s: Any) -> Iterator[str]:
    """Yield what to look at on the map."""
    overlap, error = _overlap(alignment)
    if s.get("coverage", 1.0) < _COVERAGE:
        yield (
            f"{1 - s['coverage']:.0%} of the overlap lies outside of the matched stars, where the "
            "transform is extrapolated; alignment.coverage() marks these pixels."
        )
    if error is not None and error.max() > _ERROR:
        yield (
            f"The transform is uncertain by up to {error.max():.2g} px (1 sigma) in some part of "
            "the overlap; the map of its error shows where."
        )
    if overlap is not None and overlap < _OVERLAP:
        yield f"The source covers {overlap:.0%} of the template only."


def _sequence_concerns(table: Table) -> Iterator[str]:
    """Yield what to look at in a batch."""
    names = np.array([str(name) for name in table["source"]], dtype=object)
    status = np.asarray(table["status"])
    good = status == "ok"
    for what, words in (("failed", "not aligned"), ("rejected", "rejected")):
        rows = np.flatnonzero(status == what)
        yield from _reasons([str(table["reason"][row]) for row in rows], words)
    if not good.any():
        return
    rms, stars, odds = (
        np.asarray(table[name], float)[good] for name in ("rms", "n_matched", "log_odds")
    )
    for found, words in (
        (rms > _OUTLIER * np.median(rms), "Residuals three times those of the others"),
        (stars < np.median(stars) / _OUTLIER, "A third of the matched stars of the others"),
        (odds < _SAFE_ODDS, "Thin evidence"),
    ):
        if found.any():
            which = names[good][found]
            listed = ", ".join(which[:5]) + (", ..." if len(which) > 5 else "")
            yield f"{words}: {_frames(len(which))} ({listed}). Clouds, trails or bad focus?"


def _reasons(reasons: list[str], what: str = "not aligned") -> Iterator[str]:
    """
    Yield why frames failed or were rejected, the most frequent reason first.

    Numbers make no other reason.
    """
    kinds = [re.sub(r"[-+]?\d[\d.e]*", "#", reason) for reason in reasons]
    common = Counter(kinds).most_common(_MOST_REASONS)
    for kind, number in common:
        example = reasons[kinds.index(kind)]
        yield f"{_frames(number)} {what}: {_short(example)}"
    rest = len(reasons) - sum(number for _, number in common)
    if rest:
        yield f"{_frames(rest)} {what} for other reasons; see the table."


def _frames(number: int) -> str:
    return f"{number} frame" if number == 1 else f"{number} frames"


def _short(reason: str) -> str:
    """Return the beginning of a reason."""
    return reason if len(reason) <= _LONG_REASON else reason[: _LONG_REASON - 1] + "…"


def _least_odds(table: Table, good: Any) -> float:
    return float(np.min(np.asarray(table["log_odds"], float)[good]))


def _odds(log_odds: float, start: str = "The odds") -> str:
    """Say how likely chance is, as a power of ten."""
    if not np.isfinite(log_odds):
        return ""
    power = str(int(log_odds / np.log(10))).translate(_SUPERSCRIPTS)
    return f"{start} that this is chance are 1 to 10{power} (log-odds {log_odds:.0f})."


def _brightest(alignment: Alignment) -> str:
    """Say how well the best quarter of the stars fits."""
    matches = alignment.matches
    used = np.asarray(matches["used"], bool)
    sigma = np.asarray(matches["sigma"])[used]
    if used.sum() < 4 * _MANY_STARS:
        return ""
    best = np.argsort(sigma)[: len(sigma) // 4]
    squares = sum(np.asarray(matches[name])[used][best] ** 2 for name in ("dx", "dy"))
    return f" The best measured quarter of them does so to {np.sqrt(np.mean(squares)):.2g} px."


def _motion(s: Any) -> str:
    """Say in words what the transform does."""
    mirrored = ", mirrored" if s["parity"] < 0 else ""
    distortion = s["distortion"]
    # Adding zero makes a negative one positive.
    x, y, angle = (
        round(s[k], n) + 0.0 for k, n in (("shift_x", 1), ("shift_y", 1), ("rotation", 3))
    )
    bent = (
        f"A distortion of up to {distortion:.2g} px is corrected."
        if distortion >= 0.005
        else "There is no distortion to correct."
    )
    return (
        f"The source is shifted by {x:+.1f} px in x and {y:+.1f} px in y (at its center), turned "
        f"by {angle:.3f} degrees{mirrored} and scaled by {s['scale']:.5f}. {bent}"
    )


def _span(values: Any, digits: int) -> str:
    """Return the range of values."""
    low, high = (round(float(v), digits) + 0.0 for v in (np.min(values), np.max(values)))
    first, last = f"{low:+.{digits}f}", f"{high:+.{digits}f}"
    return first if first == last else f"{first} to {last}"


def _overlap(alignment: Alignment) -> tuple[float | None, Any]:
    """Return the share of the template that the source covers, and the error there."""
    if alignment.source_shape is None or alignment.template_shape is None:
        return None, None
    x, y = alignment.transform.inverse(*_geometry.spread(alignment.template_shape, 64))
    inside = _geometry.inside(x, y, alignment.source_shape)
    if not inside.any():
        return 0.0, None
    try:
        error = alignment.error(x[inside], y[inside])
    except ValueError:  # made without a fit
        error = None
    return float(inside.mean()), error
