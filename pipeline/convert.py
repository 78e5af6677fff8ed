"""`python -m pipeline.convert HF_DIR OUT` makes an MLX checkpoint, which mlx-lm and Onebuf load, of a Hugging Face one.

docs/checkpoints.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import argparse
import sys

from .cli.program import BAD_INPUT, INTERRUPTED, Parser, file_path, guarded, open_streams
from .graph.formats import AFFINE_BITS, GROUP_SIZES

__all__ = ["BAD_INPUT", "INTERRUPTED", "OK", "main"]

OK = 0
EPILOG = """\
OUT must not exist yet, or be the folder that an interrupted run of the same command left: then it goes on from there.
exit codes: 0 OUT is complete; 2 it is not, one line says why; 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    open_streams()
    options = _parser().parse_args(arguments)
    from .converting.running import convert  # loads NumPy, for which a mistake in the options need not wait

    convert(options.source, options.out, options.bits, options.group_size)
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "convert",
        description="Writes an MLX checkpoint, quantised as mlx-lm does it, from a Hugging Face one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "source", metavar="HF_DIR", type=file_path, help="folder with config.json and safetensors in bf16, f16 or f32"
    )
    parser.add_argument("out", metavar="OUT", type=file_path, help="the folder to write")
    parser.add_argument("--bits", type=int, choices=AFFINE_BITS, default=4, help="of a weight (default: %(default)s)")
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
