"""What transformers computed, kept in tests/data/families: NAME.json.gz and NAME.npy."""

import gzip
import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[2] / "data" / "families"
POSITIONS, PROMPT, GREEDY = 64, 8, 32


def save(name: str, golden: dict, logits: np.ndarray) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(json.dumps(golden, sort_keys=True).encode(), mtime=0)
    (FOLDER / f"{name}.json.gz").write_bytes(packed)
    np.save(FOLDER / f"{name}.npy", logits.astype(np.float32))


def load(name: str) -> tuple[dict, np.ndarray]:
    """({"config", "tensors": name -> shape, "greedy"}, logits [64, vocab] f32)."""
    golden = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return golden, np.load(FOLDER / f"{name}.npy")
