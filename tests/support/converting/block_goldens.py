"""Writes tests/data/converted_blocks.json: the digests of what llama.cpp's quantisers make of the sources.

PYTHONPATH=.:tests python tests/support/converting/block_goldens.py PATH/libggml-base.so
"""

import ctypes
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from pipeline.graph.formats import BLOCKS

FILE = Path(__file__).resolve().parents[2] / "data" / "converted_blocks.json"
NUMBERS = {"Q4_0": 2, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}


def source() -> np.ndarray:
    """Rows of weights as they are, and rows with edges: zeros, constants, one sign, ties, tiny and large numbers."""
    rng = np.random.default_rng(11)
    rows = (rng.standard_normal((48, 512)) * 0.03).astype(np.float32)
    rows[:8] *= (10.0 ** rng.integers(-12, 5, (8, 1))).astype(np.float32)
    rows[8], rows[9], rows[10] = 0, 0.7, -0.3
    rows[11], rows[12] = np.abs(rows[11]), -np.abs(rows[12])
    rows[13, :300] = 0
    rows[14] = np.round(rows[14] * 50) / 50
    rows[15, ::32] = 100
    return rows


def importance() -> np.ndarray:
    """Of the columns: squares, some of them zero."""
    values = np.random.default_rng(12).standard_normal(512).astype(np.float32) ** 2
    values[::7] = 0
    return values


def digests(blocks: np.ndarray) -> list[str]:
    """Of each row."""
    return [hashlib.sha256(row.tobytes()).hexdigest()[:8] for row in blocks]


def by_ggml(library: ctypes.CDLL, kind: str, rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    columns, nbytes = BLOCKS[kind]
    blocks = np.zeros((len(rows), rows.shape[1] // columns * nbytes), np.uint8)
    library.ggml_quantize_chunk(
        NUMBERS[kind],
        rows.ctypes.data_as(ctypes.c_void_p),
        blocks.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(len(rows)),
        ctypes.c_int64(rows.shape[1]),
        None if weights is None else weights.ctypes.data_as(ctypes.c_void_p),
    )
    return blocks


if __name__ == "__main__":
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    made = {
        f"{kind}{'' if weights is None else ' by importance'}": digests(by_ggml(ggml, kind, source(), weights))
        for kind in NUMBERS
        for weights in (None, importance())
    }
    FILE.write_text(
        "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in made.items()) + "\n}\n"
    )
