"""One run with checked settings: a checkpoint is opened, prompts go through the generator, rows and text come out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints.chat import Chat
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.opening import open_checkpoint
from ..checkpoints.tensor_info import listed
from ..checkpoints.tokenizer import Tokenizer
from ..generation.generator import Generator
from ..generation.requests import Stats
from ..graph.plan import human
from ..models.decoder import Decoder
from .console import make_display
from .display import Display
from .engine import Engine, package_engine
from .interrupt import Interrupt
from .jobs import Job, is_conversation, make_jobs, unfinished
from .prompts import Prompt, read_prompts, single_prompt, unknown_keys
from .room import check_context, least_size, wanted_size
from .row_file import RowWriter
from .session import Session
from .settings import STORY_PROMPT, CheckedSettings
from .summary import make_summary, to_json
from .trace import write_trace

__all__ = ["run"]

NOTED_CACHE = 1 << 30  # bytes of a KV cache that are worth a line


def run(settings: CheckedSettings, engine: Engine | None = None) -> bool:
    """Whether all prompts ran and nothing was found. Bad input raises before --out is opened."""
    display = make_display(settings)
    try:
        found = _Run(settings, engine or package_engine(), display).run()
    except BaseException:  # what ended the run is what is reported, though the terminal may be gone, too
        with suppress(OSError):
            display.close()
        raise
    display.close()
    return found


class _Run:
    """One run, step by step."""

    def __init__(self, settings: CheckedSettings, engine: Engine, display: Display) -> None:
        self._settings = settings
        self._engine = engine
        self._display = display

    def run(self) -> bool:
        settings, prompts = self._settings, _prompts(self._settings)
        started = time.perf_counter()
        self._display.loading(settings.model.name)
        with open_checkpoint(settings.model) as checkpoint, _chat(checkpoint, prompts, settings) as chat:
            tokenizer = checkpoint.tokenizer()
            model = self._engine.load_model(
                checkpoint, device=settings.device, threads=settings.threads, isa=settings.isa
            )
            load_seconds = time.perf_counter() - started
            check_context(settings, model)
            self._note_unused(checkpoint)
            if settings.explain:
                self._explain(model)
                return True
            self._note_unknown(prompts)
            jobs, failed = make_jobs(prompts, tokenizer, model, settings, chat)
            if chat is not None:
                chat.close()
            return self._generate(model, tokenizer, jobs, failed, load_seconds)

    def _note_unused(self, checkpoint: Checkpoint) -> None:
        if checkpoint.note is not None:
            self._display.note(f"{self._settings.model.name}: {checkpoint.note}")
        if checkpoint.unused:
            self._display.note(
                f"{self._settings.model.name}: {len(checkpoint.unused)} tensors have no place in this family and are "
                f"not used: {listed(checkpoint.unused)}"
            )

    def _note_unknown(self, prompts: list[Prompt]) -> None:
        message = unknown_keys(prompts)
        if message is not None:
            self._display.note(message)

    def _explain(self, model: Decoder) -> None:
        settings = self._settings
        self._display.close()
        generator = self._engine.Generator(
            model,
            batch_size=settings.batch_size or 1,
            context=settings.context,
            kv_cache=settings.kv_cache,
            sampling=settings.sampling,
        )
        print(generator.explain())

    def _generate(
        self, model: Decoder, tokenizer: Tokenizer, jobs: list[Job], failed: list[Prompt], load_seconds: float
    ) -> bool:
        settings, engine, display = self._settings, self._engine, self._display
        generator, seconds = None, 0.0
        if not settings.resume:
            generator, seconds = self._generator(model, jobs)  # it may refuse, before --out is emptied
        with Interrupt() as interrupt, _writer(settings) or nullcontext() as writer:
            if settings.resume and writer is not None:
                jobs = self._left(jobs, writer)
                if jobs:
                    generator, seconds = self._generator(model, jobs)
            load_seconds += seconds
            session = Session(jobs, failed, tokenizer, writer, display, settings.streams)
            session.begin()
            if generator is not None:
                self._handle_events(generator.run(session.requests(engine.Request, settings)), session, interrupt)
        if settings.trace is not None:
            write_trace(Path(settings.trace), generator.trace() if generator else (), model.device.name)
        stats = Stats() if generator is None else generator.stats
        if settings.batch_size is None:
            settings = replace(settings, batch_size=1 if generator is None else generator.batch_size)
        summary = make_summary(settings, model, stats, session, load_seconds)
        display.summary(summary)
        if settings.json:
            print(to_json(summary), flush=True)
        found = getattr(model.device, "findings", ())  # only the checker has some
        for finding in found:
            print(finding, file=sys.stderr)
        return not session.failed and not found

    def _left(self, jobs: list[Job], writer: RowWriter) -> list[Job]:
        """The jobs without a row of an earlier run."""
        left = unfinished(jobs, writer.kept, Path(self._settings.out or ""))
        self._display.note(f"{self._settings.out}: has rows of {len(jobs) - len(left)} of {len(jobs)} prompts already")
        return left

    def _generator(self, model: Decoder, jobs: list[Job]) -> tuple[Generator, float]:
        """A generator with room for the texts, and the seconds in which weights went to a device that has memory of its
        own."""
        settings = self._settings
        wanted = wanted_size(settings, model, jobs)
        started = ended = time.perf_counter()

        def placing(done: int, total: int) -> None:
            nonlocal ended
            ended = time.perf_counter()
            self._display.placing(done, total)

        generator = self._engine.Generator(
            model,
            batch_size=wanted[0],
            context=wanted[1],
            least=least_size(settings, wanted, jobs),
            kv_cache=settings.kv_cache,
            prompt_rows=settings.prompt_rows,
            trace=settings.trace is not None,
            sampling=settings.sampling,
            notice=self._display.note,
            progress=placing,
        )
        batch_size, context = generator.batch_size, generator.context
        nbytes = self._engine.cache_bytes(model, batch_size, context, settings.kv_cache)
        if (batch_size, context) == wanted and nbytes >= NOTED_CACHE:
            self._display.note(
                f"KV cache: {human(nbytes)} in {settings.kv_cache} for {batch_size:,} × {context:,} positions"
            )
        return generator, ended - started

    def _handle_events(self, events: Iterable[object], session: Session, interrupt: Interrupt) -> None:
        """Hands each event to the session. A signal counts between events, so that no row is left half done."""
        handlers: dict[type, Callable[[Any], None]] = {
            self._engine.Prefilled: session.prefilled,
            self._engine.Token: session.token,
            self._engine.Finished: session.finish,
            self._engine.Failed: session.fail,
        }
        for event in events:
            handlers[type(event)](event)
            try:
                interrupt.check(f"{session.finished} of {len(session.jobs)} prompts are finished")
            except KeyboardInterrupt:
                with suppress(OSError):
                    session.show_rest()
                raise


def _prompts(settings: CheckedSettings) -> list[Prompt]:
    if settings.prompts is not None:
        return read_prompts(settings.prompts)
    return single_prompt(STORY_PROMPT if settings.prompt is None else settings.prompt)


def _chat(
    checkpoint: Checkpoint, prompts: list[Prompt], settings: CheckedSettings
) -> AbstractContextManager[Chat | None]:
    """The checkpoint's chat templates, which start to get ready, where a prompt is a conversation; else None.

    CheckpointError where there are no templates and all prompts are conversations; some of them fail one by one."""
    usable = [is_conversation(prompt, settings) for prompt in prompts if prompt.error is None]
    if not any(usable):
        return nullcontext()
    chat = checkpoint.chat()
    if chat.templates or all(usable):
        chat.start()
    return chat


def _writer(settings: CheckedSettings) -> RowWriter | None:
    if settings.out is None:
        return None
    if settings.rows_to_stdout:
        return RowWriter(stream=sys.stdout.buffer)
    return RowWriter(Path(settings.out), resume=settings.resume)
