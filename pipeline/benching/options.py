"""The command line of `python -m pipeline.bench`, turned into checked options."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.named import NAMES, model_path
from ..checkpoints.storyteller import NAME
from ..cli.program import Parser, file_path
from ..cli.settings import MAX_BATCH, MAX_TEMPERATURE, MAX_THREADS, check_cache, check_isa
from ..errors import UsageError
from ..graph.formats import CACHE_DTYPES
from ..host import CHECKER, CUDA, DEVICES, LIST, is_device
from . import peer
from .shapes import SHAPES, Shape, cut_shape

__all__ = ["Options", "parse_options"]

TIMED_DEVICES = tuple(name for name in DEVICES if name != CHECKER)
MLX_WEIGHTS = (  # what the peer torch cannot load
    "MLX's quantised weights, which transformers does not read; "
    "give a folder with bf16 weights, or a shape with --bits 16"
)
MOST_TOKENS, MOST_REPEATS = 1 << 20, 1000
LEAST_TUNED = 5  # repeats of --tune
EPILOG = """\
examples:
  python -m pipeline.bench                                    the built-in model
  python -m pipeline.bench model.gguf --peer llama.cpp        the same file on both sides
  python -m pipeline.bench qwen3-30b-a3b --layers 2 --vocab 8192 --pp 32,448 --batch 1,8,32
  python -m pipeline.bench storyteller --peer llama.cpp --json
  python -m pipeline.bench qwen3-30b-a3b --bits 16 --device cuda --peer torch --context 128

exit codes: 0 measured; 2 nothing could be measured, one line says why; 130 interrupted
"""


@dataclass(frozen=True)
class Options:
    """Each field is an option; `model` is a checkpoint's folder or file, or a Shape."""

    model: Path | Shape
    pp: list[int]
    tg: list[int]
    batch: list[int]
    context: list[int]
    repeats: int
    warmup: int
    seed: int
    temperature: float
    device: str
    threads: int
    isa: str | None
    kv_cache: str
    peer: str | None
    steps: bool
    tune: bool
    json: bool
    plot: Path | None

    @property
    def name(self) -> str:
        return self.model.folder if isinstance(self.model, Shape) else _file_name(self.model)

    @property
    def title(self) -> str:
        return self.model.title if isinstance(self.model, Shape) else _file_name(self.model)


def _file_name(path: Path) -> str:
    return os.path.basename(os.path.abspath(path))  # "." has no name of its own


def parse_options(arguments: list[str] | None = None) -> Options:
    """Checked options from `arguments` (default: the process's own). UsageError says what to fix."""
    given = vars(_parser().parse_args(arguments))
    given["model"] = _model(given["model"], given.pop("layers"), given.pop("vocab"), given.pop("bits"))
    options = Options(**given)
    _check(options)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "bench",
        description="Measure prompt processing and text generation, and the share of the machine's bandwidth that they "
        "use.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        type=file_path,
        default=NAME,
        help=f"checkpoint folder or .gguf file, {' or '.join(NAMES)} (default: {NAME}), or a shape with random "
        f"weights: {', '.join(SHAPES)}",
    )
    add("--layers", metavar="N", type=_whole, help="of a shape: keep only N layers")
    add("--vocab", metavar="N", type=_whole, help="of a shape: keep only N tokens of the vocabulary")
    add("--bits", metavar="N", type=_whole, help="of a shape's weights: 4, in MLX's layout, or 16, bf16 (default: 4)")
    add(
        "--pp",
        metavar="N,...",
        type=_list,
        default=[512],
        help="prompt processing: tokens per prompt; 0: none (default: 512)",
    )
    add(
        "--tg",
        metavar="N,...",
        type=_list,
        default=[128],
        help="text generation: tokens per text; 0: none (default: 128)",
    )
    add("--batch", metavar="N,...", type=_list, default=[1], help="sequences together (default: 1)")
    add("--context", metavar="N,...", type=_list, default=[0], help="tokens before text generation (default: 0)")
    add("--repeats", metavar="N", type=_whole, default=5, help="measured runs of each (default: 5)")
    add("--warmup", metavar="N", type=_whole, default=1, help="unmeasured runs before them (default: 1)")
    add("--seed", metavar="S", type=_whole, default=0, help="of prompts and sampling (default: 0)")
    add(
        "--temperature",
        metavar="T",
        type=_number,
        default=1.0,
        help="of sampling, so that experts vary; 0: greedy (default: 1)",
    )
    add("--device", metavar="NAME", default="auto", help=f"{', '.join(TIMED_DEVICES)}, or {LIST} (default: auto)")
    add(
        "--threads",
        metavar="N",
        type=_whole,
        default=0,
        help="of the cpu device and the peer (default: OB_THREADS or all cores)",
    )
    add(
        "--isa", metavar="NAME", help="instruction set of the cpu device, not of the peer (default: OB_ISA or the best)"
    )
    add(
        "--kv-cache",
        metavar="TYPE",
        default=CACHE_DTYPES[0],
        help="of keys and values, llama.cpp's too: f16, f32 or q8 (default: f16)",
    )
    add("--peer", metavar="NAME", help=f"measure it too, alternating: {', '.join(peer.PEERS)}")
    add("--no-steps", dest="steps", action="store_false", help="leave out the time by step")
    add("--tune", action="store_true", help="time the choices of the device, and keep the best (docs/tuning.md)")
    add("--json", action="store_true", help="print the results as JSON")
    add(
        "--plot",
        metavar="FILE.svg",
        type=lambda text: Path(file_path(text)),
        help="draw text generation against context and batch",
    )
    return parser


