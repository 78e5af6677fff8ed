"""Damages files: each mutation of a seed is decided by one number, so that any of them can be made again."""

import json
import random
import struct

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    9,
    12,
    13,
    31,
    32,
    33,
    64,
    255,
    256,
    4096,
    65_535,
    65_536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**61,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def mutated_bytes(seeds: list[bytes], number: int) -> bytes:
    """One of the seeds with one to eight damages."""
    rng = random.Random(number)
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(_BYTE_DAMAGES)(rng, content, seeds)
    return bytes(content)


def _place(rng, content) -> int:
    """A position, mostly near the start, where the counts are."""
    return min(int(rng.random() ** 2 * (len(content) + 1)), len(content))


def _bit(rng, content, _):
    if content:
        content[min(_place(rng, content), len(content) - 1)] ^= 1 << rng.randrange(8)


def _byte(rng, content, _):
    if content:
        content[min(_place(rng, content), len(content) - 1)] = rng.randrange(256)


def _integer(rng, content, _):
    """A number that is at a limit, or near one that was there."""
    at, size = _place(rng, content), rng.choice((4, 8))
    if at + size <= len(content):
        form = "<I" if size == 4 else "<Q"
        (old,) = struct.unpack_from(form, content, at)
        new = rng.choice((rng.choice(NUMBERS), old + rng.randint(-3, 3), old * 2, len(content) - at))
        struct.pack_into(form, content, at, new % (1 << 8 * size))


def _insert(rng, content, _):
    content[(at := _place(rng, content)) : at] = rng.randbytes(rng.choice((1, 4, 8, 32)))


def _delete(rng, content, _):
    at = _place(rng, content)
    del content[at : at + rng.choice((1, 4, 8, 12, 40))]


def _repeat(rng, content, _):
    """A piece again, behind itself: keys and tensors twice."""
    at, size = _place(rng, content), rng.choice((4, 8, 16, 40, 100))
    content[at + size : at + size] = content[at : at + size]


def _cut(rng, content, _):
    del content[_place(rng, content) :]


def _splice(rng, content, seeds):
    """From some place on as in another seed."""
    other = rng.choice(seeds)
    content[_place(rng, content) :] = other[_place(rng, other) :]


_BYTE_DAMAGES = (_bit, _byte, _integer, _integer, _integer, _insert, _delete, _repeat, _cut, _splice)


def mutated_json(header: dict, number: int) -> bytes:
    """A JSON header with values, keys or characters changed."""
    rng = random.Random(number)
    if rng.random() < 0.4:  # the text itself
        return mutated_bytes([json.dumps(header).encode()], number)
    value = json.loads(json.dumps(header))
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change(rng, value)
    text = json.dumps(value)
    if rng.random() < 0.1:  # a key twice, which a dictionary cannot hold
        text = text[:-1] + ", " + text[1:]
    return text.encode() + b" " * rng.choice((0, 0, 0, 3))


def _change(rng, container) -> None:
    """One place in a tree of dictionaries and lists."""
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    if not keys:
        return
    key = rng.choice(keys)
    inner = container[key]
    if isinstance(inner, (dict, list)) and inner and rng.random() < 0.8:
        _change(rng, inner)
    elif rng.random() < 0.15:
        del container[key]
    elif isinstance(container, dict) and rng.random() < 0.2:
        container[rng.choice(("", "x" * 200, "\n", "\ud800", "a", "dtype"))] = inner
    else:
        container[key] = rng.choice(
            (
                rng.choice(NUMBERS),
                -1,
                0.5,
                1e400,
                None,
                True,
                "",
                "F32",
                "U8",
                [],
                {},
                [0, 0],
                [1] * 40,
                inner + rng.choice((-8, -1, 1, 8)) if type(inner) is int else [inner],
                10**400,
            )
        )


def mutated_gguf(parts: list[tuple], number: int) -> bytes:
    """A GGUF file that is well-formed but for what its keys and tensors say."""
    from support import gguf_files as files

    rng = random.Random(number)
    metadata, tensors, rest = rng.choice(parts)
    metadata, tensors = dict(metadata), list(tensors)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if rng.random() < 0.6:
            key = rng.choice(list(metadata))
            if rng.random() < 0.15:
                del metadata[key]
            else:
                metadata[key] = _value(rng, files, 1)
        else:
            at = rng.randrange(len(tensors))
            tensors[at] = _tensor(rng, files, *tensors[at])
    if rng.random() < 0.05:
        tensors *= 2
    if "data" not in rest or rng.random() < 0.2:  # as many bytes as the undamaged file needs, or not
        rest = rest | {"data": bytes(rng.choice((4096, 4096, 4096, 32, 0)))}
    return files.gguf(metadata, tensors, **rest)


def _value(rng, files, depth: int) -> tuple:
    """A value of any type, often at a limit of it."""
    kind = rng.choice((*files.FORMS, files.STRING, files.STRING, files.ARRAY, files.ARRAY))
    if kind == files.STRING:
        return kind, rng.choice(
            ("", "llama", "gpt2", "x" * 300, "none", "yarn", "linear", b"\xff", "\n{% for x in y %}", "▁")
        )
    if kind == files.ARRAY:
        inner = _value(rng, files, depth + 1) if depth < 6 else (files.U32, 1)
        return files.array(inner[0], [inner if inner[0] == files.ARRAY else inner[1]] * rng.choice((0, 1, 2, 30)))
    form = files.FORMS[kind]
    if form == "?":
        return kind, rng.random() < 0.5
    if form in "fd":
        return kind, rng.choice((0.0, -1.0, 1e-5, 1.5, 3e38, float("inf"), float("nan")))
    bits = 8 * struct.calcsize(form) - form.islower()
    return kind, rng.choice((*(n for n in NUMBERS if n < 1 << bits), *((-1, -(1 << bits)) if form.islower() else ())))


def _tensor(rng, files, name: str, extents: tuple, kind: int) -> tuple:
    which = rng.randrange(3)
    if which == 0:
        name = rng.choice(
            ("", name + "x", "blk.0", "blk.1.attn_q.weight", "output.weight", "rope_freqs.weight", "w" * 90)
        )
    elif which == 1:
        extents = tuple(
            rng.choice((n, n + 1, 0, 1, 256, rng.choice(NUMBERS))) for n in (*extents, 1)[: rng.choice((1, 2, 3, 4))]
        )
    else:
        kind = rng.choice(list(files.BLOCKS))
    return name, extents, kind
