"""How many sequences of how many positions a run asks its generator for, and with how few it makes do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import UsageError
from ..generation.scoring import WINDOW
from ..generation.settings import OWN_MEMORY_BATCH
from ..generation.sizes import open_context
from ..models.decoder import Decoder
from .jobs import Job
from .settings import CheckedSettings

__all__ = ["check_context", "evaluated", "least_size", "wanted_size"]


def check_context(settings: CheckedSettings, model: Decoder) -> None:
    """Raises UsageError where --context is more than the model has."""
    if settings.context is not None and settings.context > model.context:
        raise UsageError(f"--context {settings.context}: the model's context is {model.context:,}; give 1 to that")


def evaluated(settings: CheckedSettings, model: Decoder) -> CheckedSettings:
    """The settings of a run that scores texts: how long its windows are, and how far apart."""
    window = settings.context or min(WINDOW, model.context)
    stride = max(window // 2, 1) if settings.stride is None else settings.stride
    if stride > window:
        raise UsageError(f"--stride {stride}: tokens between windows of {window} would be left out; give 1 to {window}")
    return replace(settings, context=window, stride=stride, prompt_logprobs=0)


def wanted_size(
    settings: CheckedSettings,
    model: Decoder,
    jobs: Sequence[Job],
    all_here: bool,
    cache_bytes: Callable[[int, int], int],
) -> tuple[int, int]:
    """(batch size, context): what the options name; else room for the longest text, and on a device that has memory of
    its own, where a batch hardly takes longer than a row, for many texts. Never more rows than texts.

    Where more prompts come (not `all_here`), their lengths are unknown: then it is the model's context, but no more
    than STREAM_CONTEXT, if the longest of `jobs` needs no more, and no more than leaves memory for other things.
    cache_bytes: what a cache of a size takes."""
    batch_size = settings.batch_size
    if batch_size is None:
        batch_size = 1 if model.device.unified else OWN_MEMORY_BATCH
    longest = _longest(jobs)
    if all_here:
        return min(batch_size, sum(len(job.samples) for job in jobs)), settings.context or longest
    if settings.context is not None:
        return batch_size, settings.context
    return batch_size, open_context(model, batch_size, longest, cache_bytes)


def least_size(settings: CheckedSettings, wanted: tuple[int, int], jobs: Sequence[Job]) -> tuple[int, int]:
    """(batch size, context) to which `wanted` may be lowered where memory is short. What an option or a prompt's line
    names stays; every prompt keeps room for a token behind it."""
    shortest = max(job.least_positions for job in jobs)
    return 1 if settings.batch_size is None else wanted[0], settings.context or shortest


def _longest(jobs: Sequence[Job]) -> int:
    return max(job.positions for job in jobs)
