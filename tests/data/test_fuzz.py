"""The fuzz test in small; ``make fuzz`` runs it for an hour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SECONDS = 15


def test_whatever_the_file_a_dataset_or_one_line_comes_of_it() -> None:
    script = Path(__file__).with_name("fuzzing.py")
    done = subprocess.run([sys.executable, str(script), str(SECONDS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert set(counts) == {"csv", "parquet", "npz", "folder", "idx", "hierarchy"}
    for outcomes in counts.values():  # both happen: the files are neither all broken nor all plain
        assert outcomes["read"] >= 3
        assert outcomes["refused"] >= 3
