"""`python -m pipeline.inspect MODEL`: what a checkpoint is, what it takes, and what stands against running it.

docs/checkpoints.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import argparse
import sys

from .checkpoints.named import NAMES, model_path
from .cli.program import BAD_INPUT, Parser, guarded, open_streams
from .graph.formats import CACHE_DTYPES

OK, UNSUPPORTED = 0, 1
__all__ = ["BAD_INPUT", "OK", "UNSUPPORTED", "main"]
EPILOG = """\
exit codes: 0 the checkpoint can be run; 1 it cannot, and what is unsupported or missing is listed;
2 it cannot be opened, one line says why
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    import json

    open_streams()
    options = _parser().parse_args(arguments)
    from .checkpoints.opening import open_checkpoint
    from .inspecting import facts, report

    with open_checkpoint(model_path(options.model)) as checkpoint:
        found = facts.gather(checkpoint, options.context, options.kv_cache)
        if options.json:
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            lines = report.tensor_lines(checkpoint) + [""] if options.tensors else []
            print("\n".join(lines + report.lines(found)))
    return UNSUPPORTED if found["unsupported"] else OK


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m pipeline.inspect",
        description="Says what a checkpoint is, what memory it takes, what a token reads of it, and what is unsupported.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help=f"checkpoint folder or .gguf file, or {' or '.join(NAMES)}")
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
