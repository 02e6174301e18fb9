"""A finished comparison as one HTML page that needs no other files."""

from criterium.report.page import write_report
from criterium.report.view import RunView

__all__ = ["RunView", "write_report"]
