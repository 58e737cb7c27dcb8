"""Tiles shared over threads."""

from __future__ import annotations

import threading

import pytest

from spalipy_astro.resampling._tiles import Tile, for_each

TILES = [Tile(row, 0, 1, 1) for row in range(200)]


@pytest.mark.parametrize("n_threads", [1, 2, 5, 999])
def test_each_tile_is_worked_on_once(n_threads):
    seen = []
    for_each(seen.append, TILES, n_threads)
    assert sorted(tile.row for tile in seen) == list(range(200))


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("error", [IndexError, KeyboardInterrupt])
def test_an_error_surfaces_and_nothing_more_is_begun(n_threads, error):
    seen, told = [], threading.Event()

    def function(tile):
        seen.append(tile)
        if tile.row == 3:
            told.set()
            raise error("tile 3")
        if n_threads > 1 and tile.row > 3:
            told.wait(10)
            threading.Event().wait(0.02)  # longer than it takes to hear of the error

    with pytest.raises(error, match="tile 3"):
        for_each(function, TILES, n_threads)
    assert len(seen) < 20
