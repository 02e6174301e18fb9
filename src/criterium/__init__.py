"""criterium: published ways of training a classifier, and a fair race between them."""

__version__ = "0.1.0"
