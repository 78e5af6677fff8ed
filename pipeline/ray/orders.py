"""What goes between a run and its workers: plain data that any process can read, and no function or handle."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from ..checkpoints.tokenizer import Tokenizer
from ..errors import UsageError
from ..generation.requests import Failed, Finished, Request, Stats
from ..generation.settings import Sampling
from ..generation.stopping import Watch, watch
from ..generation.usage import Blocks
from ..language.grammars import Compiled, Grammars

__all__ = ["Answer", "Figures", "Order", "Refusal", "Report", "Room", "Setup", "Size", "total"]

_COUNTED = tuple(each.name for each in fields(Stats) if each.name != "expert_counts")


@dataclass(frozen=True)
class Order:
    """A request, and what its `ends` and its `grammar` are made of.

    stops, after   the strings that end its text, and the tokens whose text it continues
    guide          the kind and the value of its grammar
    """

    request: Request
    stops: tuple[str, ...] = ()
    after: tuple[int, ...] = ()
    guide: tuple[str, object] | None = None

    @classmethod
    def of(cls, request: Request) -> Order:
        """UsageError where the request has a function or a grammar that no other process can make."""
        ends, grammar = request.ends, request.grammar
        if not (ends is None or isinstance(ends, Watch)) or not (grammar is None or isinstance(grammar, Compiled)):
            raise UsageError("a request with a function or a grammar of one's own runs in its own process alone")
        plain = replace(request, ends=None, grammar=None)
        stops, after = (tuple(ends.stops), tuple(ends.after)) if ends is not None else ((), ())
        return cls(plain, stops, after, None if grammar is None else (grammar.kind, grammar.value))

    def made(self, tokenizer: Tokenizer, grammars: Grammars) -> Request:
        """The request, for this process. PromptError or UsageError where its grammar cannot be compiled here."""
        grammar = None if self.guide is None else grammars.compiled(*self.guide)
        return replace(self.request, ends=watch(tokenizer, self.stops, self.after), grammar=grammar)


@dataclass(frozen=True)
class Setup:
    """What a worker loads.

    model            a path, or a name of a model
    version, digest  of the package, and of the model's files, which must be the same on every machine
    cpus             cores that are the worker's, where `threads` names no number
    """

    model: str
    version: str
    digest: str
    device: str
    threads: int
    cpus: int
    isa: str | None


@dataclass(frozen=True)
class Report:
    """A worker that has loaded its model: on which device, and what that has."""

    device: str
    isa: str
    threads: int
    unified: bool
    free_bytes: int
    unplaced_bytes: int
    mapped_bytes: int
    repacked_bytes: int


class Size(NamedTuple):
    batch_size: int
    context: int


@dataclass(frozen=True)
class Room:
    """What a worker's scheduler is asked for: a size, and the one to which its memory may lower that."""

    wanted: Size
    least: Size
    kv_cache: str
    prompt_rows: int
    sampling: Sampling


@dataclass(frozen=True)
class Refusal:
    """Why a worker cannot do what it was asked for."""

    reason: str


class Figures(NamedTuple):
    """What a worker's process did since it began. A worker that begins anew has another `life`."""

    life: str
    counted: tuple[float, ...]  # those of Stats that are numbers, in its order
    blocks: Blocks

    @classmethod
    def of(cls, life: str, stats: Stats, blocks: Blocks) -> Figures:
        return cls(life, tuple(getattr(stats, name) for name in _COUNTED), blocks)


class Answer(NamedTuple):
    """How a request ended, how many tokens of its prompt went through, and the figures of the worker by then."""

    end: Finished | Failed
    prefilled: int = 0
    figures: Figures | None = None


def total(figures: list[Figures], workers: int) -> Stats:
    """What all lives of so many workers did together. The seconds are those of a worker on average, so that amounts
    over seconds are rates of all workers."""
    sums: dict[str, float] = dict(zip(_COUNTED, map(sum, zip(*(each.counted for each in figures)))))
    for name in ("prefill_seconds", "decode_seconds"):
        sums[name] = sums.get(name, 0.0) / max(workers, 1)
    return Stats(**sums)  # type: ignore[arg-type]  # whole numbers, but for the seconds
