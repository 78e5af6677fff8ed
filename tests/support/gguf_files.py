"""GGUF files for tests, written field by field so that each field can lie."""

import json
import struct

from pipeline.checkpoints.gguf.tokenizer import TokenType
from pipeline.checkpoints.storyteller import builtin_model

ARRAY, STRING = 9, 8
FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, I32, F32, BOOL, U64 = 4, 5, 6, 7, 10
# By ggml's number: F32, F16, BF16, then those with a name.
TYPES = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "MXFP4": 39}
TYPES |= {"Q2_K": 10, "Q3_K": 11, "IQ4_NL": 20, "IQ4_XS": 23, "IQ2_XXS": 16, "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19}
TYPES |= {"IQ3_S": 21, "IQ2_S": 22, "IQ1_M": 29, "TQ1_0": 34, "TQ2_0": 35, "NVFP4": 40, "Q1_0": 41, "Q2_0": 42}
BLOCKS = {
    0: (1, 4),
    1: (1, 2),
    30: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    39: (32, 17),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    10: (256, 84),
    11: (256, 110),
    20: (32, 18),
    23: (256, 136),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    21: (256, 110),
    22: (256, 82),
    29: (256, 56),
    34: (256, 54),
    35: (256, 66),
    40: (64, 36),
    41: (128, 18),
    42: (64, 18),
}


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
            value(*item) if element == ARRAY else value(element, item) for item in items
        )
    return struct.pack("<" + FORMS[kind], content)


def pair(key, kind: int, *content) -> bytes:
    return string(key) + struct.pack("<I", kind) + value(kind, *content)


def tensor(name, extents, kind: int, offset: int) -> bytes:
    return string(name) + struct.pack(
        f"<I{len(extents)}QIQ", len(extents), *(extent % 2**64 for extent in extents), kind, offset % 2**64
    )


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
    head = b"GGUF" + struct.pack(
        "<IQQ", version, len(tensors) if count is None else count, len(metadata) if pairs is None else pairs
    )
    head += body + entries
    if tensors:
        head += bytes(-len(head) % alignment)
    return head + (bytes(i % 251 for i in range(offset)) if data is None else data)


def llama(layers=2, **changed) -> dict:
    """The metadata of a small Llama."""
    return {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    } | changed


EMBEDDING = ("token_embd.weight", (64, 10), 0)


def metadata(architecture: str, **keys) -> dict:
    """`keys` with two underscores for a dot, behind the architecture; and what all architectures need."""
    base = {
        "block_count": 2,
        "context_length": 128,
        "embedding_length": 64,
        "attention.head_count": 4,
        "attention.layer_norm_rms_epsilon": 2.0**-10,
    }
    base |= {key.replace("__", "."): value for key, value in keys.items()}
    return {"general.architecture": architecture} | {f"{architecture}.{key}": value for key, value in base.items()}


NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = TokenType


def keys(model: str, tokens, types=None, **rest) -> dict:
    found = {"general.architecture": "llama", "tokenizer.ggml.model": model, "tokenizer.ggml.tokens": array(8, tokens)}
    if types is not None:
        found["tokenizer.ggml.token_type"] = array(5, types)
    return found | {f"tokenizer.ggml.{key}": value for key, value in rest.items()}


def builtin(pre="gpt-2", **rest) -> dict:
    """The built-in model's tokenizer as a GGUF file has it."""
    content = json.loads((builtin_model() / "tokenizer.json").read_text())
    ids = content["model"]["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
    tokens = sorted(ids, key=ids.get)
    special = {token["content"] for token in content["added_tokens"] if token["special"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    return keys(
        "gpt2",
        tokens,
        [CONTROL if token in special else NORMAL for token in tokens],
        pre=pre,
        merges=array(8, merges),
        **rest,
    )
