"""One run with checked settings: a checkpoint is opened, prompts go through the generator, rows and text come out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.opening import open_checkpoint
from ..checkpoints.tensor_info import listed
from ..checkpoints.tokenizer import Tokenizer
from ..generation.generator import Generator
from ..generation.requests import Stats
from ..generation.usage import Blocks
from ..graph.plan import human
from ..models.decoder import Decoder
from .console import make_display
from .display import Display
from .engine import Engine, package_engine
from .feed import Feed
from .interrupt import Interrupt
from .jobs import JobMaker
from .progress import Progress
from .prompts import OnePrompt, OneText, Prompts, open_prompts
from .record import check_record, read_record, record_of, record_path, write_record
from .room import check_context, evaluated, least_size, wanted_size
from .row_file import RowWriter
from .session import Session
from .settings import ORDERS, STORY_PROMPT, CheckedSettings
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
        with open_checkpoint(settings.model) as checkpoint, ExitStack() as chats:
            tokenizer = checkpoint.tokenizer()
            if settings.chat:
                chats.enter_context(checkpoint.chat()).start()  # it gets ready while the model does
            model = self._engine.load_model(
                checkpoint, device=settings.device, threads=settings.threads, isa=settings.isa
            )
            load_seconds = time.perf_counter() - started
            check_context(settings, model)
            if settings.evaluates:
                settings = self._settings = evaluated(settings, model)
            self._note_weights(checkpoint, model)
            if settings.explain:
                self._explain(model)
                return True
            maker = JobMaker(tokenizer, model, settings, lambda: chats.enter_context(checkpoint.chat()))
            return self._generate(checkpoint, model, tokenizer, maker, prompts, load_seconds)

    def _note_weights(self, checkpoint: Checkpoint, model: Decoder) -> None:
        for line in model.notes:
            self._display.note(f"{self._settings.model.name}: {line}")
        if checkpoint.note is not None:
            self._display.note(f"{self._settings.model.name}: {checkpoint.note}")
        if checkpoint.unused:
            count = len(checkpoint.unused)
            what = "1 tensor has no place in this family and is" if count == 1 else f"{count} tensors have none and are"
            self._display.note(f"{self._settings.model.name}: {what} not used: {listed(checkpoint.unused)}")

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
        self,
        checkpoint: Checkpoint,
        model: Decoder,
        tokenizer: Tokenizer,
        maker: JobMaker,
        prompts: Prompts,
        load_seconds: float,
    ) -> bool:
        settings, engine, display = self._settings, self._engine, self._display
        with ExitStack() as early:
            writer = self._writer(early, checkpoint) if settings.resume else None
            samples = 0 if settings.evaluates else settings.n
            feed = Feed(prompts, maker, samples, writer.kept if writer is not None else None)
            feed.look_ahead()
            self._note(feed, writer)
            generator, seconds = self._generator(model, feed) if feed.ahead else (None, 0.0)  # it may refuse
            if generator is not None and not feed.all_here:
                maker.context = generator.context
            with Interrupt() as interrupt, early.pop_all() as stack:
                writer = writer or self._writer(stack, checkpoint)  # no file was emptied before this

                def check() -> None:
                    progress.look()
                    of = f" of {feed.jobs}" if feed.all_here else ""
                    interrupt.check(f"{session.finished}{of} prompts are finished")

                session = Session(feed, settings, tokenizer, writer, display, check, _shows(settings))
                metrics = None if settings.metrics is None else Path(settings.metrics)
                progress = Progress(
                    display,
                    feed,
                    session,
                    lambda: generator.stats if generator else Stats(),
                    metrics,
                    lambda: generator.blocks if generator else Blocks(),
                )
                stack.callback(progress.close)
                session.begin()
                if generator is not None:
                    requests = session.requests(engine.Request)
                    events = generator.run(list(requests) if feed.all_here and not settings.evaluates else requests)
                    self._handle_events(events, session, check)
            self._note(feed)
        if settings.trace is not None:
            write_trace(Path(settings.trace), generator.trace() if generator else (), model.device.name)
        stats = Stats() if generator is None else generator.stats
        if settings.batch_size is None:
            settings = replace(settings, batch_size=1 if generator is None else generator.batch_size)
        summary = make_summary(settings, model, stats, session, load_seconds + seconds)
        display.summary(summary)
        if settings.json:
            print(to_json(summary), flush=True)
        found = getattr(model.device, "findings", ())  # only the checker has some
        for finding in found:
            print(finding, file=sys.stderr)
        return not session.failed and not found

    def _writer(self, stack: ExitStack, checkpoint: Checkpoint) -> RowWriter | None:
        """The writer of rows, which ends with `stack`. UsageError where a file cannot be used, or is of other
        settings."""
        settings = self._settings
        if settings.out is None:
            return None
        if settings.rows_to_stdout:
            return stack.enter_context(RowWriter(stream=sys.stdout.buffer))
        path = Path(settings.out)
        if path.exists() and not path.is_file():  # a pipe, or a device
            return stack.enter_context(RowWriter(path))
        record = record_of(settings, checkpoint.files)
        before = read_record(path) if settings.resume and path.exists() and path.stat().st_size else None
        if before is not None:
            check_record(path, before, record)
        in_order = settings.order == ORDERS[0]
        writer = RowWriter(
            path, resume=settings.resume, overwrite=settings.overwrite, in_order=in_order, scores=settings.evaluates
        )
        stack.enter_context(writer)
        if before is None:
            if writer.rows:
                self._display.note(f"{record_path(path)}: is not there, so nothing tells with what the rows were made")
            write_record(path, record)
        return writer

    def _note(self, feed: Feed, writer: RowWriter | None = None) -> None:
        """Names the keys that mean nothing, and how many prompts have their rows already."""
        message = feed.unknown.message()
        if message is not None:
            self._display.note(message)
        if writer is not None:
            of = f"rows of {feed.kept} of {feed.kept + feed.jobs} prompts" if feed.all_here else f"{writer.rows:,} rows"
            self._display.note(f"{self._settings.out}: has {of} already")

    def _generator(self, model: Decoder, feed: Feed) -> tuple[Generator, float]:
        """A generator with room for the texts, and the seconds in which weights went to a device that has memory of its
        own."""
        settings, jobs = self._settings, feed.ahead

        def cache_bytes(batch_size: int, context: int) -> int:
            return self._engine.cache_bytes(model, batch_size, context, settings.kv_cache)

        wanted = wanted_size(settings, model, jobs, feed.all_here, cache_bytes)
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
        nbytes = cache_bytes(batch_size, context)
        if (batch_size, context) == wanted and nbytes >= NOTED_CACHE:
            self._display.note(
                f"KV cache: {human(nbytes)} in {settings.kv_cache} for {batch_size:,} × {context:,} positions"
            )
        return generator, ended - started

    def _handle_events(self, events: Iterable[object], session: Session, check: Callable[[], None]) -> None:
        """Hands each event to the session. A signal counts between events, so that no row is left half done."""
        handlers: dict[type, Callable[[Any], None]] = {
            self._engine.Prefilled: session.prefilled,
            self._engine.Token: session.token,
            self._engine.Finished: session.finish,
            self._engine.Failed: session.fail,
            type(None): lambda event: None,  # nothing happened for a while, on machines that are elsewhere
        }
        try:
            for event in events:
                handlers[type(event)](event)
                check()
        except KeyboardInterrupt:
            with suppress(OSError):
                session.show_rest()
            raise


def _prompts(settings: CheckedSettings) -> Prompts:
    if settings.prompts is not None:
        return open_prompts(settings.prompts)
    if settings.text is not None:
        return OneText(settings.text)
    return OnePrompt(STORY_PROMPT if settings.prompt is None else settings.prompt)


def _shows(settings: CheckedSettings) -> bool:
    """Whether rows are shown as texts."""
    return not (settings.streams or settings.evaluates or settings.json) and settings.out is None
