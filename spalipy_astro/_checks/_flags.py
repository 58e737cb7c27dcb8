"""Which bits of flags are ignored, as users say it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spalipy_astro._choices import OBSERVATORY

__all__ = ["check_flags", "flag_bits"]


def flag_bits(ignore_flags: Any, flag_name_map: Any = None) -> int | None:
    """
    Return the bits that are ignored as a number.

    Parameters
    ----------
    ignore_flags, flag_name_map : object
        As for `astropy.nddata.bitmask.interpret_bit_flags`.

    Returns
    -------
    int or None
        None if no bit is looked at.

    Raises
    ------
    ValueError
        If they are no bits, or have names that there are not.
    """
    # it takes a while to import, and few frames have flags
    from astropy.nddata.bitmask import interpret_bit_flags

    try:
        bits = interpret_bit_flags(ignore_flags, flag_name_map=flag_name_map)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "ignore_flags is a number, bits or names with commas between them, or a list, as "
            f"astropy.nddata.bitmask takes them; got {ignore_flags!r} ({error})."
        ) from error
    return None if bits is None else int(bits)


def check_flags(ignore_flags: Any, flag_name_map: Any = None) -> None:
    """
    Refuse, before the first image is opened, flags that no image can have.

    Parameters
    ----------
    ignore_flags, flag_name_map : object
        As for `flag_bits`; or the word for what the observatory says. Names without a map may be
        those of the observatory, which only a file tells.

    Raises
    ------
    ValueError
        As `flag_bits`.
    """
    if isinstance(ignore_flags, str) and ignore_flags == OBSERVATORY:
        return
    if flag_name_map is not None or not _has_names(ignore_flags):
        flag_bits(ignore_flags, flag_name_map)


def _has_names(ignore_flags: Any) -> bool:
    """Tell whether there are letters in a string, or in one of a list of strings."""
    if isinstance(ignore_flags, str):
        words = ignore_flags
    elif isinstance(ignore_flags, Iterable):
        words = "".join(flag for flag in ignore_flags if isinstance(flag, str))
    else:
        return False
    # None is the word for no bits
    return words.strip().upper() not in ("NONE", "INDEF") and any(c.isalpha() for c in words)
