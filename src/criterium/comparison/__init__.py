"""Comparison: runs of objectives by seeds, from tuning to the table."""

from criterium.comparison.progress import Progress
from criterium.comparison.study import DEFAULT_OBJECTIVES, Study, compare, open_study, resume

__all__ = ["DEFAULT_OBJECTIVES", "Progress", "Study", "compare", "open_study", "resume"]
