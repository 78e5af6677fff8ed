"""The numbers of a run: the --json summary, and the same as lines of a table."""

from __future__ import annotations

import json
import math
import resource
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from ..generation.requests import Stats
    from ..models.decoder import Decoder
    from .session import Session
    from .settings import CheckedSettings

__all__ = ["ASCII_BLOCKS", "BLOCKS", "Summary", "expert_rows", "make_summary", "peak_memory", "to_json", "to_rows"]

Summary: TypeAlias = dict[str, Any]  # with the keys that docs/command-line.md lists

# Linux keeps a process's peak memory there.
_STATUS = "/proc/self/status"

BLOCKS, ASCII_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*#%@"
CHART_WIDTH = 54  # with the labels it fits 80 columns
CHART_LINES = 4


def make_summary(
    settings: CheckedSettings, model: Decoder, stats: Stats, session: Session, load_seconds: float
) -> Summary:
    """The summary of a finished run; rates and shares are None where nothing was counted.

    A token is one row of one decode step, so that a batch of eight rows in one command buffer gives 0.125 command
    buffers per token. A prompt's last token goes through with the first decode step: it counts as a token of the
    prompt, and not in the rate of prefill.
    """
    counts = () if stats.expert_counts is None else stats.expert_counts
    return {
        "device": model.device.name,
        "isa": model.device.isa,
        "threads": model.device.threads,
        "model": settings.model.resolve().name,
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
    }


def to_json(summary: Summary) -> str:
    """The summary as indented JSON, each list of numbers on one line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in summary.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def to_rows(summary: Summary, blocks: str = BLOCKS) -> list[tuple[str, str]]:
    """The summary as (label, value) lines for people."""
    rows = [
        ("model", f"{summary['model']}, loaded in {summary['load_seconds']:.2f} s"),
        ("weights", f"{_bytes(summary['mapped_bytes'])} mapped, {_bytes(summary['repacked_bytes'])} repacked"),
        (
            "device",
            f"{summary['device']}{' ' if summary['isa'] else ''}{summary['isa']}, "
            f"{_plural(summary['threads'], 'thread')}",
        ),
        ("prompt", f"{_plural(summary['prompt_tokens'], 'token')}, {_rate(summary['prefill_tokens_per_second'])}"),
        ("generated", f"{_plural(summary['generated_tokens'], 'token')}, {_rate(summary['decode_tokens_per_second'])}"),
        ("command buffers per token", _count(summary["command_buffers_per_token"])),
        ("bytes read back per token", _count(summary["readback_bytes_per_token"])),
        ("dispatches per layer", _count(summary["dispatches_per_layer"])),
        ("peak memory", _bytes(summary["peak_memory_bytes"])),
    ]
    if summary["seed"] is not None:
        rows.append(("seed", f"{summary['seed']}, temperature {summary['temperature']:g}"))
    if summary["failed"]:
        rows.append(("failed", f"{summary['failed']} of {_plural(summary['prompts'], 'prompt')}"))
    return rows + expert_rows(summary["expert_tokens"], blocks)


def expert_rows(counts: list[list[int]], blocks: str = BLOCKS) -> list[tuple[str, str]]:
    """How the load spread over the experts: one bar per expert, one group of bars per layer, and the extremes.

    Where the layers do not fit in CHART_LINES lines, there is one group: the layers' mean, with the busiest expert of
    each layer first.
    """
    counts = [layer for layer in counts if sum(layer)]
    if not counts:
        return []
    experts = len(counts[0])
    shares = [[count / sum(layer) for count in layer] for layer in counts]
    per_line = CHART_WIDTH // (experts + 1)
    if per_line and len(shares) <= per_line * CHART_LINES:
        top = max(max(layer) for layer in shares)
        groups = [_bars(layer, top, blocks) for layer in shares]
        bar = "|" if blocks == ASCII_BLOCKS else "│"
        lines = [bar.join(groups[i : i + per_line]) for i in range(0, len(groups), per_line)]
        label = "expert load by layer"
    else:
        ranked = [sum(column) / len(shares) for column in zip(*(sorted(s, reverse=True) for s in shares), strict=True)]
        bars = _binned(ranked, CHART_WIDTH)
        lines, label = [_bars(bars, max(bars), blocks)], "expert load, busiest first"
    rows = [(label if i == 0 else "", line) for i, line in enumerate(lines)]
    return rows + [("", _extremes(shares, experts))]


def _extremes(shares: list[list[float]], experts: int) -> str:
    layer, expert = max(((i, j) for i in range(len(shares)) for j in range(experts)), key=lambda k: shares[k[0]][k[1]])
    idle = sum(share == 0 for one in shares for share in one)
    text = f"even {1 / experts:.1%}, most {shares[layer][expert]:.1%} (layer {layer}, expert {expert})"
    return text + (f", {idle} idle" if idle else "")


def _bars(shares: list[float], top: float, blocks: str) -> str:
    """One character per share; only an expert that was never chosen gets the lowest, a blank."""
    return "".join(blocks[math.ceil(share / top * (len(blocks) - 1))] for share in shares)


def _binned(values: list[float], width: int) -> list[float]:
    """The values cut to at most `width` of them, each the mean of an equal stretch."""
    size = -(-len(values) // width)
    return [sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)]


def peak_memory() -> int:
    """The process's largest resident memory so far, in bytes."""
    try:
        with open(_STATUS) as status:  # getrusage counts the parent's memory before exec, too
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _ratio(amount: float, over: float, digits: int) -> float | None:
    """amount / over, whole where it is; None for nothing over nothing."""
    if not over:
        return None
    value = round(float(amount) / float(over), digits)
    return int(value) if value.is_integer() else value


def _rate(value: float | None) -> str:
    return "too few to time" if value is None else f"{value:,.0f} tok/s"


def _count(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
