"""A few of the kills of `make kill`."""

from __future__ import annotations

import os

import pytest

from killing import kill_races


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_what_is_killed_goes_on_to_the_same_bits() -> None:
    assert len(list(kill_races(3, 1))) == 3
