"""From the results of runs to the comparison table: intervals, paired tests, and what they say in words."""

from criterium.statistics.paired import Difference, Estimate, holm
from criterium.statistics.table import Table, summarise

__all__ = ["Difference", "Estimate", "Table", "holm", "summarise"]
