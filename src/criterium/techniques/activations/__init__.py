"""Activations kept at a few bits each until the backward pass."""

from __future__ import annotations

from criterium.techniques.activations.hooks import Compression, Saved, compress_activations
from criterium.techniques.activations.levels import LEVELS, Level, parse_level

__all__ = ["LEVELS", "Compression", "Level", "Saved", "compress_activations", "parse_level"]
