"""How another library stored the weight of a module, and the keys of its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import CheckpointError, UnsupportedError
from ...graph.formats import FP8_BLOCK
from ..tensor_info import TensorInfo

__all__ = ["EIGHT", "Aliases", "PackedWeight", "Packing", "Packings", "Table", "weight_name"]

KEY = "quantization_config"

Aliases: TypeAlias = Sequence[tuple[str, str]]
"""Beginnings of names that the text part of a larger model has, and what they were in the file."""


@dataclass(frozen=True)
class Packing:
    """How the weight of a module [outputs, inputs] is stored.

    layout      which tensors it is made of:
                gptq      qweight [inputs · bits / 32, outputs], qzeros, scales, perhaps g_idx
                awq       qweight [inputs, outputs / 8], qzeros, scales
                packed    weight_packed [outputs, inputs · bits / 32], weight_scale, perhaps weight_zero_point
                integers  weight of signed bytes, weight_scale, perhaps weight_zero_point
                fp8       weight of E4M3 numbers, a scale per tensor, per output or per block
                fp4       two E2M1 codes per byte, an E4M3 scale per 16 and one in F32 per tensor
                mxfp4     two E2M1 codes per byte, a power of two per 32
                mxfp8     weight of E4M3 numbers, a power of two per 32
    group_size  inputs that share a scale; 0: all of a row
    symmetric   whether the configuration says that zero points are the middle
    offset      what is added to stored zero points (GPTQ's first version stores them less one)
    block       outputs and inputs that share a scale, of fp8 and integers
    made_by     the tool, for messages
    """

    layout: str
    bits: int
    group_size: int = 0
    symmetric: bool = True
    offset: int = 0
    block: tuple[int, int] = (0, 0)
    made_by: str = ""

    def __str__(self) -> str:
        parts = f"{self.bits} bits" if self.layout not in ("fp8", "fp4", "mxfp4", "mxfp8") else self.layout
        groups = f" in groups of {self.group_size}" if self.group_size else ""
        return f"{self.made_by}, {parts}{groups}"


PARTS = (
    *("qweight", "qzeros", "scales", "g_idx", "weight", "weight_packed", "weight_scale", "weight_scale_inv"),
    *("weight_scale_2", "weight_global_scale", "weight_zero_point", "weight_g_idx", "weight_shape"),
)


@dataclass(frozen=True)
class PackedWeight:
    """A weight that another library quantised: its logical shape [..., outputs, inputs], and the tensors it is made
    of."""

    module: str
    packing: Packing
    shape: tuple[int, ...]
    parts: tuple[str, ...]

    @classmethod
    def of(cls, module: str, packing: Packing, tensors: Mapping[str, TensorInfo]) -> PackedWeight:
        """The one of a module whose weight is stored so."""
        names = [f"{module}.qweight", f"{module}.weight_packed", weight_name(module, tensors)]
        info = tensors[next(name for name in names if name in tensors)]
        *front, rows, columns = (0, 0, *info.shape)[-max(len(info.shape), 2) :]
        if packing.layout == "gptq":
            rows, columns = columns, rows * 32 // packing.bits
        elif packing.layout == "awq":
            rows, columns = columns * 8, rows
        elif packing.layout == "packed":
            columns = columns * 32 // packing.bits
        elif packing.layout in ("fp4", "mxfp4"):
            columns *= 2
        named = [*names, *(f"{module}.{part}" for part in PARTS)]
        named += [f"{names[-1]}{end}" for end in ("_scale", "_scale_inv")]
        return cls(module, packing, (*front, rows, columns), tuple(dict.fromkeys(n for n in named if n in tensors)))


class Packings:
    """How the modules of a checkpoint are stored. The base is for files of which no configuration says anything: their
    dtypes do.

    unapplied   what the configuration asks of activations and caches, which is not done; empty where it asks nothing
    passed      the last parts of names of tensors that belong to what is not done
    """

    unapplied = ""
    passed: tuple[str, ...] = ("input_scale", "activation_scale", "input_global_scale", "k_scale", "v_scale")

    def of(self, module: str, tensors: Mapping[str, TensorInfo]) -> Packing | None:
        """How the weight of `module` is stored; None where it is no other library's."""
        info = tensors.get(weight_name(module, tensors))
        return EIGHT if info is not None and info.dtype == "F8_E4M3" else None


EIGHT = Packing("fp8", 8, block=(FP8_BLOCK, FP8_BLOCK), made_by="fp8")


def weight_name(module: str, tensors: Mapping[str, TensorInfo]) -> str:
    """The tensor of a module; some families' stacks of experts have no suffix."""
    return module if module in tensors and f"{module}.weight" not in tensors else f"{module}.weight"


class Table:
    """An object of quantization_config. A value of a wrong type is refused with its key's full name."""

    def __init__(self, values: Mapping[str, Any], source: str, key: str = KEY) -> None:
        self.values = values
        self.source = source
        self.key = key

    def whole(self, key: str, default: int | None = None, least: int = 0) -> int:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not least <= value < 2**31:
            raise self.wrong(key, f"a whole number of at least {least}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return default if value is None else value

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a text")
        return default if value is None else value

    def names(self, key: str) -> list[str]:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, list) or not all(isinstance(item, str) for item in value)):
            raise self.wrong(key, "a list of names")
        return value or []

    def part(self, key: str) -> Table | None:
        """The object at `key`, None where there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return None if value is None else Table(value, self.source, f"{self.key}.{key}")

    def parts(self, key: str) -> dict[str, Table]:
        """The objects of the object at `key`, by their names."""
        whole = self.part(key)
        found = {} if whole is None else {name: whole.part(name) for name in whole.values}
        return {name: part for name, part in found.items() if part is not None}

    def pair(self, key: str) -> tuple[int, int] | None:
        """Two whole numbers of at least 1, None where there are none."""
        value = self.values.get(key)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) != 2
            or any(type(n) is not int or not 1 <= n < 2**31 for n in value)
        ):
            raise self.wrong(key, "two whole numbers of at least 1")
        return value[0], value[1]

    def wrong(self, key: str, kind: str) -> CheckpointError:
        found = "nothing" if self.values.get(key) is None else brief(self.values[key])
        return CheckpointError(f"{self.source}: {self.key}.{key} must be {kind}, found {found}")

    def unsupported(self, key: str, known: str) -> UnsupportedError:
        value = self.values.get(key)
        return UnsupportedError(
            f"{self.source}: {self.key}.{key} = {brief(value)} is not supported; supported: {known}"
        )


def brief(value: object) -> str:
    """A value as one short line of JSON."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
