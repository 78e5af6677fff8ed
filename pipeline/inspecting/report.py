"""The facts as lines for people."""

from __future__ import annotations

from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.tensor_info import listed
from ..graph.plan import human
from .facts import token_bytes

__all__ = ["lines", "tensor_lines"]

MOST_PROBLEMS = 10


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts as aligned lines, with the longest list cut."""
    rows = [
        ("model", f"{facts['model']}: {facts['format']}, {_plural(facts['files'], 'file')}, {human(facts['bytes'])}"),
        ("family", f"{facts['family']}"),
        (
            "config",
            ", ".join(
                f"{name.replace('_', ' ')} {_number(value)}"
                for name, value in facts["config"].items()
                if value is not None
            ),
        ),
        *_types(facts["tensors"]),
        *_runs(facts["runs"]),
        *_memory(facts),
        *_tokenizer(facts["tokenizer"]),
    ]
    if facts["unused"]:
        rows.append(("unused", f"{_plural(len(facts['unused']), 'tensor')}: {listed(facts['unused'])}"))
    problems = facts["unsupported"]
    rows += [("unsupported" if i == 0 else "", text) for i, text in enumerate(problems[:MOST_PROBLEMS])]
    if len(problems) > MOST_PROBLEMS:
        rows.append(("", f"and {len(problems) - MOST_PROBLEMS:,} more"))
    if not problems:
        rows.append(("unsupported", "nothing"))
    width = max(len(label) for label, _ in rows)
    return [f"{label:<{width}}  {value}".rstrip() for label, value in rows]


def tensor_lines(checkpoint: Checkpoint) -> list[str]:
    """One line per tensor: its name, type, shape and bytes, and how many of them a token reads."""
    read = token_bytes(checkpoint)
    rows = [
        (
            name,
            info.dtype,
            " × ".join(map(str, info.shape)) or "scalar",
            human(info.nbytes),
            f"{human(round(read[name]))} per token" if name in read else "",
        )
        for name, info in checkpoint.tensors.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _types(types: list[dict[str, Any]]) -> list[tuple[str, str]]:
    total = sum(kind["bytes"] for kind in types) or 1
    texts = [
        f"{kind['type']}: {_plural(kind['tensors'], 'tensor')}, {human(kind['bytes'])}, {kind['bytes'] / total:.1%}"
        + (
            f"; {human(kind['bytes_per_token'])} per token, {kind['share']:.1%} of that"
            if kind.get("bytes_per_token") is not None
            else ""
        )
        for kind in types
    ]
    return [("tensors" if i == 0 else "", text) for i, text in enumerate(texts)]


def _runs(runs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The kernels that read weights, by formats."""
    texts = []
    for entry in runs:
        kernels = ", ".join(f"{name} × {count:,}" for name, count in entry["kernels"].items())
        hand = "; projections and experts by hand on cpu (x86-64)" if entry["native"] else ""
        texts.append(f"{entry['format']}: {kernels}{hand}")
    return [("kernels" if i == 0 else "", text) for i, text in enumerate(texts)]


def _memory(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    memory, active = facts["memory"], facts["active"]
    if memory is not None:
        rows.append(
            ("memory", f"{human(memory['mapped_bytes'])} mapped, {human(memory['repacked_bytes'])} repacked at load")
        )
        rows += [("", f"repacked: {human(nbytes)} {why}") for why, nbytes in memory["repacked"].items()]
        whole, position = memory["kv_cache_bytes"], memory["kv_cache_bytes_per_position"]
        rows.append(
            (
                "",
                f"KV cache in {memory['kv_cache_dtype']}: {human(whole)} for a context of {memory['context']:,}, "
                f"from {human(position)} at its first position",
            )
        )
        if memory["state_bytes"]:
            rows.append(
                ("", f"recurrent layers: {human(memory['state_bytes'])} of state per sequence, whatever its length")
            )
    if active is not None:
        cache = f", and up to {human(memory['kv_cache_bytes'])} of KV cache" if memory is not None else ""
        rows.append(("active", f"{human(active['weight_bytes'])} of weights per token{cache}"))
    return rows


def _tokenizer(tokenizer: dict[str, Any]) -> list[tuple[str, str]]:
    if "error" in tokenizer:
        return []
    begin = "none" if tokenizer["bos_token"] is None else tokenizer["bos_token"]
    end = listed(tokenizer["end_tokens"]) or "none"
    chat = listed(tokenizer["chat_templates"]) or "none"
    return [("tokenizer", f"{tokenizer['tokens']:,} tokens, beginning {begin}, ends {end}; chat templates: {chat}")]


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
