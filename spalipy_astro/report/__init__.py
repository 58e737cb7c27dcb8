"""Pages that tell whether an alignment, or a night of them, can be trusted."""

from spalipy_astro.report._group import report_group
from spalipy_astro.report._page import check_path
from spalipy_astro.report._report import report_alignment, report_sequence

__all__ = [
    "check_path",
    "report_alignment",
    "report_group",
    "report_sequence",
]
