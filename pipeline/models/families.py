"""Model families: the file that states the forward pass of each `model_type`, and loading a model."""

from __future__ import annotations

import importlib

from ..checkpoints.checkpoint import Checkpoint
from ..device.choices import Choices
from ..device.device import Device, as_device
from ..errors import BuildError, CheckpointError, UnsupportedError
from ..graph.builder import Pipeline
from ..printing import brief
from .decoder import Model
from .fitting import check_weights
from .row_state import Rows
from .survey import Survey

FAMILIES = {  # model_type → "module.class"
    "llama": "llama.Llama",
    "llama4_text": "llama4.Llama4",
    "mistral": "llama.Llama",
    "qwen2": "llama.Llama",
    "ministral": "llama.Llama",
    "ministral3": "llama.Llama",
    "seed_oss": "llama.Llama",
    "internlm3": "llama.Llama",
    "iquestcoder": "llama.Llama",
    "ernie4_5": "llama.Llama",
    "smollm3": "llama.Llama",
    "phi3": "llama.Llama",
    "granite": "llama.Llama",
    "qwen3": "qwen3.Qwen3",
    "qwen3_moe": "qwen3_moe.Qwen3Moe",
    "qwen3_vl_moe_text": "qwen3_moe.Qwen3Moe",
    "qwen3_next": "qwen3_next.Qwen3Next",
    "qwen3_5_moe_text": "qwen3_next.Qwen3Next",
    "qwen3_5_text": "qwen3_next.Qwen3Next",
    "lfm2": "lfm2.Lfm2",
    "lfm2_moe": "lfm2.Lfm2",
    "granitemoehybrid": "granitemoehybrid.GraniteMoeHybrid",
    "nemotron_h": "nemotron_h.NemotronH",
    "mixtral": "mixtral.Mixtral",
    "phimoe": "phimoe.Phimoe",
    "olmoe": "olmoe.Olmoe",
    "qwen2_moe": "qwen2_moe.Qwen2Moe",
    "granitemoe": "granitemoe.GraniteMoe",
    "granitemoeshared": "granitemoe.GraniteMoe",
    "gpt_oss": "gpt_oss.GptOss",
    "olmo2": "olmo2.Olmo2",
    "olmo3": "olmo2.Olmo2",
    "gemma3_text": "gemma3_text.Gemma3",
    "gemma4_text": "gemma4_text.Gemma4",
    "gemma4_unified_text": "gemma4_text.Gemma4",
    "glm4_moe": "glm4_moe.Glm4Moe",
    "glm4v_moe_text": "glm4_moe.Glm4Moe",
    "solar_open": "glm4_moe.Glm4Moe",
    "dots1": "glm4_moe.Glm4Moe",
    "exaone_moe": "glm4_moe.Glm4Moe",
    "mimo_v2_flash": "mimo_v2_flash.MiMoV2Flash",
    "afmoe": "afmoe.Afmoe",
    "bailing_moe": "bailing_moe.BailingMoe",
    "minimax_m2": "minimax_m2.MiniMaxM2",
    "ernie4_5_moe": "ernie4_5_moe.Ernie45Moe",
    "hunyuan_v1_dense": "hunyuan.Hunyuan",
    "hunyuan_v1_moe": "hunyuan.Hunyuan",
    "deepseek_v2": "deepseek.Deepseek",
    "deepseek_v3": "deepseek.Deepseek",
    "deepseek_v32": "deepseek.Deepseek",
    "glm4_moe_lite": "deepseek.Deepseek",
    "glm_moe_dsa": "deepseek.Deepseek",
    "joyai_llm_flash": "deepseek.Deepseek",
    "kimi_k2": "deepseek.Deepseek",
    "mistral4": "deepseek.Deepseek",
    "youtu": "deepseek.Deepseek",
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
    if not isinstance(family, str) or family not in FAMILIES or checkpoint.instead:
        known = ", ".join(checkpoint.instead or FAMILIES)
        raise UnsupportedError(f"{checkpoint.source}: model_type {brief(family)} is not supported; use one of: {known}")
    module, name = FAMILIES[family].split(".")
    found: type[Model] = getattr(importlib.import_module(f".{module}", __package__), name)
    return found


def surveyed(checkpoint: Checkpoint) -> tuple[Model | None, Survey]:
    """(model, Survey): the model without weights, None where it cannot be made, and all that is wrong with it: what is
    missing, and what the steps of its forward pass would refuse when the first chain is built."""
    survey = Survey()
    try:
        model = family_of(checkpoint)(checkpoint, survey)
    except CheckpointError as error:
        survey.problems.append(error)
        return None, survey
    except BuildError as error:  # parts of one weight that do not go together
        survey.problems.append(UnsupportedError(f"{checkpoint.source}: cannot be run: {error}"))
        return None, survey
    if not survey.problems:  # from here on every size is that of a tensor which is there
        try:
            _build_on_paper(model)
        except BuildError as error:
            survey.problems.append(UnsupportedError(f"{checkpoint.source}: cannot be run: {error}"))
    return model, survey


def _build_on_paper(model: Model) -> None:
    """Builds the forward pass for one row and for as many as take another way through the experts; no device is
    needed. Raises BuildError where a step does not take what the checkpoint has."""
    for rows in (1, Choices().grouped_rows):
        model.forward(Pipeline(rows=rows), Rows.zeros(rows), model.cache(1, 1, rows=rows))
