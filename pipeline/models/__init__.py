"""Model families: which file states the forward pass of which `model_type`."""

from __future__ import annotations

from ..errors import CheckpointError, UnsupportedError

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


def load_model(checkpoint, *, device="auto", threads: int = 0, isa: str | None = None):
    """The model of an open checkpoint, its weights mapped where they lie.

    Raises UnsupportedError for an unknown family or feature, CheckpointError for tensors that are
    missing or misshapen, both before anything is copied; DeviceError for an unknown device. `threads` and
    `isa` are settings of a device that is given by name (see open_device).
    """
    from ..device.device import as_device

    family = family_of(checkpoint)
    surveyed(checkpoint)[1].check()
    return family(checkpoint, as_device(device, threads, isa))


def family_of(checkpoint):
    """The class of the checkpoint's family. UnsupportedError where there is none."""
    import importlib

    family = checkpoint.config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UnsupportedError(
            f"{checkpoint.source}: model_type {family!r} is not supported; use one of: {', '.join(FAMILIES)}"
        )
    module, name = FAMILIES[family].split(".")
    return getattr(importlib.import_module(f".{module}", __name__), name)


def surveyed(checkpoint):
    """(model, Survey): the model without weights, None where it cannot be made, and all that stands against it."""
    from .survey import Survey

    survey = Survey()
    try:
        return family_of(checkpoint)(checkpoint, survey), survey
    except CheckpointError as error:
        survey.problems.append(error)
        return None, survey
