"""From the results of runs to the comparison table: intervals, paired tests, and what they say in words."""

from criterium.statistics.design import Design
from criterium.statistics.judge import judge
from criterium.statistics.paired import Difference, Estimate, holm
from criterium.statistics.table import Table
from criterium.statistics.verdicts import Verdict

__all__ = ["Design", "Difference", "Estimate", "Table", "Verdict", "holm", "judge"]
