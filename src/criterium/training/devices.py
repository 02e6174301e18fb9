"""Where training runs: device, precision and processes, as one Accelerator."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState

from criterium._checks import choice

_REPLICATED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


def accelerator_for(device: str = "auto", precision: str = "auto") -> Accelerator:
    """Return the Accelerator for a device and a precision; processes are those of ``accelerate launch``.

    Accelerate knows one device and precision in a process at a time: an Accelerator made earlier takes
    over the new ones.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:N" or "mps".
        precision: "float32", "bf16" (autocast to bfloat16), or "auto": bf16 on a GPU that has it.

    Raises:
        ValueError: an unknown value, a device that is not here, or processes that share a model out
            rather than each holding a replica.

    Example:
        >>> accelerator_for("cpu").mixed_precision
        'no'

    """
    kind, _, number = device.partition(":")
    numbered = kind == "cuda" and number.isdigit()
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in device and not numbered):
        raise ValueError(f"device: got {device!r}, expected auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise ValueError(f"device: got {device!r}, but PyTorch finds {found} CUDA devices here")
        if number:
            torch.cuda.set_device(int(number))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device: got 'mps', but PyTorch finds no such device here")
    choice("precision", precision, ("auto", "float32", "bf16"))
    half = precision == "bf16" or (precision == "auto" and kind != "cpu" and _has_bfloat16())
    # Without this a second call keeps the first one's device, and refuses another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=kind == "cpu", mixed_precision="bf16" if half else "no")
    if accelerator.distributed_type not in _REPLICATED:
        raise ValueError(
            f"device: got processes launched as {accelerator.distributed_type.value}, expected plain data"
            " parallelism, with the whole model in each process"
        )
    return accelerator


def _has_bfloat16() -> bool:
    # GPUs without it emulate it, slower than float32.
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
