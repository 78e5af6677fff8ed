"""`python -m pipeline.inspect MODEL` says what a checkpoint is, what it takes, and why it may not run.

docs/checkpoints.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import argparse
import sys

from .checkpoints.named import NAMES, model_path
from .cli.program import BAD_INPUT, Parser, file_path, guarded, open_streams
from .graph.formats import CACHE_DTYPES

__all__ = ["BAD_INPUT", "OK", "UNSUPPORTED", "main"]

OK, UNSUPPORTED = 0, 1
EPILOG = """\
exit codes: 0 the checkpoint can be run; 1 it cannot, and what is unsupported or missing is listed;
2 it cannot be opened, one line says why
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    open_streams()
    options = _parser().parse_args(arguments)
    model = model_path(options.model)
    from .inspecting.running import inspect  # loads NumPy, for which a mistake in the options need not wait

    can_run = inspect(model, options.context, options.kv_cache, tensors=options.tensors, json=options.json)
    return OK if can_run else UNSUPPORTED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "inspect",
        description="Says what a checkpoint is, what memory it takes, what one token reads of it, and what of it is "
        "unsupported.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=file_path,
        help=f"checkpoint folder, .gguf file, {', '.join(NAMES)}, or org/name on the Hugging Face hub",
    )
    parser.add_argument(
        "--context", metavar="N", type=int, help="positions of the KV cache (default: the model's context)"
    )
    parser.add_argument(
        "--kv-cache",
        metavar="TYPE",
        choices=CACHE_DTYPES,
        default=CACHE_DTYPES[0],
        help=f"{', '.join(CACHE_DTYPES)} (default: %(default)s)",
    )
    parser.add_argument("--tensors", action="store_true", help="list every tensor, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
