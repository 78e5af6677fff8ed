"""How many sequences of how many positions a run asks its generator for, and with how few it makes do."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..models.decoder import Decoder
from .jobs import Job
from .settings import OWN_MEMORY_BATCH, CheckedSettings

__all__ = ["check_context", "least_size", "wanted_size"]


def check_context(settings: CheckedSettings, model: Decoder) -> None:
    """Raises UsageError where --context is more than the model has."""
    if settings.context is not None and settings.context > model.context:
        raise UsageError(f"--context {settings.context}: the model's context is {model.context:,}; give 1 to that")


def wanted_size(settings: CheckedSettings, model: Decoder, jobs: Sequence[Job]) -> tuple[int, int]:
    """(batch size, context): what the options name; else room for the longest text, and on a device that has memory of
    its own, where a batch hardly takes longer than a row, for many texts. Never more rows than prompts."""
    batch_size = settings.batch_size
    if batch_size is None:
        batch_size = 1 if model.device.unified else OWN_MEMORY_BATCH
    longest = max(len(job.tokens) + job.max_tokens for job in jobs)
    return min(batch_size, len(jobs)), settings.context or longest


def least_size(settings: CheckedSettings, wanted: tuple[int, int], jobs: Sequence[Job]) -> tuple[int, int]:
    """(batch size, context) to which `wanted` may be lowered where memory is short. What an option or a prompt's line
    names stays; every prompt keeps room for a token behind it."""
    shortest = max(len(job.tokens) + job.least_tokens for job in jobs)
    return 1 if settings.batch_size is None else wanted[0], settings.context or shortest
