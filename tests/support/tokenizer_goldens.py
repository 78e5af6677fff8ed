"""What transformers' AutoTokenizer makes of the folders of shapes.py.

`python tests/support/tokenizer_goldens.py` writes tests/data/tokenizers.json.gz anew.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "data" / "tokenizers.json.gz"
SIZES = {"hidden_size": 64, "num_attention_heads": 2}  # so that no configuration class refuses the folder


def from_transformers(folder: Path) -> dict[str, Any]:
    """The tokens of all texts, with and without special tokens, and the texts of some tokens."""
    import transformers

    from support.shapes import TEXTS

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    encode = lambda text, special: tokenizer(text, add_special_tokens=special)["input_ids"]  # noqa: E731
    drawn = random.Random(0)
    rows = [[drawn.randrange(len(tokenizer)) for _ in range(drawn.randrange(1, 12))] for _ in range(30)]
    return {
        "tokens": len(tokenizer),
        "prompts": [[text, encode(text, True), encode(text, False)] for text in TEXTS],
        "texts": [[row, tokenizer.decode(row, skip_special_tokens=True)] for row in rows],
    }


def main() -> None:
    from support.shapes import SHAPES

    found = {}
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = from_transformers(shape.write(Path(folder), **SIZES))
    with gzip.GzipFile(FILE, "wb", mtime=0) as file:
        file.write(json.dumps(found).encode())


if __name__ == "__main__":
    sys.path[0] = str(ROOT / "tests")
    sys.path.insert(0, str(ROOT))
    main()
