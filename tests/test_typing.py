from __future__ import annotations

from inspect import signature
from typing import get_type_hints

from spalipy_astro import align_many, find_alignment
from spalipy_astro.typing import AlignmentOptions, PairOptions


def test_options_are_those_of_find_alignment():
    """Type checkers see the options of ``align(**options)`` through these types."""
    hints = get_type_hints(find_alignment)
    parameters = signature(find_alignment).parameters.values()
    keywords = {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert get_type_hints(PairOptions) == keywords
    apart = ("source_mask", "hdu", "ignore_flags", "flag_name_map")  # align_many has its own
    own = {name: hint for name, hint in keywords.items() if name not in apart}
    assert get_type_hints(AlignmentOptions) == own


def test_options_of_align_many_are_not_its_own():
    assert not set(AlignmentOptions.__annotations__) & set(signature(align_many).parameters)
