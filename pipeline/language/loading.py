"""Opens a checkpoint for texts."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from types import NoneType

from ..checkpoints.named import model_path
from ..checkpoints.opening import open_checkpoint
from ..checkpoints.storyteller import NAME
from ..device.device import Device
from ..errors import UsageError
from ..generation.generator import cache_bytes
from ..generation.scheduler import Scheduler
from ..generation.settings import OWN_MEMORY_BATCH, PROMPT_ROWS
from ..generation.sizes import open_context
from ..graph.formats import CACHE_DTYPES
from ..models.decoder import Model, Progress
from ..models.families import load_model
from .model import LanguageModel

__all__ = ["BATCH", "load", "made_scheduler"]

BATCH = 8  # texts at the same time on a device that shares the host's memory, where nobody says


def load(
    path: Path | str = NAME,
    *,
    device: str | Device = "auto",
    threads: int = 0,
    isa: str | None = None,
    batch_size: int | None = None,
    context: int | None = None,
    kv_cache: str = CACHE_DTYPES[0],
    prompt_rows: int = PROMPT_ROWS,
) -> LanguageModel:
    """The model in a folder or a GGUF file, or one that goes by a name, ready for texts.

    batch_size: how many texts run at the same time; others wait. context: positions of a prompt and its text together;
    by default the model's, or fewer where memory is short. The other options are those of
    `pipeline.load_model` and `pipeline.Scheduler`. Raises what these raise.
    """
    _check("path", path, (str, os.PathLike), "a folder, a file or a name")
    _check("device", device, (str, Device), "the name of a device, or one that is open")
    _check("isa", isa, (str, NoneType), "the name of an instruction set")
    for name, number in (("threads", threads), ("prompt_rows", prompt_rows)):
        _check(name, number, Integral, "a whole number")
    for name, size in (("batch_size", batch_size), ("context", context)):
        _check(name, size, (Integral, NoneType), "a whole number")
    checkpoint = open_checkpoint(model_path(path))
    try:
        model = load_model(checkpoint, device=device, threads=threads, isa=isa)
        return LanguageModel(checkpoint, made_scheduler(model, batch_size, context, kv_cache, prompt_rows))
    except BaseException:
        checkpoint.close()
        raise


def _check(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Raises UsageError for a value of another kind."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UsageError(f"{name} {value!r:.60}: impossible; give {wanted}")


def made_scheduler(
    model: Model,
    batch_size: int | None,
    context: int | None,
    kv_cache: str,
    prompt_rows: int,
    progress: Progress | None = None,
) -> Scheduler:
    """A scheduler for texts of which nobody knows yet how many there will be and how long. Sizes that nobody names may
    be lowered to what memory has room for."""
    batch = (BATCH if model.device.unified else OWN_MEMORY_BATCH) if batch_size is None else batch_size
    positions = context or open_context(model, batch, 1, lambda b, c: cache_bytes(model, b, c, kv_cache))
    least = (1 if batch_size is None else batch, context or min(positions, 256))
    return Scheduler(
        model,
        batch_size=batch,
        context=positions,
        least=least,
        kv_cache=kv_cache,
        prompt_rows=prompt_rows,
        progress=progress,
    )
