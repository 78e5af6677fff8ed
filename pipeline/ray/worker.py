"""A worker: one model and one scheduler, in a process of its own on some machine. It knows nothing of Ray."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from dataclasses import replace

import numpy as np

from .. import __version__
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.named import model_path
from ..checkpoints.opening import open_checkpoint
from ..cli.record import model_digest
from ..errors import OnebufError, UsageError
from ..generation.driver import Driver
from ..generation.requests import Event, Failed, Finished, Prefilled, Request
from ..generation.scheduler import Scheduler
from ..language.grammars import Grammars
from ..models.decoder import Model
from ..models.families import load_model
from .orders import Answer, Figures, Order, Refusal, Report, Room, Setup, Size

__all__ = ["Worker"]


class Worker:
    """Answers orders, any number at the same time. Its methods are for one event loop.

    A process that dies is begun anew with the same `setup`; whoever asks then says with `prepare` again what it needs.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._life = uuid.uuid4().hex
        self._busy = threading.Lock()  # loading takes minutes, and happens beside the loop
        self._room: Room | None = None
        self._model: Model | None = None
        self._driver: Driver | None = None

    async def load(self) -> Report | Refusal:
        """Loads the model, once."""
        try:
            return await asyncio.to_thread(self._loaded)
        except (OnebufError, OSError) as error:
            return Refusal(str(error))

    async def prepare(self, room: Room) -> Size | Refusal:
        """Gets ready for orders. The size that memory has room for."""
        try:
            return await asyncio.to_thread(self._prepared, room)
        except (OnebufError, OSError) as error:
            return Refusal(str(error))

    async def answer(self, order: Order) -> Answer | None:
        """The end of a request. None where nothing is prepared: the process was begun anew since."""
        if self._driver is None:
            return None
        try:
            request = order.made(self._tokenizer, self._grammars)
            end, prefilled = await self._run(self._driver, request)
        except OnebufError as error:  # the request can never run here
            end, prefilled = Failed(0, str(error)), 0
        return Answer(replace(end, index=order.request.index), prefilled, self._figures(self._driver))

    async def expert_counts(self) -> np.ndarray | None:
        """How often each expert was chosen, [layers, experts]."""
        driver = self._driver
        if driver is None:
            return None
        model = driver.scheduler.model
        read = driver.between_steps(lambda: np.array(model.counts.read(model.device)))
        return await asyncio.wrap_future(read)

    async def _run(self, driver: Driver, request: Request) -> tuple[Finished | Failed, int]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Finished | Failed] = loop.create_future()
        prefilled = 0

        def listen(event: Event) -> None:
            nonlocal prefilled
            if isinstance(event, Prefilled):
                prefilled += event.tokens
            elif isinstance(event, (Finished, Failed)):
                loop.call_soon_threadsafe(done.set_result, event)

        driver.submit(request, listen)
        return await done, prefilled

    def _figures(self, driver: Driver) -> Figures:
        return Figures.of(self._life, driver.scheduler.stats, driver.scheduler.blocks)

    def _loaded(self) -> Report:
        with self._busy:
            if self._model is None:
                self._model = self._load()
            model, device = self._model, self._model.device
            return Report(
                device.name,
                device.isa,
                device.threads,
                device.unified,
                0 if device.unified else device.free_bytes(),
                model.unplaced_bytes,
                int(model.mapped_bytes),
                int(model.repacked_bytes),
            )

    def _load(self) -> Model:
        setup = self._setup
        if setup.version != __version__:
            raise UsageError(f"has onebuf {__version__}, and the run {setup.version}; install the same one everywhere")
        self._checkpoint = open_checkpoint(model_path(setup.model))
        _check_digest(setup, self._checkpoint)
        threads = setup.threads or (0 if os.environ.get("OB_THREADS") else setup.cpus)
        model = load_model(self._checkpoint, device=setup.device, threads=threads, isa=setup.isa)
        self._tokenizer = self._checkpoint.tokenizer()
        self._grammars = Grammars(self._tokenizer, model.vocab_size, model.end_tokens)
        return model

    def _prepared(self, room: Room) -> Size:
        self._loaded()
        with self._busy:
            if self._driver is None or self._room != room:
                assert self._model is not None
                if self._driver is not None:
                    self._driver.close()
                self._driver = Driver(_scheduler(self._model, room))
                self._room = room
            scheduler = self._driver.scheduler
            return Size(scheduler.batch_size, scheduler.context)


def _scheduler(model: Model, room: Room) -> Scheduler:
    return Scheduler(
        model,
        batch_size=room.wanted.batch_size,
        context=room.wanted.context,
        least=room.least,
        kv_cache=room.kv_cache,
        prompt_rows=room.prompt_rows,
        sampling=room.sampling,
    )


def _check_digest(setup: Setup, checkpoint: Checkpoint) -> None:
    if model_digest(model_path(setup.model), checkpoint.files) != setup.digest:
        raise UsageError(f"{setup.model}: is another model there than here; copy the same files to every machine")
