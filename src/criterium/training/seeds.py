"""Random numbers of a run: each purpose draws from a seed of its own, anew in each epoch."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a seed for one purpose in one epoch, unrelated to those of other purposes and epochs."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on `device` that begins at `seed`."""
    return torch.Generator(device).manual_seed(seed)


def seed_globals(seed: int, device: torch.device) -> None:
    """Seed what criteria and dropout draw from: the global generators of the CPU and of `device`."""
    # `torch.manual_seed` also notes down where it was called, at the cost of steps of a small model.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
