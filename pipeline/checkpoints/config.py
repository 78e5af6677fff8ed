"""A checkpoint's JSON: reading it, the fields in it, which modules are quantised and how, which tokens end a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, UnsupportedError
from ..graph.formats import AFFINE_BITS, FLOAT_MODES, GROUP_SIZES
from ..printing import one_line
from .files import read_file

__all__ = [
    "REQUIRED",
    "Quantization",
    "boolean",
    "integer",
    "is_positive",
    "module_quantization",
    "number",
    "quantization_table",
    "read_json",
    "token_ids",
]

REQUIRED: Any = object()  # in place of a default: the field must be there


@dataclass(frozen=True)
class Quantization:
    """MLX's quantisation: `bits` bits per weight and one scale per `group_size` weights of a row; in mode "affine" also
    one bias."""

    bits: int
    group_size: int
    mode: str = "affine"


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. CheckpointError names the file and the line."""
    try:
        text = read_file(file).decode("utf-8-sig")
        value = json.loads(text)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: not found; a checkpoint's folder needs it") from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise CheckpointError(f"{file}: nested too deeply; download it again") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError too
        raise CheckpointError(f"{file}: not JSON: {one_line(str(error))}; download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: holds {_kind(value)}, not a JSON object; download it again")
    return value


def integer(
    config: Mapping[str, Any], key: str, default: Any = REQUIRED, *, least: int = 1, source: str = "config.json"
) -> int:
    """`config[key]`, a whole number of at least `least`; `default` where the key is absent or null."""
    value: int = _field(
        config, key, default, source, f"a whole number of at least {least}", lambda v: _is_whole(v, least)
    )
    return value


def number(config: Mapping[str, Any], key: str, default: Any = REQUIRED, *, source: str = "config.json") -> float:
    """`config[key]`, a number that `is_positive`; `default` where the key is absent or null."""
    return float(_field(config, key, default, source, "a number above 0 (1e-18 to 1e18)", is_positive))


def boolean(config: Mapping[str, Any], key: str, default: Any = REQUIRED, *, source: str = "config.json") -> bool:
    """`config[key]`, true or false; `default` where the key is absent or null."""
    value: bool = _field(config, key, default, source, "true or false", lambda v: isinstance(v, bool))
    return value


def _field(
    config: Mapping[str, Any], key: str, default: Any, source: str, kind: str, accept: Callable[[Any], bool]
) -> Any:
    value = config.get(key)
    if value is None:
        if default is REQUIRED:
            raise CheckpointError(f"{source}: has no {key!r}, which must be {kind}; download it again")
        return default
    if not accept(value):
        raise CheckpointError(f"{source}: {key!r} must be {kind}, found {_kind(value)}")
    return value


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**31


def is_positive(value: Any) -> bool:
    """Whether it is a number above 0 whose square and reciprocal a float32 holds, as the steps of a model need them."""
    return type(value) in (int, float) and 1e-18 <= value <= 1e18


def _kind(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def token_ids(config: Mapping[str, Any], key: str, source: str) -> tuple[int, ...]:
    """`config[key]` as token ids; the field holds one id, a list of them, or null. Negative ones stand for none."""
    value = config.get(key)
    values: list[Any] = [item for item in (value if isinstance(value, list) else [value]) if item is not None]
    if not all(_is_whole(item, -(2**31)) for item in values):
        raise CheckpointError(f"{source}: {key!r} must be a token id or a list of them, found {_kind(value)}")
    return tuple(item for item in values if item >= 0)


def quantization_table(config: Mapping[str, Any], source: str) -> dict[str, Any] | None:
    """The part of config.json that says what MLX quantised, None where nothing is.

    MLX writes `quantization` (and the same again as `quantization_config`). A `quantization_config` with a
    `quant_method` is another library's (`packed/methods.py`).
    """
    for key in ("quantization", "quantization_config"):
        table = config.get(key)
        if table is not None:
            if not isinstance(table, dict):
                raise CheckpointError(f"{source}: {key!r} must be an object, found {_kind(table)}")
            return None if key == "quantization_config" and "quant_method" in table else table
    return None


def module_quantization(table: Mapping[str, Any], module: str, scaled: bool, source: str) -> Quantization | None:
    """How `module` is quantised: its own entry where the table has one, else the table's default where `scaled`.

    `scaled`: the checkpoint has scales for the module, which is how MLX tells what the default applies to.
    """
    entry = table.get(module, scaled)
    if entry is False:
        return None
    if entry is True:
        entry = table
    where = f"{source}: quantisation of {module}"
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where} must be an object or false, found {_kind(entry)}")
    mode = entry.get("mode", "affine")
    bits, group_size = entry.get("bits"), entry.get("group_size")
    if isinstance(mode, str) and mode in _DEFAULTS:  # what it lacks, or null, is MLX's default, not the table's
        bits = _DEFAULTS[mode][0] if bits is None else bits
        group_size = _DEFAULTS[mode][1] if group_size is None else group_size
    if isinstance(mode, str) and mode in FLOAT_MODES:
        if (bits, group_size) != FLOAT_MODES[mode]:
            its_bits, its_size = FLOAT_MODES[mode]
            raise CheckpointError(
                f"{where} has mode {mode} with {_kind(bits)} bits in groups of {_kind(group_size)}; "
                f"it is {its_bits} bits in groups of {its_size}"
            )
        return Quantization(*FLOAT_MODES[mode], mode)
    if mode != "affine":
        raise UnsupportedError(f"{where} has mode {_kind(mode)}; supported: {_list(_DEFAULTS)}")
    if type(bits) is not int or bits not in AFFINE_BITS:
        raise UnsupportedError(f"{where} has {_kind(bits)} bits; supported: {_list(AFFINE_BITS)}")
    if type(group_size) is not int or group_size not in GROUP_SIZES:
        raise UnsupportedError(f"{where} has group size {_kind(group_size)}; supported: {_list(GROUP_SIZES)}")
    return Quantization(bits, group_size)


_DEFAULTS = {"affine": (4, 64), **FLOAT_MODES}  # mode -> bits and group size


def _list(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)
