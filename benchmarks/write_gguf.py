"""Writes a Qwen3-MoE checkpoint as GGUF for llama.cpp: matrices Q4_0, norms and routers F32, no tokenizer.

python benchmarks/write_gguf.py MODEL_DIR OUT.gguf        needs the `gguf` package
"""

import sys

import pipeline as p
from pipeline.benching.gguf_file import write_gguf


def main(source, target):
    with p.open_checkpoint(source) as checkpoint:
        write_gguf(checkpoint, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
