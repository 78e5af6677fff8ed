"""Damages whole models: any of their files, by a number that decides everything, so that each damage can be made again.

Configurations, tokenizers and indices are changed as JSON, weight files in their headers or in their data, GGUF files
in their keys or as bytes; now and then a file becomes something else.
"""

from __future__ import annotations

import json
import random
import struct

from support import gguf_files

from fuzz import mutations, tiny

NUMBERS = (
    *mutations.NUMBERS,
    -1,
    -(2**31),
    2**31 - 2,
    10**6,
    10**9,
    0.0,
    -0.0,
    0.5,
    1e-300,
    1e-45,
    1e38,
    3.5e38,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    10**400,
)
TEXTS = (
    "",
    "x" * 300,
    "x" * 100_000,
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b31m",
    "a\nb",
    "\ud800",
    "\u202e",
    "../x",
    "llama",
    "sliding_attention",
    "yarn",
    "linear",
    "mxfp4",
    "full_attention",
    "\x00",
)
OTHERS = (None, True, False, [], {}, [1], [[]], {"a": 1}, [None] * 40, {"0": {}})
WORDS = (0, 0xFFFFFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF, 0x00000001, 0x7C007C00, 0x80000000)
FOLDER, FIFO, DEVICE, LONG = "folder", "fifo", "device", "long"  # what a file may become
KINDS = {FOLDER, FIFO, DEVICE, LONG}


def damaged(number: int) -> tuple[str, dict[str, bytes | str]]:
    """(the model's name, its files): contents, or one of KINDS."""
    rng = random.Random(number)
    models = tiny.models()
    model = models[number % len(models)]
    files: dict[str, bytes | str] = dict(model.files)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _damage(rng, files)
    return model.name, files


def _damage(rng: random.Random, files: dict[str, bytes | str]) -> None:
    name = rng.choice([name for name in _weighed(files) if isinstance(files[name], bytes)] or [""])
    content = files.get(name)
    if not isinstance(content, bytes):
        return
    if rng.random() < 0.02:
        files[name] = rng.choice(sorted(KINDS))
    elif rng.random() < 0.02:
        del files[name]
    elif name.endswith(".gguf"):
        files[name] = _gguf(rng, content)
    elif name.endswith(".safetensors"):
        files[name] = _weights(rng, content)
    else:
        files[name] = _text(rng, content)


def _weighed(files: dict) -> list[str]:
    """The files' names, the configuration more often than others."""
    names = []
    for name in files:
        names += [name] * {"config.json": 6, "tokenizer.json": 3, "model.gguf": 1}.get(name, 2)
    return names


# JSON


