"""Losses: one file a paper, one contract for all of them."""
