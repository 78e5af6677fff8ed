"""One inspection from the command line: the checkpoint is opened, and its facts are printed."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints.opening import open_checkpoint
from ..printing import printable, to_json
from . import facts, report

__all__ = ["inspect"]


def inspect(model: Path, context: int | None, kv_cache: str, *, tensors: bool, json: bool) -> bool:
    """Whether the checkpoint can be run. tensors: every tensor is listed, too; json: the facts as one JSON object."""
    with open_checkpoint(model) as checkpoint:
        found = facts.gather(checkpoint, context, kv_cache)
        if json:
            print(to_json(found, indent=2))
        else:
            lines = [*report.tensor_lines(checkpoint), ""] if tensors else []
            print("\n".join(printable(line.replace("\n", " ")) for line in [*lines, *report.lines(found)]))
    return not found["unsupported"]