def _text(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.15:
        return mutations.mutated_bytes([content], rng.getrandbits(40))
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return mutations.mutated_bytes([content], rng.getrandbits(40))
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.4:
            _change_number(rng, value)
        else:
            _change(rng, value)
    text = json.dumps(value)
    if rng.random() < 0.01:
        text = "[" * 100_000 + text
    return text.encode()


def _change(rng: random.Random, value) -> None:
    """One place in a tree of objects and lists."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys:
        return
    key = rng.choice(keys)
    inner = value[key]
    if isinstance(inner, (dict, list)) and inner and rng.random() < 0.7:
        _change(rng, inner)
        return
    what = rng.random()
    if what < 0.1:
        del value[key]
    elif what < 0.2 and len(keys) > 1:
        other = rng.choice(keys)
        value[key], value[other] = value[other], value[key]
    elif what < 0.25 and isinstance(value, dict):
        value[rng.choice(TEXTS)] = inner
    elif what < 0.35:
        value[key] = json.loads(json.dumps(rng.choice(OTHERS)))
    elif what < 0.45:
        value[key] = rng.choice(TEXTS)
    elif type(inner) is int and what < 0.7:
        value[key] = rng.choice(
            (inner + 1, inner - 1, inner * 2, inner // 2, -inner, inner + 0.5 if inner < 2**60 else "1")
        )
    else:
        value[key] = rng.choice(NUMBERS)


def _change_number(rng: random.Random, value) -> None:
    """One number at the top of an object becomes an extreme one."""
    keys = [key for key, inner in value.items() if type(inner) in (int, float)] if isinstance(value, dict) else []
    if keys:
        value[rng.choice(keys)] = rng.choice(NUMBERS)
    else:
        _change(rng, value)


# Weights


def _weights(rng: random.Random, content: bytes) -> bytes:
    what = rng.random()
    if what < 0.2:
        return mutations.mutated_bytes([content], rng.getrandbits(40))
    try:
        header, data = tiny.read_safetensors(content)
    except (ValueError, RecursionError):
        return mutations.mutated_bytes([content], rng.getrandbits(40))
    if what < 0.55:
        return tiny.safetensors(header, _data(rng, data))
    if what < 0.7:
        _change(rng, header)
    elif header:
        _rename(rng, header)
    return tiny.safetensors(header, data)


def _data(rng: random.Random, data: bytes) -> bytes:
    """Numbers at their extremes, one or a row of them, or all."""
    content = bytearray(data)
    if rng.random() < 0.1:
        return struct.pack("<I", rng.choice(WORDS)) * (len(content) // 4) + bytes(len(content) % 4)
    for _ in range(rng.choice((1, 3, 20))):
        at, count = rng.randrange(max(len(content) - 3, 1)), rng.choice((1, 1, 64, 4096))
        count = max(min(count, (len(content) - at) // 4), 0)
        content[at : at + 4 * count] = struct.pack("<I", rng.choice(WORDS)) * count
    return bytes(content)


_SIZES = {"F32": 4, "U32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U8": 1, "I8": 1, "F8_E4M3": 1, "BOOL": 1}


def _rename(rng: random.Random, header: dict) -> None:
    """A header that is right in itself: other dtypes, other shapes of as many bytes, other names."""
    name = rng.choice(list(header))
    entry = header[name]
    if not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
        return
    shape, dtype, what = entry["shape"], entry.get("dtype"), rng.random()
    if what < 0.4 and dtype in _SIZES:
        entry["dtype"] = rng.choice([other for other, size in _SIZES.items() if size == _SIZES[dtype]])
    elif what < 0.6:
        rng.shuffle(shape)
    elif what < 0.7 and len(shape) > 1:
        shape[:2] = [shape[0] * shape[1]]
    elif what < 0.75:
        shape.append(1)
    else:
        other = rng.choice((*header, name + "x", name.replace("weight", "scales"), rng.choice(TEXTS)))
        header[other], header[name] = header[name], header.get(other, entry)


# GGUF


def _gguf(rng: random.Random, content: bytes) -> bytes:
    """A key's value, a tensor's entry, the data, or bytes."""
    what = rng.random()
    if what < 0.2:
        return mutations.mutated_bytes([content], rng.getrandbits(40))
    found = spans(content)
    if what < 0.35 or not found:
        start = len(content) // 4
        return content[:start] + _data(rng, content[start:])
    at, size, kind = rng.choice(found)
    changed = bytearray(content)
    if kind in "fd":
        number = rng.choice(
            [n for n in NUMBERS if isinstance(n, float) and (kind == "d" or not 3.4e38 < abs(n) < 1e309)]
        )
        struct.pack_into("<" + kind, changed, at, number)
    else:
        number = rng.choice([n for n in NUMBERS if type(n) is int])
        changed[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(changed)


def spans(content: bytes) -> list[tuple[int, int, str]]:
    """(place, bytes, form) of every number among the metadata, with those of arrays, and of the tensors' entries."""
    found: list[tuple[int, int, str]] = []
    try:
        _, tensors, pairs = struct.unpack_from("<IQQ", content, 4)
        at = 24
        for _ in range(min(pairs, 1000)):
            at += 8 + struct.unpack_from("<Q", content, at)[0]
            (kind,) = struct.unpack_from("<I", content, at)
            found.append((at, 4, "I"))
            at = _value(content, at + 4, kind, found, 0)
        for _ in range(min(tensors, 1000)):
            at += 8 + struct.unpack_from("<Q", content, at)[0]
            (dimensions,) = struct.unpack_from("<I", content, at)
            found.append((at, 4, "I"))
            found += [(at + 4 + 8 * i, 8, "Q") for i in range(min(dimensions, 8))]
            at += 4 + 8 * dimensions
            found += [(at, 4, "I"), (at + 4, 8, "Q")]
            at += 12
    except (struct.error, KeyError, OverflowError):
        pass  # damaged before: what was found will do
    return found


def _value(content: bytes, at: int, kind: int, found: list, depth: int) -> int:
    """Notes the numbers of a value; returns where it ends."""
    if kind == gguf_files.STRING:
        return at + 8 + struct.unpack_from("<Q", content, at)[0]
    if kind == gguf_files.ARRAY:
        inner, count = struct.unpack_from("<IQ", content, at)
        found.append((at + 4, 8, "Q"))
        at += 12
        for i in range(min(count, 10_000)):
            at = _value(content, at, inner, found if i < 3 else [], depth + 1)
        return at
    form = gguf_files.FORMS[kind]
    size = struct.calcsize("<" + form)
    found.append((at, size, form))
    return at + size
