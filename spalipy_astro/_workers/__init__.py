"""One function on many items: here, in processes or on a cluster, and what is shown of it."""

from spalipy_astro._workers._heard import heard
from spalipy_astro._workers._memory import no_collection, reuse_arrays
from spalipy_astro._workers._pool import Processes, check_workers, connected, run, started
from spalipy_astro._workers._progress import Progress, Told, check_progress
from spalipy_astro._workers._words import describe

__all__ = [
    "Processes",
    "Progress",
    "Told",
    "check_progress",
    "check_workers",
    "connected",
    "describe",
    "heard",
    "no_collection",
    "reuse_arrays",
    "run",
    "started",
]
