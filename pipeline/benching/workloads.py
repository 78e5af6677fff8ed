"""The workloads that are measured: prompt processing and text generation, in llama-bench's terms."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from ..errors import RunError, UsageError
from ..generation.generator import Generator
from ..generation.requests import Failed, Request, Stats
from ..generation.settings import PROMPT_ROWS
from ..graph.formats import CACHE_DTYPES
from ..models.decoder import Decoder
from .options import Options

__all__ = ["Onebuf", "Prompts", "Result", "Side", "Workload", "check_fit", "measure", "run", "workloads"]

Prompts: TypeAlias = Sequence[tuple[int, ...]]  # one list of tokens per sequence
PAUSE = 0.05  # seconds before each run: threads of the other side stop polling meanwhile


@dataclass(frozen=True)
class Workload:
    """One workload of `batch` sequences.

    kind   "pp": each has a prompt of `tokens` tokens, which is processed up to the first new token;
           "tg": for each `tokens` tokens are generated after `context` tokens
    """

    kind: str
    tokens: int
    batch: int
    context: int = 0

    @property
    def label(self) -> str:
        depth = f" @ d{self.context}" if self.context else ""
        return f"{self.kind}{self.tokens}{depth}"

    @property
    def total(self) -> int:
        """Tokens that the timed part processes or generates."""
        return self.tokens * self.batch

    @property
    def positions(self) -> int:
        """Positions that a sequence needs: one more than it reaches."""
        return self.context + self.tokens + 2

    def fields(self) -> dict[str, str | int]:
        """What the workload is made of."""
        return asdict(self)

    def prompts(self, seed: int, vocab: int) -> list[tuple[int, ...]]:
        """One list of uniformly random tokens per sequence: the prompt of a pp; for a tg `context` tokens and as many
        as are generated, of which Onebuf takes the first as its next input and then its own tokens."""
        length = self.tokens if self.kind == "pp" else self.context + self.tokens
        rng = np.random.default_rng((seed, self.tokens, self.batch, self.context))
        return [tuple(row) for row in rng.integers(0, vocab, (self.batch, length)).tolist()]


def workloads(options: Options) -> list[Workload]:
    """All workloads that the options ask for, prompts first."""
    prompts = [Workload("pp", tokens, batch) for tokens, batch in itertools.product(options.pp, options.batch)]
    texts = itertools.product(options.tg, options.context, options.batch)
    return prompts + [Workload("tg", tokens, batch, context) for tokens, context, batch in texts]


def check_fit(works: Iterable[Workload], context: int, name: str) -> None:
    """Raises UsageError where a workload needs more positions than the model has."""
    for work in works:
        if work.positions > context:
            raise UsageError(
                f"{work.label}: needs {work.positions} positions, {name} has {context}; "
                "give less to --pp, --tg or --context"
            )


@dataclass
class Result:
    """The seconds that one side took for one workload, repeat by repeat."""

    side: str
    work: Workload
    seconds: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each repeat."""
        return [self.work.total / seconds for seconds in self.seconds]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.rates)

    @property
    def sigma(self) -> float:
        """The sample's standard deviation; 0 for a single repeat."""
        return statistics.stdev(self.rates) if len(self.seconds) > 1 else 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


class Side(Protocol):
    """One of the programs that are compared."""

    @property
    def name(self) -> str: ...

    def prepare(self, work: Workload) -> None:
        """Makes all that the workload needs before it is measured."""

    def measure(self, work: Workload, prompts: Prompts) -> float:
        """Runs the workload; returns the seconds of its timed part."""
        ...


def measure(
    sides: Sequence[Side],
    work: Workload,
    prompts: Prompts,
    repeats: int,
    warmup: int,
    progress: Callable[[Workload, str, int], None],
) -> list[Result]:
    """Runs each side `warmup` times unmeasured, then `repeats` times, the sides alternating."""
    results = [Result(side.name, work) for side in sides]
    for side in sides:
        side.prepare(work)
    for repeat in range(-warmup, repeats):
        for side, result in zip(sides, results):
            progress(work, side.name, repeat)
            time.sleep(PAUSE)
            seconds = side.measure(work, prompts)
            if repeat >= 0:
                result.seconds.append(seconds)
    return results


class Onebuf:
    """Onebuf as a side, through its public generator."""

    name = "onebuf"

    def __init__(self, model: Decoder, temperature: float, seed: int, kv_cache: str = CACHE_DTYPES[0]) -> None:
        self.model = model
        self.kv_cache = kv_cache
        self._temperature = temperature
        self._seed = seed
        self._generator: Generator | None = None

    def prepare(self, work: Workload) -> None:
        """Makes a generator for the workload; its chains are built in the first run."""
        self._generator = None  # frees its memory first
        self._generator = Generator(
            self.model,
            batch_size=work.batch,
            context=work.positions,
            kv_cache=self.kv_cache,
            prompt_rows=PROMPT_ROWS if work.kind == "pp" else 0,  # each token of a text is one of a decode step
        )

    def measure(self, work: Workload, prompts: Prompts) -> float:
        """Seconds of the workload's timed part: for a prompt the whole run up to its first token, for a text its decode
        steps."""
        generator = self._generator
        if generator is None:
            raise RunError(f"{work.label}: prepare was not called")
        generator.stats = Stats()
        start = time.perf_counter()
        run(generator, self.requests(work, prompts))
        elapsed = time.perf_counter() - start
        stats = generator.stats
        if stats.generated_tokens != (work.batch if work.kind == "pp" else work.total):
            raise RunError(f"{work.label}: {stats.generated_tokens} tokens came instead of {work.total}")
        return elapsed if work.kind == "pp" else stats.decode_seconds

    def requests(self, work: Workload, prompts: Prompts) -> list[Request]:
        """The workload as requests to the generator."""
        length, tokens = (work.tokens, 1) if work.kind == "pp" else (work.context + 1, work.tokens)
        return [
            Request(row, prompt[:length], tokens, self._temperature, (self._seed + row) % 2**64)
            for row, prompt in enumerate(prompts)
        ]

    def close(self) -> None:
        """Frees the generator."""
        self._generator = None


def run(generator: Generator, requests: Iterable[Request]) -> None:
    """Runs requests to their end. RunError says why one failed."""
    for event in generator.run(requests):
        if isinstance(event, Failed):
            raise RunError(f"sequence {event.index}: {event.error}")
