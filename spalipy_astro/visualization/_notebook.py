"""Figures in notebooks: each is shown once, and an alignment has a small picture."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spalipy_astro.visualization._residuals import plot_residuals

if TYPE_CHECKING:
    from spalipy_astro.alignment import Alignment

__all__ = ["new_figure", "picture_of"]

_SIZE = (3.6, 2.6)  # inches
_DPI = 90


class AlignmentFigure(Figure):
    """
    A figure that a notebook shows once.

    A notebook shows the value of a cell, and at its end all figures that pyplot knows: a figure
    that is both would be shown twice. So pyplot forgets this one when it is shown.
    """

    def _ipython_display_(self) -> None:
        if "inline" in matplotlib.get_backend():
            plt.close(self)
        raise NotImplementedError  # IPython goes on to the ordinary ways


def new_figure(
    rows: int, columns: int, *, size: tuple[float, float], sharex: bool = False
) -> tuple[Figure, Any]:
    """Return a figure that pyplot knows, and its Axes; see `matplotlib.pyplot.subplots`."""
    figure = plt.figure(FigureClass=AlignmentFigure, figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, sharex=sharex)


def picture_of(alignment: Alignment) -> str:
    """
    Draw the residuals in the size of a stamp.

    Parameters
    ----------
    alignment : `~spalipy_astro.Alignment`

    Returns
    -------
    str
        An HTML element that holds the picture; empty where no star was fitted.
    """
    if not alignment.matches["used"].any():
        return ""
    figure = Figure(figsize=_SIZE, layout="constrained")  # pyplot must not show it a second time
    FigureCanvasAgg(figure)
    with matplotlib.rc_context({"font.size": 8.0}):
        plot_residuals(alignment, figure.subplots())
    stream = BytesIO()
    figure.savefig(stream, dpi=_DPI, format="png")
    data = b64encode(stream.getvalue()).decode()
    return f'<img alt="Residuals of the matched stars" src="data:image/png;base64,{data}">'
