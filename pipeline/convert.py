"""`python -m pipeline.convert HF_DIR OUT`: a Hugging Face checkpoint as an MLX checkpoint, which mlx-lm and Onebuf load.

docs/checkpoints.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from .cli.program import BAD_INPUT, INTERRUPTED, Parser, guarded, open_streams

OK = 0
BITS, GROUP_SIZES = (3, 4, 6, 8), (32, 64, 128)
__all__ = ["BAD_INPUT", "INTERRUPTED", "OK", "main"]
EPILOG = """\
OUT must not exist yet, or be what an earlier run of the same command left when it was ended: then it goes on from there.
exit codes: 0 OUT is complete; 2 it is not, one line says why; 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    open_streams()
    options = _parser().parse_args(arguments)
    from .checkpoints.config import Quantization
    from .checkpoints.opening import open_checkpoint
    from .converting import conversion
    from .converting.display import make_progress

    started = time.monotonic()
    with open_checkpoint(options.source) as checkpoint:
        work = conversion.plan(checkpoint, Path(options.out), Quantization(options.bits, options.group_size))
        with make_progress() as progress:
            try:
                conversion.run(work, _threads(), progress)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("; the same command again goes on from there") from None
        progress.done(work, time.monotonic() - started)
    return OK


def _threads() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m pipeline.convert",
        description="Writes an MLX checkpoint, quantised as mlx-lm does it, from a Hugging Face one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="HF_DIR", help="folder with config.json and safetensors in bf16, f16 or f32")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument("--bits", type=int, choices=BITS, default=4, help="of a weight (default: %(default)s)")
    parser.add_argument(
        "--group-size",
        type=int,
        choices=GROUP_SIZES,
        default=64,
        help="weights of a row that share a scale and a bias (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
