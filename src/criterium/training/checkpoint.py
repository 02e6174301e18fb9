"""The state of a training run between two epochs, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from criterium._files import whole


def save_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write tensors and a JSON note to `path`; the file is there whole or not at all."""
    try:
        with whole(path) as partial:
            # Copies, because the format refuses tensors that share memory, as tied weights do.
            kept = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
            save_file(kept, partial, {"note": json.dumps(note)})
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written: {error}") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `save_tensors` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            if not isinstance(note, dict):
                raise ValueError(f"{path}: got other contents than the state of a run")
            return {key: file.get_tensor(key) for key in file.keys()}, note  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error


def pack(modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return all tensors that training changes, by unique names."""
    tensors = {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for number, optimizer in enumerate(optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                if value is not None:
                    tensors[f"optimizer{number}/{index}/{key}"] = value
    return tensors


@torch.no_grad()
def unpack(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Put tensors from `pack` back.

    Raises:
        ValueError: they are those of other modules.

    """
    wanted = {key: tuple(value.shape) for key, value in pack(modules, ()).items()}
    held = {key: tuple(v.shape) for key, v in tensors.items() if key.partition("/")[0] in modules}
    for key in sorted(wanted.keys() | held.keys()):
        if wanted.get(key) != held.get(key):
            raise ValueError(
                f"{key} has shape {held.get(key, 'none, it is missing')}, expected"
                f" {wanted.get(key, 'no such entry')}"
            )
    for name, module in modules.items():
        own = {key.removeprefix(f"{name}/"): v for key, v in tensors.items() if key.startswith(f"{name}/")}
        module.load_state_dict(own)
    for number, optimizer in enumerate(optimizers):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            place, _, rest = key.partition("/")
            if place == f"optimizer{number}":
                index, _, entry = rest.partition("/")
                parameter = parameters[int(index)]
                if value.shape == parameter.shape:
                    # Fused optimisers read memory in order: a buffer must lie in it as its parameter does.
                    value = torch.empty_like(parameter).copy_(value)
                state.setdefault(int(index), {})[entry] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
