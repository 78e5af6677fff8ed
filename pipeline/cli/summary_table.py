"""A run's summary as a table for people: lines of label and value, and the load of the experts as bars."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

__all__ = ["ASCII_BLOCKS", "BLOCKS", "CHART_WIDTH", "Summary", "expert_rows", "to_rows"]

Summary: TypeAlias = dict[str, Any]  # with the keys that docs/command-line.md lists


BLOCKS, ASCII_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*#%@"


CHART_WIDTH = 54  # with the labels it fits 80 columns


CHART_LINES = 4


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
    if "perplexity" in summary:
        value = "too few tokens" if summary["perplexity"] is None else f"{summary['perplexity']:,.4f}"
        how = f"{_plural(summary['scored_tokens'], 'token')}, window {summary['window']}, stride {summary['stride']}"
        rows.append(("perplexity", f"{value} ({how})"))
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
