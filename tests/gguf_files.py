"""GGUF files for tests, written field by field so that each field can lie."""

import struct

ARRAY, STRING = 9, 8
FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, I32, F32, BOOL, U64 = 4, 5, 6, 7, 10
# By ggml's number: F32, F16, BF16, then those with a name.
TYPES = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "MXFP4": 39}
BLOCKS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 39: (32, 17),
          12: (256, 144), 13: (256, 176), 14: (256, 210)}  # fmt: skip


def string(text) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(kind: int, items) -> tuple:
    """The value of an array; `items` of kind ARRAY are arrays."""
    return ARRAY, kind, list(items)


def value(kind: int, content, *rest) -> bytes:
    """A value after its type."""
    if kind == STRING:
        return string(content)
    if kind == ARRAY:
        element, items = content, rest[0]
        return struct.pack("<IQ", element, len(items)) + b"".join(
            value(*item) if element == ARRAY else value(element, item) for item in items)
    return struct.pack("<" + FORMS[kind], content)


def pair(key, kind: int, *content) -> bytes:
    return string(key) + struct.pack("<I", kind) + value(kind, *content)


def tensor(name, extents, kind: int, offset: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *(extent % 2**64 for extent in extents), kind, offset % 2**64)


def nbytes(extents, kind: int) -> int:
    elements, size = BLOCKS[kind]
    count = 1
    for extent in extents:
        count *= extent
    return count // elements * size


def guess(content) -> tuple:
    """(kind, content...) of a Python value."""
    if isinstance(content, tuple):
        return content
    if isinstance(content, list):
        return array(guess(content[0])[0] if content else U32, content)
    return {bool: BOOL, int: U32, float: F32, str: STRING}[type(content)], content


def gguf(metadata: dict, tensors=(), data=None, *, version=3, pairs=None, count=None, alignment=32) -> bytes:
    """A file. tensors: (name, extents with the contiguous one first, type); data: their bytes, else a counter's."""
    entries, offset = b"", 0
    for name, extents, kind in tensors:
        entries += tensor(name, extents, kind, offset)
        offset += -(-nbytes(extents, kind) // alignment) * alignment
    body = b"".join(pair(key, *guess(content)) for key, content in metadata.items())
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if count is None else count,
                                 len(metadata) if pairs is None else pairs)
    head += body + entries
    if tensors:
        head += bytes(-len(head) % alignment)
    return head + (bytes(i % 251 for i in range(offset)) if data is None else data)


def llama(layers=2, **changed) -> dict:
    """The metadata of a small Llama."""
    return {
        "general.architecture": "llama", "llama.block_count": layers, "llama.context_length": 128,
        "llama.embedding_length": 64, "llama.feed_forward_length": 96, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5,
    } | changed  # fmt: skip
