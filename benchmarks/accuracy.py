"""How far the storyteller's next-token distributions are from float64 with the same weights, by instruction set.

    python benchmarks/accuracy.py [--isa NAME,...] [--json]

Eight stories of 256 tokens, which the model tells itself; KL divergence in nats of every next token, through prompts
(128 rows per run), token by token (1 row) and as a batch (8 rows); greedy tokens against the golden ones of
transformers where the margin exceeds 0.02. What the mean consists of are the few positions at which rounding turns a
near tie between experts. The last row is the oracle itself with activations rounded to int8 by
blocks of 32, as engines do whose kernels multiply 8-bit integers.
"""

import argparse
import functools
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # or NumPy's threads would wait busily beside the device's
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in (".", "tests")]

import numpy as np  # noqa: E402
from support import accuracy  # noqa: E402
from support.reference_model import ReferenceModel, int8_blocks, kl_divergence  # noqa: E402

import pipeline as p  # noqa: E402
from pipeline.checkpoints.storyteller import builtin_model  # noqa: E402

ROWS = {"prefill": 128, "decode": 1}  # of the runs that read the golden texts


def row(name, path, expected, logits, golden):
    """golden: (equal, compared), or None where nothing was compared."""
    divergence = kl_divergence(expected, logits)
    equal, compared = golden or (None, None)
    return {
        "arithmetic": name,
        "path": path,
        "positions": divergence.size,
        "mean_kl": float(divergence.mean()),
        "median_kl": float(np.median(divergence)),
        "largest_kl": float(divergence.max()),
        "golden_equal": equal,
        "golden": compared,
    }


def measure(settings, checkpoint):
    """One row for each setting and path, then the rounded oracle's."""
    oracle = ReferenceModel(builtin_model())
    texts = accuracy.stories(checkpoint)
    expected = np.stack([oracle.logits(text) for text in texts])
    for isa, native, kv_cache in settings:
        model = p.load_model(checkpoint, device=accuracy.open_cpu(isa, native))
        name = f"{isa or 'best'}, {'' if native == '1' else 'shaders only, '}KV cache {kv_cache}"
        for path, logits in accuracy.PATHS.items():
            golden = (
                accuracy.golden_tokens(functools.partial(model.logits, rows=ROWS[path], kv_cache=kv_cache))
                if path in ROWS
                else None
            )
            yield row(name, path, expected, logits(model, texts, kv_cache), golden)
    golden = accuracy.golden_tokens(lambda tokens: oracle.logits(tokens, int8_blocks))
    rounded = np.stack([oracle.logits(text, int8_blocks) for text in texts])
    yield row("float64, activations int8 by 32", "", expected, rounded, golden)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", help="only these instruction sets (default: all that the processor has)")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    options = parser.parse_args()
    settings = (
        [(isa, "1", "f16") for isa in options.isa.split(",")]
        if options.isa
        else [*accuracy.cpu_settings(), ("", "1", "f32")]
    )
    with p.open_checkpoint(builtin_model()) as checkpoint:
        rows = []
        for each in measure(settings, checkpoint):
            rows.append(each)
            if not options.json:
                golden = f"golden {each['golden_equal']} of {each['golden']}" if each["golden"] else ""
                print(
                    f"{each['arithmetic']:33} {each['path']:8} {each['positions']} positions   "
                    f"KL mean {each['mean_kl']:.1e}   median {each['median_kl']:.1e}   "
                    f"largest {each['largest_kl']:.1e}   {golden}".rstrip(),
                    flush=True,
                )
    if options.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    try:
        main()
    except p.errors.OnebufError as error:
        sys.exit(f"error: {error}")
