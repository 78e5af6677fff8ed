"""Prints the largest error of each family's logits, by format and device: the table of docs/families.md.

python tests/support/families/measure.py [FAMILY ...]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from support.families.cases import CASES  # noqa: E402
from support.families.files import write_folder  # noqa: E402
from support.families.gguf_layout import ARCHITECTURES, write_gguf  # noqa: E402
from support.families.golden import load  # noqa: E402
from support.families.grid import tokens  # noqa: E402
from support.families.layouts import write_mlx  # noqa: E402

import pipeline as p  # noqa: E402

WRITERS = {
    "F32": write_folder,
    "BF16": lambda folder, name, made: write_folder(folder, name, made, "BF16"),
    "MLX 4": write_mlx,
    "Q8_0": lambda folder, name, made: write_gguf(folder / "model.gguf", name, made, "Q8_0"),
    "Q4_K": lambda folder, name, made: write_gguf(folder / "model.gguf", name, made, "Q4_K"),
}


def errors(name: str, device) -> list[str]:
    made, expected = load(name)
    found = []
    for storage, write in WRITERS.items():
        if storage.startswith("Q") and name not in ARCHITECTURES:
            found.append("–")
            continue
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), name, made)
            file = Path(folder) / "model.gguf"
            with p.open_checkpoint(file if file.exists() else Path(folder)) as checkpoint:
                model = p.load_model(checkpoint, device=device)
                logits = model.logits(tokens(*expected.shape), 64, "f32")
        found.append(f"{np.abs(logits - expected).max():.1e}")
    return [*found, str(model.dispatches_per_layer)]


if __name__ == "__main__":
    print("| family |", " | ".join(WRITERS), "| dispatches per layer |")
    for family in sys.argv[1:] or CASES:
        print(f"| {family} |", " | ".join(errors(family, p.open_device("cpu"))), "|", flush=True)
