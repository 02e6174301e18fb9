"""Comparison: runs of objectives by seeds, from tuning to the table."""

from criterium.comparison.progress import Progress
from criterium.comparison.race import DEFAULT_OBJECTIVES, compare, resume
from criterium.comparison.study import Study, open_study, tables_of

__all__ = ["DEFAULT_OBJECTIVES", "Progress", "Study", "compare", "open_study", "resume", "tables_of"]
