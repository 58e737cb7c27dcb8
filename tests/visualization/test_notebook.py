"""A notebook shows each figure once, and an alignment with a small picture."""

from __future__ import annotations

import re
import sys
from base64 import b64decode
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest


@pytest.fixture(scope="module")
def pair(make_sky_pair):
    return make_sky_pair(rotation=20, seed=12)


@pytest.mark.parametrize("inline", [True, False])
def test_a_figure_that_is_shown_as_a_value_is_not_shown_again(alignment, monkeypatch, inline):
    figure = alignment.plot()
    backend = "module://matplotlib_inline.backend_inline" if inline else "agg"
    monkeypatch.setattr("matplotlib.get_backend", lambda: backend)
    assert figure.number in plt.get_fignums()  # a script shows it with plt.show()
    with pytest.raises(NotImplementedError):  # IPython shows it as it shows any figure
        figure._ipython_display_()
    assert (figure.number in plt.get_fignums()) is not inline
    plt.close(figure)


def test_an_alignment_has_a_small_picture(alignment):
    before = plt.get_fignums()
    page = alignment._repr_html_()
    assert plt.get_fignums() == before
    (data,) = re.findall(r'src="data:image/png;base64,([A-Za-z0-9+/=]+)"', page)
    assert len(data) < 60_000
    picture = plt.imread(BytesIO(b64decode(data)), format="png")
    assert 150 < picture.shape[0] < picture.shape[1] < 400
    assert np.ptp(picture[..., :3]) > 0.5
    assert "matched stars" in page


def test_an_alignment_without_matplotlib(alignment, monkeypatch):
    monkeypatch.setitem(sys.modules, "spalipy_astro.visualization", None)
    page = alignment._repr_html_()
    assert "matched stars" in page
    assert "<img" not in page
