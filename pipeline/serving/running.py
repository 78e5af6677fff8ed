"""Starts the server, and ends it when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

from ..checkpoints.hub import model_name
from ..checkpoints.opening import open_checkpoint
from ..cli.room import check_context
from ..errors import UsageError
from ..generation.driver import Driver
from ..graph.plan import human
from ..language.loading import made_scheduler
from ..models.families import load_model
from .app import make_app
from .options import BATCH, Options, is_loopback
from .service import Service, to_stderr

__all__ = ["serve"]

MOST_HEADER_BYTES = 1 << 16
IDLE_SECONDS = 30  # after which a connection without a request is closed
# The thread that steps needs Python's lock for a moment between steps, and must not wait for 5 ms while others have it.
SWITCH_SECONDS = 2e-4
# Pieces of a stream come no faster: a fast model's have several tokens, and leave the processor to the model.
PACE_SECONDS = 0.02


def serve(options: Options) -> None:
    """Serves until a signal ends it. UsageError, CheckpointError and others where it cannot start."""
    settings = options.settings
    _check_packages()
    listening = _listen(options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(listening)
        checkpoint = stack.enter_context(open_checkpoint(settings.model))
        chat = stack.enter_context(checkpoint.chat())
        tokenizer = checkpoint.tokenizer()
        model = load_model(checkpoint, device=settings.device, threads=settings.threads, isa=settings.isa)
        check_context(settings, model)
        batch = settings.batch_size or (BATCH if model.device.unified else None)
        scheduler = made_scheduler(model, batch, settings.context, settings.kv_cache, settings.prompt_rows)
        name = options.name or model_name(settings.model)
        chat.most_stopped = None
        chat.source = name  # messages of its templates go to clients, who need not know folders
        driver = Driver(scheduler, PACE_SECONDS)
        service = Service(options, name, tokenizer, chat, driver, to_stderr)
        address = _address(listening)
        to_stderr(
            f"onebuf: serves {name} at {address}, {scheduler.batch_size} texts of {scheduler.context:,} positions"
        )
        to_stderr(f"onebuf: weights {human(checkpoint.nbytes)}; {address}/ has a page, {address}/v1 is for clients")
        for line in model.notes:
            to_stderr(f"onebuf: note: {line}")
        if not is_loopback(options.host) and options.api_key is None:
            to_stderr("onebuf: note: whoever reaches this address may use it; --api-key asks for a key")
        gc.freeze()  # what was loaded stays: no collection need look at it while texts run
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            asyncio.run(_Server(make_app(service, options), options).run(listening))
        finally:
            driver.close()


def _check_packages() -> None:
    """Raises UsageError where the extra is missing, before anything is loaded."""
    try:
        # An extra, which other programs do not need.
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401  # the same extra
    except ImportError as error:
        raise UsageError(f"the server needs the package {error.name}: pip install onebuf[serve]") from error


def _listen(options: Options) -> socket.socket:
    try:
        kind = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        return socket.create_server((options.host, options.port), family=kind, backlog=512)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host {options.host} --port {options.port}: cannot listen there: {reason}") from error


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server:
    """uvicorn's server. The first signal ends it when the requests that run have ended, or their time is over; another
    one ends it at once."""

    def __init__(self, app: Any, options: Options) -> None:
        # An extra, which other programs do not need.
        import uvicorn

        class Quiet(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # run() has them: uvicorn would raise them again at its end

        config = uvicorn.Config(
            app,
            http="h11",  # whatever else is installed: limits are those of this one
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=max(1, round(options.drain)),
        )
        self._server = Quiet(config)

    async def run(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._end)
        await self._server.serve([listening])

    def _end(self) -> None:
        if self._server.should_exit:
            self._server.force_exit = True
        else:
            to_stderr("onebuf: ends when the requests that run have ended; another signal ends it now")
        self._server.should_exit = True
