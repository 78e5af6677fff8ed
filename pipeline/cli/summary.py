"""The numbers of a run: the --json summary."""

from __future__ import annotations

import json

from ..checkpoints.hub import model_name
from ..generation.requests import Stats
from ..host import peak_memory
from ..models.decoder import Decoder
from .rows import number
from .session import Session
from .settings import CheckedSettings
from .summary_table import Summary

__all__ = ["make_summary", "to_json"]


def make_summary(
    settings: CheckedSettings, model: Decoder, stats: Stats, session: Session, load_seconds: float
) -> Summary:
    """The summary of a finished run; rates and shares are None where nothing was counted.

    A token is one row of one decode step, so that a batch of eight rows in one command buffer gives 0.125 command
    buffers per token. A prompt's last token goes through with the first decode step: it counts as a token of the
    prompt, and not in the rate of prefill.
    """
    counts = () if stats.expert_counts is None else stats.expert_counts
    scores = {}
    if settings.evaluates:
        scores = {
            "scored_tokens": session.scores.tokens,
            "nll": number(session.scores.nll),
            "perplexity": number(session.scores.value),
            "window": settings.context,
            "stride": settings.stride,
        }
    return {
        "device": model.device.name,
        "isa": model.device.isa,
        "threads": model.device.threads,
        "model": model_name(settings.model),
        "prompts": session.prompts,
        "failed": session.failed,
        "prompt_tokens": int(stats.prompt_tokens),
        "generated_tokens": int(stats.generated_tokens),
        "prefill_tokens_per_second": _ratio(session.prefill_tokens, stats.prefill_seconds, 1),
        "decode_tokens_per_second": _ratio(stats.decode_tokens, stats.decode_seconds, 1),
        "prefill_seconds": round(float(stats.prefill_seconds), 6),
        "decode_seconds": round(float(stats.decode_seconds), 6),
        "load_seconds": round(load_seconds, 6),
        "command_buffers_per_token": _ratio(stats.command_buffers, stats.decode_tokens, 4),
        "readback_bytes_per_token": _ratio(stats.readback_bytes, stats.decode_tokens, 4),
        "dispatches_per_layer": model.dispatches_per_layer,
        "peak_memory_bytes": peak_memory(),
        "mapped_bytes": int(model.mapped_bytes),
        "repacked_bytes": int(model.repacked_bytes),
        "temperature": settings.temperature,
        "seed": settings.seed if settings.temperature > 0 else None,
        "batch_size": settings.batch_size,
        "kv_cache": settings.kv_cache,
        "expert_tokens": [[int(count) for count in layer] for layer in counts],
    } | scores


def to_json(summary: Summary) -> str:
    """The summary as indented JSON, each list of numbers on one line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in summary.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _ratio(amount: float, over: float, digits: int) -> float | None:
    """amount / over, whole where it is; None for nothing over nothing."""
    if not over:
        return None
    value = round(float(amount) / float(over), digits)
    return int(value) if value.is_integer() else value
