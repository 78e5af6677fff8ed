"""The engine of a run on Ray: what cli.engine has, with models and generators that are on other machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Self, cast

from .. import __version__
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.storyteller import NAME, builtin_model
from ..cli.engine import Engine
from ..cli.record import model_digest
from ..cli.settings import CheckedSettings
from ..generation.generator import cache_bytes
from ..generation.requests import Event, Failed, Finished, Prefilled, Request, Stats, Token
from ..generation.settings import Sampling
from ..generation.usage import Blocks
from ..models.decoder import Model
from ..models.families import surveyed
from .cluster import Cluster
from .crew import Crew
from .orders import Order, Report, Room, Setup, Size

__all__ = ["RayEngine", "RemoteGenerator", "RemoteModel"]


class RemoteDevice:
    """The device of the first worker, which stands for those of all."""

    findings = ()

    def __init__(self, report: Report) -> None:
        self.name, self.isa, self.threads = report.device, report.isa, report.threads
        self.unified = report.unified
        self._free = report.free_bytes

    def free_bytes(self) -> int:
        return self._free


class RemoteModel:
    """A model that workers have loaded, and that is here on paper."""

    def __init__(self, paper: Model, report: Report, crew: Crew) -> None:
        self.crew = crew
        self.device = RemoteDevice(report)
        self.vocab_size, self.context, self.end_tokens = paper.vocab_size, paper.context, paper.end_tokens
        self.mapped_bytes, self.repacked_bytes = report.mapped_bytes, report.repacked_bytes
        self.unplaced_bytes = report.unplaced_bytes
        self.dispatches_per_layer, self.notes = paper.dispatches_per_layer, paper.notes
        self.cache = paper.cache


class RemoteGenerator:
    """What a run needs of a generator, by workers. Each has the whole batch and a cache of its own."""

    def __init__(
        self,
        model: RemoteModel,
        *,
        batch_size: int,
        context: int,
        least: tuple[int, int],
        kv_cache: str,
        prompt_rows: int,
        trace: bool,
        sampling: Sampling,
        notice: Callable[[str], None],
        progress: Callable[[int, int], None],
    ) -> None:
        self._crew = crew = model.crew
        self._final: Stats | None = None
        crew.notice = notice
        wanted = Size(batch_size, context)
        size = crew.prepare(Room(wanted, Size(*least), kv_cache, prompt_rows, sampling))
        self.batch_size, self.context = size
        if size != wanted:
            notice(f"the workers' memory has room for {size.batch_size:,} × {size.context:,} positions each")

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event | None]:
        """The events of a generator's run. Those of a text's tokens come together at its end; None where nothing has
        happened for a while."""
        orders = (None if request is None else Order.of(request) for request in requests)
        for answer in self._crew.run(orders):
            if answer is None:
                yield None
                continue
            end, prefilled = answer.end, answer.prefilled
            if prefilled:
                yield Prefilled(end.index, prefilled, prefilled, prefilled)
            if isinstance(end, Finished):
                yield from (Token(end.index, token, logprob) for token, logprob in zip(end.tokens, end.logprobs))
            yield end
        self._final = replace(self._crew.stats, expert_counts=self._crew.expert_counts())

    @property
    def stats(self) -> Stats:
        return self._final or self._crew.stats

    @property
    def blocks(self) -> Blocks:
        return self._crew.blocks


class RayEngine:
    """The machines of a Ray, as one engine. It is a context manager, at whose end its actors end."""

    Failed, Finished, Prefilled, Request, Token = Failed, Finished, Prefilled, Request, Token
    Generator = RemoteGenerator
    cache_bytes = staticmethod(cache_bytes)

    def __init__(self, settings: CheckedSettings) -> None:
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    @property
    def engine(self) -> Engine:
        """Itself: its models and generators have what a run uses of those of this machine."""
        return cast(Engine, self)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def load_model(
        self, checkpoint: Checkpoint, *, device: str = "auto", threads: int = 0, isa: str | None = None
    ) -> Any:
        """The model, once a worker has loaded it. What is wrong with the checkpoint is found before Ray is asked."""
        paper, survey = surveyed(checkpoint)
        survey.check()
        assert paper is not None  # else the survey has raised
        settings = self._settings
        cluster = Cluster(settings.ray or "")
        self._stack.callback(cluster.close)
        model = NAME if settings.model == builtin_model() else os.path.abspath(settings.model)
        digest = model_digest(settings.model, checkpoint.files)
        setup = Setup(model, __version__, digest, device, threads, 0, isa)
        places = cluster.places(device, settings.ray_actors)
        crew = Crew([(place.name, cluster.actor(place, setup)) for place in places], _note)
        self._stack.callback(crew.close)
        machines = len({place.node for place in places})
        _note(f"Ray: {len(places)} worker{'s' * (len(places) > 1)} on {machines} machine{'s' * (machines > 1)}")
        return RemoteModel(paper, crew.load(), crew)


def _note(message: str) -> None:
    print(f"onebuf: {message}", file=sys.stderr)
