"""Comparison: runs of objectives by seeds, from tuning to the table."""

from criterium.comparison.race import DEFAULT_OBJECTIVES, compare, resume
from criterium.comparison.study import Study, open_study, tables_of
from criterium.engine.progress import Progress

__all__ = ["DEFAULT_OBJECTIVES", "Progress", "Study", "compare", "open_study", "resume", "tables_of"]
