"""One tensor of a weight file, whatever the file's format, and how messages name such things."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..printing import one_line

__all__ = ["TensorInfo", "listed", "quoted"]

MOST_NAME = 200  # characters of a name in a list


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: `nbytes` bytes from byte `offset` of `file` (an absolute offset, not always aligned).

    dtype   safetensors' name ("BF16", "U32") or GGUF's ("Q4_K"); a type that both have goes by one name
    shape   in elements, the dimension whose elements lie together last
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int


def quoted(value: object) -> str:
    """`value` as one short line of JSON, whatever a hostile header holds."""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):
        text = "(nested)"
    except TypeError:
        text = f"an {type(value).__name__.lower()}"
    return text if len(text) <= 80 else text[:77] + "..."


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names for a message, in one line: the first `most` of them, and how many more there are."""
    names = list(names)
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(one_line(str(name), MOST_NAME) for name in names[:most]) + rest
