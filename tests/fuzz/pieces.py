"""Small files of SentencePiece and of llama.cpp's importance, for fuzzers, and what must hold of damaged ones."""

import struct
from pathlib import Path

import numpy as np

from pipeline.errors import PromptError

TOKENS = ["<unk>", "<s>", "</s>", "<0x0A>", "<0xE2>", "▁", *"abcdeth", "ab", "cd", "abcd", "▁a", "th", "the", "<sep>"]
KINDS = {"<unk>": 2, "<s>": 3, "</s>": 3, "<0x0A>": 6, "<0xE2>": 6, "<sep>": 4}


def varint(value: int) -> bytes:
    parts = []
    while True:
        parts.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(parts)


def field(number: int, value: int | float | bytes) -> bytes:
    """One field of a message: a whole number, a float in 32 bits, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def pieces(model: int) -> bytes:
    """A file of the kind 1 (unigram) or 2 (BPE)."""
    listed = (
        field(1, field(1, text.encode()) + field(2, -float(i)) + (field(3, KINDS[text]) if text in KINDS else b""))
        for i, text in enumerate(TOKENS)
    )
    return (
        b"".join(listed) + field(2, field(3, model) + field(35, 1) + field(40, 0)) + field(3, field(3, 1) + field(4, 0))
    )


def imatrix() -> bytes:
    """The older form."""
    found = struct.pack("<i", 2)
    for name in (b"blk.0.attn_q.weight", b"blk.0.ffn_down.weight"):
        found += struct.pack("<i", len(name)) + name + struct.pack("<ii", 3, 8) + np.arange(8, dtype="<f4").tobytes()
    return found + struct.pack("<ii", 3, 0)


def imatrix_gguf() -> bytes:
    from support import gguf_files as files

    tensors = [(f"blk.0.attn_q.weight.{end}", shape, 0) for end, shape in (("in_sum2", (8, 1)), ("counts", (1, 1)))]
    return files.gguf({"general.type": "imatrix"}, tensors, np.ones(16, "<f4").tobytes())


def check_pieces(file: Path) -> None:
    from pipeline.checkpoints.sentencepiece_file import make_tokenizer, read_pieces
    from pipeline.checkpoints.tokenizer import Tokenizer

    found = read_pieces(file)
    tokenizer = Tokenizer(make_tokenizer(found, file))
    try:
        ids = tokenizer.encode("abcd \n日<sep>")
    except PromptError:  # damaged pieces may hold none of it
        ids = ()
    assert all(0 <= token < len(found.pieces) for token in ids) and isinstance(tokenizer.decode(ids), str)


def check_importance(file: Path) -> None:
    from pipeline.converting.importance import read_importance

    for values in read_importance(file).values():
        assert values.nbytes <= file.stat().st_size * 8
