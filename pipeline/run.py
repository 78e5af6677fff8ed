"""`python -m pipeline.run`: from the command line to finished rows. docs/command-line.md describes it.

Every error raised on purpose ends here as one line on standard error and an exit code.
"""

import sys
import time
from contextlib import nullcontext
from pathlib import Path

from .cli.program import BAD_INPUT, CLOSED_PIPE, INTERRUPTED, guarded, open_streams

OK, SOME_FAILED = 0, 1
NOTED_CACHE = 1 << 30  # bytes of a KV cache that are worth a line
__all__ = ["BAD_INPUT", "CLOSED_PIPE", "INTERRUPTED", "OK", "SOME_FAILED", "main", "run"]


def main(arguments: list[str] | None = None, engine=None) -> int:
    """Runs the command line; returns the exit code. `engine`: what loads and generates, for tests."""
    return guarded(lambda: _main(arguments, engine))


def _main(arguments: list[str] | None, engine) -> int:
    from .cli.arguments import parse_arguments
    from .cli.console import make_display

    open_streams()
    settings = parse_arguments(arguments)
    display = make_display(settings)
    try:
        return run(settings, engine or load_engine(), display)
    finally:
        display.close()


def load_engine():
    """The package's own generator; DeviceError where the compiled core does not load."""
    from . import generation

    return generation


def run(settings, engine, display) -> int:
    """One run with checked settings; returns the exit code. Bad input raises before --out is opened."""
    from .checkpoints.opening import open_checkpoint
    from .checkpoints.tensor_info import listed
    from .cli.prompts import read_prompts, single_prompt

    prompts = single_prompt(settings.prompt) if settings.prompts is None else read_prompts(settings.prompts)
    started = time.perf_counter()
    display.loading(settings.model.name)
    with open_checkpoint(settings.model) as checkpoint, _chat(checkpoint, prompts, settings) as chat:
        tokenizer = checkpoint.tokenizer()
        device = {"device": settings.device, "threads": settings.threads, "isa": settings.isa}
        model = engine.load_model(checkpoint, **device)
        load_seconds = time.perf_counter() - started
        if checkpoint.unused:
            display.note(
                f"{settings.model.name}: {len(checkpoint.unused)} tensors have no place in this family and are "
                f"not used: {listed(checkpoint.unused)}"
            )
        if settings.explain:
            display.close()
            print(
                engine.Generator(
                    model, batch_size=settings.batch_size, kv_cache=settings.kv_cache, sampling=settings.sampling
                ).explain()
            )
            return OK
        return _generate(settings, engine, display, prompts, tokenizer, chat, model, load_seconds)


def _chat(checkpoint, prompts, settings):
    """The checkpoint's chat templates, on their way to be ready, where a prompt is a conversation; else None."""
    from .cli.session import is_conversation

    if not any(is_conversation(prompt, settings) for prompt in prompts):
        return nullcontext()
    chat = checkpoint.chat()
    chat.start()
    return chat


def _generate(settings, engine, display, prompts, tokenizer, chat, model, load_seconds) -> int:
    from .cli.session import Session, make_jobs
    from .cli.summary import make_summary, to_json

    jobs, failed = make_jobs(prompts, tokenizer, model, settings, chat)
    if chat is not None:
        chat.close()
    generator = _generator(settings, engine, model, jobs, display)
    with _writer(settings) or nullcontext() as writer:
        session = Session(jobs, failed, tokenizer, writer, display, settings.streams)
        session.begin()
        _handle_events(generator.run(session.requests(engine.Request, settings)), engine, session)
    if settings.trace is not None:
        from .cli.trace import write_trace

        write_trace(Path(settings.trace), generator.trace(), model.device.name)
    summary = make_summary(settings, model, generator.stats, session, load_seconds)
    display.summary(summary)
    if settings.json:
        print(to_json(summary), flush=True)
    found = getattr(model.device, "findings", ())  # of the checker
    for finding in found:
        print(finding, file=sys.stderr)
    return SOME_FAILED if session.failed or found else OK


def _handle_events(events, engine, session) -> None:
    """Hands each event to the session. Ctrl-C counts between events, so that no row is left half done."""
    from .cli.interrupt import Interrupt

    handlers = {
        engine.Prefilled: session.prefilled,
        engine.Token: session.token,
        engine.Finished: session.finish,
        engine.Failed: session.fail,
    }
    with Interrupt() as interrupt:
        for event in events:
            handlers[type(event)](event)
            if interrupt.requested:
                raise KeyboardInterrupt(f": {session.finished} of {len(session.jobs)} prompts are finished")


def _generator(settings, engine, model, jobs, display):
    """A generator with room for the longest text, and for no more rows than there are prompts."""
    from .graph.plan import human

    context = max(len(job.tokens) + job.max_tokens for job in jobs)
    batch_size = min(settings.batch_size, len(jobs))
    options = {"trace": True} if settings.trace is not None else {}
    nbytes = engine.cache_bytes(model, batch_size, context, settings.kv_cache)
    if nbytes >= NOTED_CACHE:
        display.note(f"KV cache: {human(nbytes)} in {settings.kv_cache} for {batch_size:,} × {context:,} positions")
    return engine.Generator(model, batch_size=batch_size, context=context, kv_cache=settings.kv_cache, **options)


def _writer(settings):
    from .cli.rows import RowWriter

    if settings.out is None:
        return None
    if settings.rows_to_stdout:
        return RowWriter(stream=sys.stdout.buffer)
    return RowWriter(Path(settings.out))


if __name__ == "__main__":
    sys.exit(main())
