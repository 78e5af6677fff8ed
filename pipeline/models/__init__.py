"""Model families: which file states the forward pass of which `model_type`."""

from __future__ import annotations

from ..errors import CheckpointError, UnsupportedError

FAMILIES = {"qwen3_moe": "Qwen3Moe"}   # model_type → class in the module of that name


def load_model(checkpoint, *, device="auto", threads: int = 0):
    """The model of an open checkpoint, its weights mapped where they lie.

    Raises UnsupportedError for an unknown family or feature, CheckpointError for tensors that are
    missing or misshapen, both before anything is copied; DeviceError for an unknown device.
    """
    from ..device import as_device

    family = family_of(checkpoint)
    surveyed(checkpoint)[1].check()
    return family(checkpoint, as_device(device, threads))


def family_of(checkpoint):
    """The class of the checkpoint's family. UnsupportedError where there is none."""
    import importlib

    family = checkpoint.config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UnsupportedError(f"{checkpoint.source}: model_type {family!r} is not supported; "
                               f"use one of: {', '.join(FAMILIES)}")
    module = importlib.import_module(f".{family}", __name__)
    return getattr(module, FAMILIES[family])


def surveyed(checkpoint):
    """(model, Survey): the model without weights, None where it cannot be made, and all that stands against it."""
    from .survey import Survey

    survey = Survey()
    try:
        return family_of(checkpoint)(checkpoint, survey), survey
    except CheckpointError as error:
        survey.problems.append(error)
        return None, survey
