"""The forms of `--buffer INDEX=...`, and the bytes that each stands for."""

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..cli.program import file_path
from ..errors import UsageError

__all__ = ["BufferOption", "parse_buffer", "shown", "storage"]

# Metal's names come first: its `float` has 32 bits.
_METAL = {
    "float": "float32",
    "half": "float16",
    "char": "int8",
    "uchar": "uint8",
    "short": "int16",
    "ushort": "uint16",
    "int": "int32",
    "uint": "uint32",
    "long": "int64",
    "ulong": "uint64",
    "bfloat": "bfloat16",
}
_NUMPY = ("float32", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")
_BFLOAT16 = "bfloat16"  # which NumPy lacks: its bits are kept as uint16
KINDS = ("zeros", "ones", "random", "empty")
MOST_BYTES = 1 << 32
FORM = (
    "INDEX=FILE.npy, INDEX=zeros|ones|empty:SHAPE:DTYPE, INDEX=random:SHAPE:DTYPE[:SEED], INDEX=VALUE,...:DTYPE "
    "or INDEX=struct:MEMBER=VALUE|BUFFER,..."
)
STRUCT = "struct"


@dataclass(frozen=True)
class BufferOption:
    """One `--buffer`.

    dtype    a name of NumPy's, or "bfloat16", whose `values` are bits; or "struct"
    values   None for memory that nothing writes before the kernel
    members  of a struct, whose layout the kernel's signature has: numbers, or names of buffers that they point to
    name     what --dispatch, --save and --expect call it: its index, unless it was given a name
    """

    index: int
    shape: tuple[int, ...]
    dtype: str
    values: np.ndarray | None
    members: Mapping[str, Sequence[float | str]] | None = None
    name: str = ""

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * storage(self.dtype).itemsize  # 0 for a struct


def storage(dtype: str) -> np.dtype:
    """The NumPy dtype that keeps values of `dtype`."""
    return np.dtype({_BFLOAT16: "uint16", STRUCT: "uint8"}.get(dtype, dtype))


def shown(values: np.ndarray, dtype: str) -> np.ndarray:
    """The values as numbers to look at."""
    return (values.astype(np.uint32) << 16).view(np.float32) if dtype == _BFLOAT16 else values


def parse_buffer(text: str, where: str = "", *, named: bool = False) -> BufferOption:
    """The option that `text` states. UsageError says what is wrong with it, and `where`; `named`: a name may stand in
    place of the index, which is then -1."""
    name, equals, what = text.partition("=")
    name, where = name.strip(), where or f"--buffer {text}"
    is_name = named and re.fullmatch(r"[A-Za-z_]\w*", name) is not None
    if not equals or not (name.isdecimal() or is_name) or not what:
        raise UsageError(f"{where}: write {FORM}")
    try:
        option = _parse(-1 if is_name else int(name), what)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if option.nbytes == 0 and option.members is None:
        raise UsageError(f"{where}: an empty array; a buffer has 1 to {MOST_BYTES} bytes")
    return replace(option, name=name if is_name else str(int(name)))


def _parse(index: int, what: str) -> BufferOption:
    kind, *parts = what.split(":")
    if kind in KINDS:
        if len(parts) not in ((2, 3) if kind == "random" else (2,)):
            raise UsageError(
                f"write {kind}:SHAPE:DTYPE{'[:SEED]' if kind == 'random' else ''}, as in {kind}:4,8:float32"
            )
        dtype = _dtype(parts[1])
        shape = _shape(parts[0], storage(dtype).itemsize)
        seed = _whole(parts[2], "the seed") if len(parts) == 3 else 0
        return BufferOption(index, shape, dtype, _filled(kind, shape, dtype, seed))
    if kind == STRUCT:
        return BufferOption(index, (0,), STRUCT, None, _members(what.partition(":")[2]))
    if what.endswith(".npy") or len(parts) != 1:
        return _file(index, what)
    return _values(index, kind, parts[0])


def _members(text: str) -> dict[str, Sequence[float | str]]:
    members: dict[str, Sequence[float | str]] = {}
    for part in text.split(","):
        name, _, values = part.partition("=")
        if name.strip() in members:
            raise UsageError(f"struct:{text}: {name.strip()} is given twice; give it once")
        try:
            members[name.strip()] = [_member(value.strip()) for value in values.split(":")]
        except ValueError:
            raise UsageError(
                f"{part!r}: write struct:MEMBER=VALUE,..., as in struct:n=1000,scale=0.5; VALUE:VALUE:... for an array"
            ) from None
    return members


def _member(text: str) -> float | str:
    """A number, or the name of a buffer."""
    with contextlib.suppress(ValueError):
        return int(text, 0)
    with contextlib.suppress(ValueError):
        return float(text)
    known = {"true": 1, "false": 0}.get(text.lower())
    if known is None and not re.fullmatch(r"[A-Za-z_]\w*", text):
        raise ValueError
    return text if known is None else known


def _shape(text: str, itemsize: int) -> tuple[int, ...]:
    sizes = tuple(_whole(part, "a size of the shape") for part in text.split(","))
    if not 0 < math.prod(sizes) * itemsize <= MOST_BYTES:
        raise UsageError(f"{math.prod(sizes) * itemsize} bytes; a buffer has 1 to {MOST_BYTES}")
    return sizes


def _whole(text: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,19}", text.strip()):
        raise UsageError(f"{what} is a whole number, not {text!r}")
    return int(text)


def _dtype(text: str) -> str:
    name = _METAL.get(text, text)
    if name not in (*_NUMPY, _BFLOAT16):
        raise UsageError(f"no dtype {text!r} in Metal; use one of {', '.join((*_NUMPY, _BFLOAT16))}")
    return name


def _filled(kind: str, shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray | None:
    if kind == "empty":
        return None
    if kind == "random":
        draw = np.random.default_rng(seed)
        if "float" in dtype:
            return _stored(draw.standard_normal(shape, np.float32), dtype)
        return draw.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    return _stored(np.full(shape, kind == "ones", np.float32), dtype)


def _stored(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype != _BFLOAT16:
        return values.astype(dtype)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def _values(index: int, text: str, dtype_text: str) -> BufferOption:
    dtype = _dtype(dtype_text)
    values = np.array([_value(word.strip(), dtype) for word in text.split(",")])
    return BufferOption(index, values.shape, dtype, values if dtype != _BFLOAT16 else _stored(values, dtype))


def _value(text: str, dtype: str) -> np.generic:
    try:
        if "float" in dtype:
            with np.errstate(over="ignore"):
                return np.float32(float(text)) if dtype == _BFLOAT16 else np.dtype(dtype).type(float(text))
        if dtype == "bool":
            return np.bool_({"0": 0, "1": 1, "false": 0, "true": 1}[text.lower()])
        number = int(text, 0)
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is no {dtype}; write {FORM}") from None
    limits = np.iinfo(dtype)
    if not limits.min <= number <= limits.max:
        raise UsageError(f"{text} does not fit {dtype}, which holds {limits.min} to {limits.max}")
    return np.dtype(dtype).type(number)


def _file(index: int, name: str) -> BufferOption:
    path = Path(file_path(name))
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        hint = "check the path" if name.endswith(".npy") else f"write {FORM}"
        raise UsageError(f"{name}: no such file; {hint}") from None
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise UsageError(f"{name}: no array in NumPy's .npy format: {error}") from None
    if not isinstance(values, np.ndarray):
        values.close()
        raise UsageError(f"{name}: several arrays; save one with numpy.save")
    return _from_array(index, name, values)


def _from_array(index: int, name: str, values: np.ndarray) -> BufferOption:
    values = np.ascontiguousarray(values)
    if values.dtype.kind in "fc" and values.dtype.itemsize >= 8:
        raise UsageError(f"{name}: {values.dtype}, which Metal lacks; save it as float32")
    if values.dtype.kind == "O":
        raise UsageError(f"{name}: Python objects; save numbers")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.name not in _NUMPY:  # records, structs of the shader's: their bytes
        values = np.frombuffer(values.tobytes(), np.uint8)
    return BufferOption(index, values.shape, values.dtype.name, values)
