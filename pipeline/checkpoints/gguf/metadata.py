"""The metadata of a GGUF file, by the keys of its architecture."""

from __future__ import annotations

from typing import Any

from ...errors import CheckpointError
from ..config import is_positive
from ..tensor_info import quoted
from .header import Header
from .values import FIX, Array

__all__ = ["MAX_LAYERS", "Metadata"]

MAX_LAYERS = 4096


class Metadata:
    """The values of one architecture, read by their keys without it; where one is wrong, errors name file and key."""

    def __init__(self, header: Header, architecture: str) -> None:
        self.header = header
        self.architecture = architecture

    def get(self, key: str, default: object = None) -> Any:
        """The value; an array as a list, or as its element where all are equal."""
        value: Any = self.header.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, Array):
            if len(value) > MAX_LAYERS:
                raise self.error(key, f"one value, or one for each of at most {MAX_LAYERS:,} layers", value)
            value = list(value)
            if value and all(item == value[0] for item in value):
                return value[0]
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.get(key, default)
        if type(value) is not int or not 0 <= value < 2**31:
            raise self.error(key, "a whole number", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if not is_positive(value):
            raise self.error(key, "a number above 0 (1e-18 to 1e18)", value)
        return float(value)

    def error(self, key: str, wanted: str, found: object) -> CheckpointError:
        what = "is missing" if found is None else f"holds {quoted(found)}"
        return CheckpointError(
            f'{self.header.file}: key "{self.architecture}.{key}" {what}, it must be {wanted}; {FIX}'
        )
