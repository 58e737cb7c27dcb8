"""Two star catalogs to matched pairs, with their odds against chance."""

from spalipy_astro.matching._bounds import Priors
from spalipy_astro.matching._quads import pattern_codes
from spalipy_astro.matching._search import MIN_LOG_ODDS, Match, match_stars
from spalipy_astro.matching._starfield import StarField
from spalipy_astro.matching._votes import pattern_votes

__all__ = [
    "MIN_LOG_ODDS",
    "Match",
    "Priors",
    "StarField",
    "match_stars",
    "pattern_codes",
    "pattern_votes",
]
