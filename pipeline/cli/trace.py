"""Chrome's trace format (chrome://tracing, Perfetto): every dispatch as a slice on the device's timeline.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("Trace Event Format").
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..generation.requests import TraceEvent
from ..host import write_whole

__all__ = ["chrome_events", "write_trace"]

_PROCESS = 1
_STEPS = 0  # the lane of decode steps; dispatches lie in the lanes after it


def write_trace(path: Path, events: Iterable[TraceEvent], device: str) -> None:
    """Writes `events` (name, step, start_seconds, end_seconds, command_buffer) under `path`, all or nothing."""
    text = json.dumps({"traceEvents": chrome_events(events, device), "displayTimeUnit": "ms"})
    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"--trace {path}: cannot be written: {error.strerror or error}") from error


def chrome_events(events: Iterable[TraceEvent], device: str) -> list[dict[str, Any]]:
    """The list of trace events, with times in microseconds from the first dispatch. One command buffer is one step."""
    ordered = sorted(events, key=lambda event: (event.start_seconds, event.end_seconds))
    origin = ordered[0].start_seconds if ordered else 0.0
    lanes: list[float] = []  # the end of each lane's last dispatch: one that overlaps it goes to the next lane
    steps: dict[int, list[float]] = {}
    slices: list[dict[str, Any]] = []
    for event in ordered:
        lane = next((i for i, end in enumerate(lanes) if end <= event.start_seconds), len(lanes))
        lanes[lane : lane + 1] = [event.end_seconds]
        span = steps.setdefault(event.command_buffer, [event.start_seconds, event.end_seconds])
        span[1] = max(span[1], event.end_seconds)
        details = {"step": event.step, "command_buffer": event.command_buffer}
        slices.append(_slice(event.name, _STEPS + 1 + lane, event.start_seconds, event.end_seconds, origin, details))
    spans = [_slice(f"decode step {n}", _STEPS, start, end, origin, {}) for n, (start, end) in steps.items()]
    names = ["decode steps"] + ["dispatches" if i == 0 else f"dispatches, overlap {i}" for i in range(len(lanes))]
    return (
        [_name("process_name", 0, f"Onebuf on {device}")]
        + [_name("thread_name", lane, name) for lane, name in enumerate(names)]
        + spans
        + slices
    )


def _slice(name: str, lane: int, start: float, end: float, origin: float, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "ph": "X",
        "pid": _PROCESS,
        "tid": lane,
        "ts": round((start - origin) * 1e6, 3),
        "dur": round((end - start) * 1e6, 3),
        "args": details,
    }


def _name(kind: str, lane: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": _PROCESS, "tid": lane, "args": {"name": name}}
