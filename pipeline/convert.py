"""`python -m pipeline.convert SOURCE OUT` makes an MLX checkpoint or a GGUF file of any checkpoint that Onebuf reads.

docs/checkpoints.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import argparse
import sys

from .checkpoints.named import model_path
from .cli.program import BAD_INPUT, INTERRUPTED, Parser, file_path, guarded, open_streams
from .graph.formats import AFFINE_BITS, GGUF_WRITTEN, GROUP_SIZES, MLX_WRITTEN, RECIPES

__all__ = ["BAD_INPUT", "INTERRUPTED", "OK", "main"]

OK = 0
EPILOG = """\
OUT must not exist yet, or be what an interrupted run of the same command left: then it goes on from there.
exit codes: 0 OUT is complete; 2 it is not, one line says why; 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    open_streams()
    options = _parser().parse_args(arguments)
    from .converting.running import convert  # loads NumPy, for which a mistake in the options need not wait

    convert(
        model_path(options.source),
        options.out,
        format=options.format,
        bits=options.bits,
        group_size=options.group_size,
        recipe=options.mixed,
        rules=options.rule,
        importance=options.imatrix,
    )
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "convert",
        description="Writes an MLX checkpoint, or a GGUF file, from a checkpoint of Hugging Face, MLX or llama.cpp.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=file_path,
        help="checkpoint folder, .gguf file, or org/name on the Hugging Face hub",
    )
    parser.add_argument(
        "out", metavar="OUT", type=file_path, help="the folder to write, or a file whose name ends in .gguf"
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        choices=(*MLX_WRITTEN, *GGUF_WRITTEN),
        help=f"of weights: {', '.join(MLX_WRITTEN)} in a folder; {', '.join(GGUF_WRITTEN)} in a GGUF file "
        "(default: affine; --mixed Q4_K_M)",
    )
    parser.add_argument("--bits", type=int, choices=AFFINE_BITS, help="of a weight in the format affine (default: 4)")
    parser.add_argument(
        "--group-size",
        type=int,
        choices=GROUP_SIZES,
        help="weights of a row that share a scale and a bias in the format affine (default: 64)",
    )
    parser.add_argument(
        "--mixed",
        metavar="RECIPE",
        choices=RECIPES,
        help=f"gives some tensors more bits, as llama.cpp and mlx-lm do it: {', '.join(RECIPES)}",
    )
    parser.add_argument(
        "--rule",
        metavar="REGEX=FORMAT",
        action="append",
        help="stores tensors in whose names REGEX is found so, before --mixed; may be given several times, and the "
        "first that fits counts",
    )
    parser.add_argument(
        "--imatrix",
        metavar="FILE",
        type=file_path,
        help="llama.cpp's file of how much each column matters, for a GGUF file",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
