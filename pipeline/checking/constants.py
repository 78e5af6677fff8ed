"""Function constants on the command line: `--constant NAME=VALUE` as values, and stand-ins for those not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError

__all__ = ["ConstantInfo", "describe", "placeholders", "values"]


@dataclass(frozen=True)
class ConstantInfo:
    """A function constant that a kernel uses; `type` is an MTLDataType."""

    name: str
    index: int
    type: int
    required: bool


# (name, first MTLDataType of the scalar and its vectors of two to four)
_TYPES = (
    ("float", 3),
    ("half", 16),
    ("int", 29),
    ("uint", 33),
    ("short", 37),
    ("ushort", 41),
    ("char", 45),
    ("uchar", 49),
    ("bool", 53),
    ("long", 81),
    ("ulong", 85),
    ("bfloat", 121),
)
_WORDS = {"true": True, "false": False, "1": True, "0": False}


def _scalar(constant: ConstantInfo) -> tuple[str, int]:
    """The name of a constant's scalar, and how many there are."""
    return next((name, constant.type - first + 1) for name, first in _TYPES if 0 <= constant.type - first < 4)


def describe(constant: ConstantInfo) -> str:
    """The constant's type as Metal writes it."""
    name, count = _scalar(constant)
    return f"{name}{count if count > 1 else ''}"


def placeholders(constants: Sequence[ConstantInfo]) -> dict[str, object]:
    """A value for each constant that needs one, so that a kernel can be looked at."""
    return {each.name: 0 if _scalar(each)[1] == 1 else [0] * _scalar(each)[1] for each in constants if each.required}


def values(kernel: str, constants: Sequence[ConstantInfo], given: Mapping[str, str]) -> dict[str, object]:
    """The values that the options give. UsageError says which is missing, unknown, or does not fit."""
    known = {each.name: each for each in constants}
    for name in given:
        if name not in known:
            have = ", ".join(known) or "none"
            raise UsageError(
                f"--constant {name}: kernel {kernel} uses no function constant of that name; it has {have}"
            )
    for constant in constants:
        if constant.required and constant.name not in given:
            raise UsageError(
                f"kernel {kernel}: function constant '{constant.name}' ({describe(constant)}, index {constant.index}) "
                f"has no value; give --constant {constant.name}=VALUE"
            )
    return {name: _value(known[name], text) for name, text in given.items()}


def _value(constant: ConstantInfo, text: str) -> object:
    kind, count = _scalar(constant)
    parts = text.split(",")
    if len(parts) != count:
        raise UsageError(
            f"--constant {constant.name}={text}: a {describe(constant)} takes {count} value{'s' * (count > 1)}, "
            f"not {len(parts)}"
        )
    found = [_number(constant, kind, part.strip()) for part in parts]
    return found[0] if count == 1 else found


def _number(constant: ConstantInfo, kind: str, text: str) -> bool | float:
    try:
        if kind == "bool":
            return _WORDS[text.lower()]
        return float(text) if kind in ("float", "half", "bfloat") else int(text, 0)
    except (ValueError, KeyError):
        raise UsageError(f"--constant {constant.name}: {text!r} is no {kind}") from None
