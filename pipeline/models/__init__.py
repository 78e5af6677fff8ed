"""Model families: which file states the forward pass of which `model_type`."""

from __future__ import annotations

from ..errors import UnsupportedError

FAMILIES = {"qwen3_moe": "Qwen3Moe"}   # model_type → class in the module of that name


def load_model(checkpoint, *, device="auto", threads: int = 0):
    """The model of an open checkpoint, its weights mapped where they lie.

    Raises UnsupportedError for an unknown family or feature, CheckpointError for a tensor that is
    missing or misshapen, DeviceError for an unknown device.
    """
    import importlib

    from ..device import as_device

    family = checkpoint.config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UnsupportedError(f"{checkpoint.source}: model_type {family!r} is not supported; "
                               f"use one of: {', '.join(FAMILIES)}")
    module = importlib.import_module(f".{family}", __name__)
    return getattr(module, FAMILIES[family])(checkpoint, as_device(device, threads))
