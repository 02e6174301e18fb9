"""Architecture search: networks scored untrained and ranked, and some trained to see what that is worth."""

from criterium.architecture_search.searching import search
from criterium.architecture_search.table import ArchitectureSearch

__all__ = ["ArchitectureSearch", "search"]
