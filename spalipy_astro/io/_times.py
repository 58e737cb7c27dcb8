"""When and for how long an image was exposed, as its header tells."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from astropy.time import Time, TimeDelta

__all__ = ["exposure_time", "mid_exposure"]

_EXPOSURE = ("EXPTIME", "EXPOSURE", "EXP_TIME", "XPOSURE", "EFFEXPTM", "ITIME", "TEXPTIME")
# when it was exposed: card, format, and the part of the exposure that follows
_MOMENTS = (
    ("MJD-AVG", "mjd", 0.0),
    ("DATE-AVG", "date", 0.0),
    ("MJD-MID", "mjd", 0.0),
    ("EXPMID", "mjd", 0.0),
    ("MJD-BEG", "mjd", 0.5),
    ("DATE-BEG", "date", 0.5),
    ("EXPSTART", "mjd", 0.5),
    ("MJD-OBS", "mjd", 0.5),
    ("MJD_OBS", "mjd", 0.5),
    ("OBSMJD", "mjd", 0.5),
    ("DATE-OBS", "date", 0.5),
    ("DATE_OBS", "date", 0.5),
    ("UTDATE", "date", 0.5),
    ("JD", "jd", 0.5),
    ("OBSJD", "jd", 0.5),
    ("MJD", "mjd", 0.5),
)
_DAY = 1.01  # more than that, and the cards are not of one exposure
# by the names of the FITS standard; UT1 is within a second of UTC
_SCALES = {
    **{name: name for name in ("tai", "tt", "tdb", "tcb", "tcg")},
    **{"tdt": "tt", "et": "tt", "iat": "tai"},
}
_CLOCKS = (
    *("TIME-OBS", "UT", "UTC", "UTSTART", "UT-START", "UTC-OBS", "TIME-BEG"),
    *("TIME_OBS", "UT-STR", "UTC-STR", "UTTIME", "UTIME"),
)
_CLOCK = re.compile(r"(\d\d?)(:\d\d)(:\d\d(?:\.\d*)?)?")
_OLD_DATE = re.compile(r"(\d\d)/(\d\d)/(\d\d)")


def exposure_time(header: Mapping[str, Any]) -> float:
    """Return the time of the exposure that a header tells, in seconds; NaN where it tells none."""
    for card in _EXPOSURE:
        value = header.get(card)
        try:  # some surveys write a text
            seconds = math.nan if value is None or isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            continue
        if seconds >= 0:
            return seconds
    return math.nan


def mid_exposure(header: Mapping[str, Any], *, to_the_day: bool = False) -> float | None:
    """
    Return the middle of an exposure.

    Parameters
    ----------
    header : mapping
        FITS cards: the middle or the begin of the exposure, as MJD, JD or date, by the names of the
        FITS standard and of observatories.
    to_the_day : bool, optional
        Whether a date without a time of day will do.

    Returns
    -------
    float or None
        MJD (UTC).
    """
    system, _, _ = str(header.get("TIMESYS", "UTC")).partition("(")  # of "TT(BIPM08)"
    scale = _SCALES.get(system.strip().lower(), "utc")
    exposure = exposure_time(header)
    exposure = 0.0 if math.isnan(exposure) else exposure  # at a moment, if it tells none
    day: float | None = None
    for card, format, part in _MOMENTS:
        value = header.get(card)
        if format == "date":
            value = _with_clock(header, str(value).strip(), to_the_day) if value else None
        elif isinstance(value, str):
            with suppress(ValueError):
                value = float(value)
        if value is None or isinstance(value, bool):
            continue
        if isinstance(value, int | float) and not value > 0:  # what those write who do not know
            continue
        try:
            start = Time(value, format="isot" if format == "date" else format, scale=scale)
            middle = float((start + TimeDelta(part * exposure, format="sec")).utc.mjd)
        except (TypeError, ValueError):
            continue
        if day is not None:
            return middle if abs(middle - day) < _DAY else day
        if format == "date" or value % 0.5:
            return middle
        day = middle  # midnight or noon: some write the day only, and the time in another card
    return day


def _with_clock(header: Mapping[str, Any], day: str, to_the_day: bool) -> str | None:
    """Return a date with the time of day that another card tells; None if none does."""
    if (old := _OLD_DATE.fullmatch(day)) is not None:  # as it was before 1999
        day = f"19{old[3]}-{old[2]}-{old[1]}"
    day, gap, clock = day.rstrip("Z").replace("T", " ").partition(" ")
    if not gap:
        clock = next((str(header[card]) for card in _CLOCKS if header.get(card)), "")
    if (time := _CLOCK.fullmatch(clock.strip())) is not None:
        return f"{day}T{int(time[1]):02d}{time[2]}{time[3] or ':00'}"
    return f"{day}T00:00:00" if to_the_day else None
