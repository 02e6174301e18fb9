"""Compressed activations in the loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from criterium.techniques.activations import Compression, parse_level
from criterium.training.hooks import Forward
from criterium.training.seeds import derive, generator


class CompressedForward(Forward):
    """Keeps what the model saves for its backward pass at a few bits; what the criterion saves stays."""

    def __init__(
        self, criteria: Sequence[nn.Module], level: int | str, seed: int, process: int, device: torch.device
    ) -> None:
        """Compress at `level`; processes, which see different rows, draw different noise."""
        super().__init__(criteria)
        self.level, self.seed, self.process, self.device = level, seed, process, device
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the noise of the rounding anew, and forget what was learnt of layers."""
        draws = generator(derive(self.seed, "compression", epoch) + self.process, self.device)
        self.compression = Compression(parse_level(self.level), draws)

    def loss(self, model: nn.Module, inputs: Tensor, target: Tensor, update: int) -> Tensor:
        """Return the loss of logits whose activations are compressed."""
        with self.compression:
            logits = model(inputs)
        loss: Tensor = self.criteria[update](logits, target)
        return loss