def _model(text: str, layers: int | None, vocab: int | None, bits: int | None) -> Path | Shape:
    if text in SHAPES:
        return cut_shape(text, layers, vocab, bits)
    for option, value in (("--layers", layers), ("--vocab", vocab), ("--bits", bits)):
        if value is not None:
            raise UsageError(f"{option} {value}: for shapes only, and {text} is none; shapes are {', '.join(SHAPES)}")
    path = model_path(text)
    if not path.exists():
        raise UsageError(
            f"{text}: neither a checkpoint's folder, a .gguf file nor a name; names are {', '.join(NAMES)}, "
            f"and the shapes {', '.join(SHAPES)}"
        )
    return path


def _check_tuning(options: Options) -> None:
    """Refuses what --tune does not follow, and too few repeats."""
    parser = _parser()
    for name in ("peer", "json", "plot", "pp", "tg", "batch", "context", "warmup", "seed", "temperature"):
        if getattr(options, name) != parser.get_default(name):
            raise UsageError(
                f"--{name} has no meaning with --tune, which times chains of its own; leave one of them out"
            )
    if options.repeats < LEAST_TUNED:
        raise UsageError(f"--repeats {options.repeats}: too few to tell a gain from noise; give {LEAST_TUNED} or more")


def _check(options: Options) -> None:
    for option, values, least, most in (
        ("--pp", options.pp, 1, MOST_TOKENS),
        ("--tg", options.tg, 1, MOST_TOKENS),
        ("--batch", options.batch, 1, MAX_BATCH),
        ("--context", options.context, 0, MOST_TOKENS),
        ("--repeats", [options.repeats], 1, MOST_REPEATS),
        ("--warmup", [options.warmup], 0, MOST_REPEATS),
        ("--threads", [options.threads], 0, MAX_THREADS),
        ("--seed", [options.seed], 0, 2**63 - 1),
    ):
        if values == [0] and option in ("--pp", "--tg"):
            values.clear()  # 0 alone leaves it out
        for value in values:
            if not least <= value <= most:
                raise UsageError(f"{option} {value}: impossible; give {least} to {most}")
    if options.tune:
        _check_tuning(options)
    if not options.pp and not options.tg:
        raise UsageError("--pp 0 and --tg 0: nothing is left to measure; give one of them")
    if not math.isfinite(options.temperature) or not 0 <= options.temperature <= MAX_TEMPERATURE:
        raise UsageError(f"--temperature {options.temperature:g}: impossible; give 0 (greedy) or a positive number")
    if options.device != LIST and (not is_device(options.device) or options.device == CHECKER):
        raise UsageError(
            f"--device {options.device}: unknown, or not one to be timed; devices are {', '.join(TIMED_DEVICES)}"
        )
    check_isa(options.isa)
    check_cache(options.kv_cache)
    if options.peer is not None:
        _check_peer(options)
    if options.plot is not None:
        _check_plot(options.plot, options)


def _check_peer(options: Options) -> None:
    name, model = str(options.peer), options.model
    gguf = isinstance(model, Path) and model.is_file()
    peer.require(name, gguf=gguf, gpu=options.device.partition(":")[0] == CUDA)
    if name == peer.TORCH and options.kv_cache != CACHE_DTYPES[0]:
        raise UsageError(f"--kv-cache {options.kv_cache}: the cache of --peer {name} has 16 bits; leave the option out")
    if name == peer.TORCH and isinstance(model, Shape) and model.bits != 16:
        raise UsageError(f"--peer {name}: {model.name} has {MLX_WEIGHTS}")


def _check_plot(file: Path, options: Options) -> None:
    if file.suffix != ".svg":
        raise UsageError(f"--plot {file}: is drawn as SVG; give a name that ends in .svg")
    if not options.tg:
        raise UsageError(f"--plot {file}: shows text generation, which --tg 0 leaves out")
    if not file.parent.is_dir():
        raise UsageError(f"--plot {file}: there is no folder {file.parent}; make it first")
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UsageError(f"--plot {file}: cannot be written; give another place")


def _list(text: str) -> list[int]:
    return list(dict.fromkeys(_whole(part) for part in text.split(",")))


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None
