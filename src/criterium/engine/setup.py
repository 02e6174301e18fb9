"""What every study shares, whatever it is about: data, device, precision, recipe and processes."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criterium._checks import at_least
from criterium._version import __version__
from criterium.data import Source
from criterium.training.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Setup:
    """With which data, how and where models are trained: plain values that can be written down.

    `jobs` runs are carried out at a time, on `threads` threads each.
    """

    source: Source
    recipe: Recipe
    device: str
    precision: str
    jobs: int
    threads: int

    def __post_init__(self) -> None:
        """Check what can be checked without the data."""
        at_least("jobs", self.jobs, 1)

    @classmethod
    def here(cls, source: Source, recipe: Recipe, device: str, precision: str, jobs: int | None) -> Setup:
        """Return the setup for this machine: one run a core at a time, or one on a GPU, unless told.

        Runs share the cores, unless the environment (``OMP_NUM_THREADS``) says how many threads one takes.
        """
        import joblib
        import torch

        cores: int = joblib.cpu_count()
        on_gpu = device != "cpu" and (torch.cuda.is_available() or device == "mps")
        workers = jobs if jobs is not None else (1 if on_gpu else cores)
        # Two threads over a limit of one wait for each other: a run took 40 times as long under load.
        said = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(said) if said.isdecimal() and int(said) else max(1, cores // max(1, workers))
        return cls(source, recipe, device, precision, workers, threads)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setup:
        """Return the setup that `dataclasses.asdict` made a dictionary of."""
        recipe, source = Recipe(**values["recipe"]), Source(**values["source"])
        return cls(**{**values, "source": source, "recipe": recipe})

    def begin(self) -> Accelerator:
        """Return the accelerator, with this process set to the threads of a run."""
        import torch

        from criterium.training.devices import accelerator_for

        torch.set_num_threads(self.threads)
        return accelerator_for(self.device, self.precision)

    def to_dict(self) -> dict[str, Any]:
        """Return the setup as JSON has it."""
        return dataclasses.asdict(self)

    def machine(self) -> dict[str, str]:
        """Return what runs are carried out on, and with which versions."""
        import accelerate
        import numpy as np
        import sklearn
        import torch

        from criterium.training.devices import accelerator_for

        device = accelerator_for(self.device, self.precision).device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
        return {
            "criterium": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "platform": platform.platform(),
            "device": f"{device} {name}".strip(),
        }
