"""The settings of one run, as the command line states them, checked before anything is opened."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoints.named import model_path
from ..checkpoints.storyteller import builtin_model
from ..errors import UsageError
from ..generation.settings import PROMPT_ROWS, Sampling, check
from ..generation.stopping import check_stops
from ..graph.formats import CACHE_DTYPES
from ..host import DEVICES, INSTRUCTION_SETS, LIST, is_device
from .row_file import check_unused

__all__ = [
    "MAX_BATCH",
    "MAX_TEMPERATURE",
    "MAX_THREADS",
    "MAX_TOKENS",
    "OWN_MEMORY_BATCH",
    "STORY_PROMPT",
    "STORY_TEMPERATURE",
    "CheckedSettings",
    "Settings",
    "check_cache",
    "check_isa",
    "row_seed",
]

STORY_PROMPT = "Once upon a time,"
STORY_TEMPERATURE = 0.7
MAX_TOKENS = 512
MAX_THREADS = 1024
MAX_BATCH = 4096
OWN_MEMORY_BATCH = 32  # sequences on a device that has memory of its own, where --batch-size does not say
MAX_TEMPERATURE = 1e6

_SEEDS = 2**64


@dataclass(frozen=True)
class Settings:
    """One run: each field is an option of the command line. `checked` fills in the fields that are None, but for the
    sizes: max_tokens, batch_size and context may become smaller where nobody named them and memory is short."""

    model: Path | str | None = None
    prompt: str | None = None
    prompts: str | None = None
    chat: bool = False
    system: str | None = None
    stop: Sequence[str] = ()
    out: str | None = None
    resume: bool = False
    trace: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int = 0
    seed: int | None = None
    batch_size: int | None = None
    context: int | None = None
    prompt_rows: int = PROMPT_ROWS
    device: str = "auto"
    threads: int = 0
    isa: str | None = None
    kv_cache: str = CACHE_DTYPES[0]
    explain: bool = False
    json: bool = False

    @property
    def sampling(self) -> Sampling:
        """The settings of Sampling, for every row that does not state its own."""
        return Sampling(**{name: getattr(self, name) for name in Sampling.__dataclass_fields__})

    @property
    def rows_to_stdout(self) -> bool:
        return self.out == "-"

    @property
    def streams(self) -> bool:
        """Whether there is one prompt, whose text is shown as it is made."""
        return self.prompts is None

    def checked(self) -> CheckedSettings:
        """The settings with every default filled in; UsageError says what is impossible, where, and how to fix it.

        Without a prompt the run is the built-in story, told at STORY_TEMPERATURE; with one the default is greedy.
        """
        if self.prompt is not None and self.prompts is not None:
            raise UsageError("--prompt and --prompts: give only one of them")
        if self.system is not None and not self.chat:
            raise UsageError("--system: is part of a chat; give --chat, too")
        if self.resume and (self.prompts is None or self.out in (None, "-")):
            raise UsageError("--resume: goes on with the rows of an earlier run; give --prompts and --out FILE")
        story = self.prompt is None and self.prompts is None
        if self.chat and story:
            raise UsageError("--chat: there is nothing to answer; give --prompt or --prompts")
        filled = {
            "model": builtin_model() if self.model is None else model_path(self.model),
            "prompt": STORY_PROMPT if story else self.prompt,
            "temperature": (STORY_TEMPERATURE if story else 0.0) if self.temperature is None else self.temperature,
            "seed": secrets.randbits(32) if self.seed is None else self.seed,
        }
        complete = CheckedSettings(**(vars(self) | filled))
        _check_values(complete)
        _check_targets(complete)
        return complete


@dataclass(frozen=True)
class CheckedSettings(Settings):
    """Settings that `Settings.checked` has passed: nothing that must be known before the model is None."""

    model: Path = Path()
    temperature: float = 0.0
    seed: int = 0


def _check_values(settings: CheckedSettings) -> None:
    temperature, seed, device = settings.temperature, settings.seed, settings.device
    if not math.isfinite(temperature) or not 0 <= temperature <= MAX_TEMPERATURE:
        raise UsageError(f"--temperature {temperature:g}: impossible; give 0 (greedy) or a positive number like 0.7")
    for name in Sampling.__dataclass_fields__:
        if name != "logit_bias":
            check(name, getattr(settings, name), "--" + name.replace("_", "-"))
    try:
        check_stops(settings.stop)
    except UsageError as error:
        raise UsageError(f"--stop: {error}") from None
    try:
        Sampling(logit_bias=settings.logit_bias)
    except UsageError as error:
        raise UsageError(f"--logit-bias: {error}") from None
    sizes = (
        ("--max-tokens", settings.max_tokens, None),
        ("--batch-size", settings.batch_size, MAX_BATCH),
        ("--context", settings.context, None),
    )
    for option, count, most in sizes:
        if count is not None:
            _check_count(option, count, 1, most)
    _check_count("--prompt-rows", settings.prompt_rows, 0, None)
    _check_count("--threads", settings.threads, 0, MAX_THREADS)
    if not 0 <= seed < _SEEDS:
        raise UsageError(f"--seed {seed}: out of range; give a whole number from 0 to 2**64 - 1")
    if not is_device(device) and device != LIST:
        raise UsageError(f"--device {device}: unknown; devices are {', '.join(DEVICES)}; {LIST} shows those there are")
    check_isa(settings.isa)
    check_cache(settings.kv_cache)
    if settings.json and settings.explain:
        raise UsageError("--json and --explain: both write to standard output; give only one of them")
    if settings.json and settings.rows_to_stdout:
        raise UsageError("--json and --out -: both write to standard output; give a file to --out")


def check_isa(name: str | None) -> None:
    """Raises UsageError where --isa names no instruction set; the device says whether the processor has it."""
    if name is not None and name not in INSTRUCTION_SETS:
        raise UsageError(f"--isa {name}: unknown; instruction sets are {', '.join(INSTRUCTION_SETS)}")


def check_cache(dtype: str) -> None:
    """Raises UsageError where --kv-cache names no type that a cache may have."""
    if dtype not in CACHE_DTYPES:
        raise UsageError(f"--kv-cache {dtype}: unknown; types are {', '.join(CACHE_DTYPES)}")


def _check_count(option: str, value: int, least: int, most: int | None) -> None:
    if value < least:
        raise UsageError(f"{option} {value}: too small; give at least {least}")
    if most is not None and value > most:
        raise UsageError(f"{option} {value}: too large; give at most {most}")


def _check_targets(settings: CheckedSettings) -> None:
    """Files are written to folders that exist, and over no file that this run reads or writes otherwise."""
    targets = [("--out", settings.out if settings.out != "-" else None), ("--trace", settings.trace)]
    for option, target in targets:
        if target is not None:
            _check_target(option, Path(target), settings)
    if settings.trace is not None and settings.out is not None and settings.out != "-":
        if _same(Path(settings.trace), Path(settings.out)):
            raise UsageError(f"--trace {settings.trace}: the same file as --out; give another one")


def _check_target(option: str, target: Path, settings: CheckedSettings) -> None:
    folder = target.parent
    if not target.name or target.is_dir():
        raise UsageError(f"{option} {target}: is a folder; give a file name")
    if not folder.is_dir():
        raise UsageError(f"{option} {target}: there is no folder {folder}; make it first")
    if settings.prompts is not None and settings.prompts != "-" and _same(target, Path(settings.prompts)):
        raise UsageError(f"{option} {target}: the same file as --prompts; give another one")
    check_unused(target, option)
    files = list(settings.model.iterdir()) if settings.model.is_dir() else [settings.model]
    if target.exists() and any(_same(target, file) for file in files):
        raise UsageError(f"{option} {target}: a file of the model; give another one")
    if not os.access(target if target.exists() else folder, os.W_OK):
        raise UsageError(f"{option} {target}: no permission to write there; give another place")


def _same(one: Path, other: Path) -> bool:
    """Whether both name one file, through links too."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def row_seed(seed: int, index: int) -> int:
    """The seed of prompt `index`. It does not depend on the batch, and its neighbours' seeds are unrelated to it.

    SplitMix64 (Steele, Lea, Flood 2014) at position index + 1 of the stream that starts at `seed`.
    """
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % _SEEDS
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % _SEEDS
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % _SEEDS
    return z ^ (z >> 31)
