"""Model families: the file that states the forward pass of each `model_type`, and loading a model."""

from __future__ import annotations

import importlib

from ..checkpoints.checkpoint import Checkpoint
from ..device.device import Device, as_device
from ..errors import CheckpointError, UnsupportedError
from .decoder import Model
from .fitting import check_weights
from .survey import Survey

FAMILIES = {  # model_type → "module.class"
    "llama": "llama.Llama",
    "mistral": "llama.Llama",
    "qwen2": "llama.Llama",
    "qwen3": "qwen3.Qwen3",
    "qwen3_moe": "qwen3_moe.Qwen3Moe",
    "mixtral": "mixtral.Mixtral",
    "olmoe": "olmoe.Olmoe",
    "qwen2_moe": "qwen2_moe.Qwen2Moe",
    "granitemoe": "granitemoe.GraniteMoe",
    "granitemoeshared": "granitemoe.GraniteMoe",
    "gpt_oss": "gpt_oss.GptOss",
    "gemma3_text": "gemma3_text.Gemma3",
    "gemma4_text": "gemma4_text.Gemma4",
    "glm4_moe": "glm4_moe.Glm4Moe",
    "deepseek_v2": "deepseek.Deepseek",
    "deepseek_v3": "deepseek.Deepseek",
}


def load_model(
    checkpoint: Checkpoint, *, device: str | Device = "auto", threads: int = 0, isa: str | None = None
) -> Model:
    """The model of an open checkpoint, its weights mapped where they lie. They go to a device that has memory of its
    own when something runs there first, or by the model's `place`.

    Raises UnsupportedError for an unknown family or feature, CheckpointError for tensors that are
    missing or misshapen, UsageError for weights that a device is too small for, all before anything is copied;
    DeviceError for an unknown device. `threads` and `isa` are settings of a device that is given by name (see
    open_device).
    """
    family = family_of(checkpoint)
    model, survey = surveyed(checkpoint)
    survey.check()
    opened = as_device(device, threads, isa)
    if model is not None:
        check_weights(model.mapped_bytes + model.repacked_bytes, opened)
    return family(checkpoint, opened)


def family_of(checkpoint: Checkpoint) -> type[Model]:
    """The class of the checkpoint's family. Raises UnsupportedError where there is none."""
    family = checkpoint.config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UnsupportedError(
            f"{checkpoint.source}: model_type {family!r} is not supported; use one of: {', '.join(FAMILIES)}"
        )
    module, name = FAMILIES[family].split(".")
    found: type[Model] = getattr(importlib.import_module(f".{module}", __package__), name)
    return found


def surveyed(checkpoint: Checkpoint) -> tuple[Model | None, Survey]:
    """(model, Survey): the model without weights, None where it cannot be made, and all that is wrong with it."""
    survey = Survey()
    try:
        return family_of(checkpoint)(checkpoint, survey), survey
    except CheckpointError as error:
        survey.problems.append(error)
        return None, survey
