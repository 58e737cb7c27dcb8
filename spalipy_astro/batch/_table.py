"""The table of a batch, and the row of each source in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import QTable

from spalipy_astro.batch._figures import FIGURES
from spalipy_astro.batch._task import Outcome, Task

__all__ = ["make_table", "row_of"]


def row_of(task: Task, outcome: Outcome, files: Sequence[str]) -> dict[str, Any]:
    """
    Return what the table says of a source.

    Parameters
    ----------
    task : Task
    outcome : Outcome
    files : sequence of str
        Which files were to be written: "aligned", "asdf".

    Returns
    -------
    dict
        Names of columns and values.
    """
    row: dict[str, Any] = {
        "source": task.label,
        "status": outcome.status,
        "reason": outcome.reason,
    }
    for name, figure in FIGURES.items():
        row[name] = outcome.figures.get(name, figure.empty)
    row |= {"time": outcome.seconds, "resumed": outcome.resumed}
    for name in files:
        path = getattr(task, name)
        row[name] = str(path) if not outcome.reason and path.exists() else ""
    return row


def make_table(
    seen: Sequence[Task],
    outcomes: Mapping[int, Outcome],
    files: Sequence[str],
    meta: Mapping[str, Any],
) -> QTable:
    """Make the table of all sources, in their order; without files it has the alignments."""
    rows = [row_of(task, outcomes[task.index], files) for task in seen]
    kinds: dict[str, Any] = dict.fromkeys(("status", "reason", *files), str)
    kinds |= {name: figure.kind for name, figure in FIGURES.items()}
    kinds |= {"time": float, "resumed": bool}
    table = QTable(meta=dict(meta))
    table["source"] = [row["source"] for row in rows] if rows else np.empty(0, str)
    for name in ("status", "reason", *FIGURES, "time", "resumed", *files):
        table[name] = np.array([row[name] for row in rows], kinds[name])
    if not files:
        alignments = np.empty(len(seen), object)
        alignments[:] = [outcomes[task.index].alignment for task in seen]
        table["alignment"] = alignments
    return table
