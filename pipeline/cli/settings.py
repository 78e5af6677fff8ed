"""The settings of one run, as the command line states them, checked before anything is opened."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..checkpoints.named import model_path
from ..checkpoints.storyteller import builtin_model
from ..errors import UsageError
from ..generation.settings import PROMPT_ROWS, SEEDS, Sampling, check
from ..generation.stopping import check_stops
from ..graph.formats import CACHE_DTYPES
from ..host import DEVICES, INSTRUCTION_SETS, LIST, is_device
from .evaluation import check_evaluation
from .metrics import check_metrics
from .on_ray import check_ray
from .out_target import check_no_rows, check_unused
from .prompt import MOST_SAMPLES
from .record import record_path, recorded_seed

__all__ = [
    "MAX_BATCH",
    "MAX_TEMPERATURE",
    "MAX_THREADS",
    "MAX_TOKENS",
    "ORDERS",
    "STORY_PROMPT",
    "STORY_TEMPERATURE",
    "CheckedSettings",
    "Settings",
    "check_cache",
    "check_isa",
]

ORDERS = ("input", "finished")  # of the rows in --out, at the end
STORY_PROMPT = "Once upon a time,"
STORY_TEMPERATURE = 0.7
MAX_TOKENS = 512
MAX_THREADS = 1024
MAX_BATCH = 4096
MAX_TEMPERATURE = 1e6


@dataclass(frozen=True)
class Settings:
    """One run: each field is an option of the command line. `checked` fills in the fields that are None, but for the
    sizes: max_tokens, batch_size and context may become smaller where nobody named them and memory is short."""

    model: Path | str | None = None
    prompt: str | None = None
    prompts: str | None = None
    eval: str | None = None
    text: str | None = None
    stride: int | None = None
    chat: bool = False
    system: str | None = None
    stop: Sequence[str] = ()
    out: str | None = None
    resume: bool = False
    overwrite: bool = False
    order: str = ORDERS[0]
    n: int = 1
    trace: str | None = None
    metrics: str | None = None
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
    prompt_logprobs: int | None = None
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
    ray: str | None = None
    ray_actors: int | None = None

    @property
    def sampling(self) -> Sampling:
        """The settings of Sampling, for every row that does not state its own."""
        return Sampling(**{name: getattr(self, name) for name in Sampling.__dataclass_fields__})

    @property
    def rows_to_stdout(self) -> bool:
        return self.out == "-"

    @property
    def streams(self) -> bool:
        """Whether there is one text, which is shown as it is made."""
        return self.prompts is None and self.n == 1 and not self.evaluates

    @property
    def evaluates(self) -> bool:
        """Whether texts are scored, and none is made."""
        return self.eval is not None

    def checked(self) -> CheckedSettings:
        """The settings with every default filled in; UsageError says what is impossible, where, and how to fix it.

        Without a prompt the run is the built-in story, told at STORY_TEMPERATURE; with one the default is greedy.
        """
        if self.prompt is not None and self.prompts is not None:
            raise UsageError("--prompt and --prompts: give only one of them")
        check_evaluation(self)
        check_ray(self)
        if self.system is not None and not self.chat:
            raise UsageError("--system: is part of a chat; give --chat, too")
        if self.resume and (self.prompts is None or self.out in (None, "-")):
            raise UsageError("--resume: goes on with the rows of an earlier run; give --prompts and --out FILE")
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite: one keeps the rows of --out, one loses them; give one of them")
        if self.overwrite and self.out in (None, "-"):
            raise UsageError("--overwrite: empties the file of rows; give --out FILE")
        story = self.prompt is None and self.prompts is None and not self.evaluates
        if self.chat and story:
            raise UsageError("--chat: there is nothing to answer; give --prompt or --prompts")
        filled = {
            "model": builtin_model() if self.model is None else model_path(self.model),
            "prompt": STORY_PROMPT if story else self.prompt,
            "temperature": (STORY_TEMPERATURE if story else 0.0) if self.temperature is None else self.temperature,
            "seed": 0 if self.seed is None else self.seed,
        }
        complete = CheckedSettings(**(vars(self) | filled))
        _check_values(complete)
        _check_targets(complete)
        for option, given in (
            ("--logprobs", self.logprobs > 0),
            ("--prompt-logprobs", self.prompt_logprobs is not None),
        ):
            if given and self.out is None:
                raise UsageError(f"{option}: is part of rows; give --out, too")
        return complete if self.seed is not None else replace(complete, seed=self._own_seed())

    def _own_seed(self) -> int:
        """The seed where none is given: a run that goes on has that of the one before."""
        before = recorded_seed(Path(self.out)) if self.resume and self.out is not None else None
        return secrets.randbits(32) if before is None else before


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
        if name != "logit_bias" and getattr(settings, name) is not None:
            check(name, getattr(settings, name), "--" + name.replace("_", "-"))
    try:
        check_stops(settings.stop)
    except UsageError as error:
        raise UsageError(f"--stop: {error}") from None
    try:
        Sampling(logit_bias=settings.logit_bias)
    except UsageError as error:
        raise UsageError(f"--logit-bias: {error}") from None
    sizes = (("--batch-size", settings.batch_size, MAX_BATCH), ("--context", settings.context, None))
    for option, count, most in sizes:
        if count is not None:
            _check_count(option, count, 1, most)
    if settings.max_tokens is not None:
        _check_count("--max-tokens", settings.max_tokens, 1 if settings.prompt_logprobs is None else 0, None)
    _check_count("--n", settings.n, 1, MOST_SAMPLES)
    if settings.order not in ORDERS:
        raise UsageError(f"--order {settings.order}: unknown; rows come in the order {' or '.join(ORDERS)}")
    _check_count("--prompt-rows", settings.prompt_rows, 0, None)
    _check_count("--threads", settings.threads, 0, MAX_THREADS)
    if not 0 <= seed < SEEDS:
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
    targets.append(("--metrics", settings.metrics))
    for option, target in targets:
        if target is not None:
            _check_target(option, Path(target), settings)
    if settings.metrics is not None:
        check_metrics(Path(settings.metrics))
    if settings.out not in (None, "-") and not settings.resume and not settings.overwrite:
        check_no_rows(Path(settings.out or ""))
    given = [(option, Path(target)) for option, target in targets if target is not None]
    if settings.out is not None and settings.out != "-":
        given.append(("the record of --out", record_path(Path(settings.out))))
    for number, (option, path) in enumerate(given):
        other = next((name for name, earlier in given[:number] if _same(path, earlier)), None)
        if other is not None:
            raise UsageError(f"{option} {path}: the same file as {other}; give another one")


def _check_target(option: str, target: Path, settings: CheckedSettings) -> None:
    folder = target.parent
    if not target.name or target.is_dir():
        raise UsageError(f"{option} {target}: is a folder; give a file name")
    if not folder.is_dir():
        raise UsageError(f"{option} {target}: there is no folder {folder}; make it first")
    for name, source in (("--prompts", settings.prompts), ("--text", settings.text)):
        if source is not None and source != "-" and _same(target, Path(source)):
            raise UsageError(f"{option} {target}: the same file as {name}; give another one")
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
