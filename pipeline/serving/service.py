"""One model behind OpenAI's interface: requests come in as bodies, and go out as answers or streams."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from ..checkpoints.chat import Chat
from ..checkpoints.tokenizer import Tokenizer
from ..cli.jobs import JobMaker
from ..errors import ClosedError, OnebufError, PromptError
from ..generation.driver import Driver
from ..language.tool_formats import tool_format
from .asked import MOST_PROMPTS, Asked, read_asked
from .errors import ApiError, Gone
from .figures import Meter
from .options import Options
from .replies import Replies
from .texts import Texts
from .wire import Json, Receive, Send, Sender, read_json, until_gone

__all__ = ["Service"]

_AGAIN = {"retry-after": "1"}


class Service:
    """Answers requests. name: what clients call the model. log: takes a line per request, which has nothing of it but
    its id and counts."""

    def __init__(
        self, options: Options, name: str, tokenizer: Tokenizer, chat: Chat, driver: Driver, log: Callable[[str], None]
    ) -> None:
        self.name = name
        self.meter = Meter(driver)
        self.created = int(time.time())
        self._options, self._settings = options, options.settings
        self._tokenizer, self._driver, self._log = tokenizer, driver, log
        self.talks = bool(chat.templates)
        self._form = tool_format(chat.templates.values())
        self._maker = JobMaker(tokenizer, driver.scheduler.model, options.settings, lambda: chat)
        self._maker.context = driver.scheduler.context
        self._replies = Replies(name, tokenizer, self._form)
        self._numbers = itertools.count()

    async def answer(self, chat: bool, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request, whatever it is."""
        key, began, sender = secrets.token_hex(12), time.monotonic(), Sender(send)
        asked: Asked | None = None
        texts: Texts | None = None
        status = 200
        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            body = await read_json(headers, receive, self._options.body)
            asked = await self._asked(body, chat)
            del body
            async with self._running(asked) as texts, _watched(texts, receive):
                if asked.stream:
                    async with aclosing(self._replies.chunks(key, asked, texts)) as chunks:
                        await sender.events(chunks)
                else:
                    whole = await self._replies.whole(key, asked, texts)
                    await Json(whole)(scope, receive, send)
        except (Gone, asyncio.CancelledError) as left:
            status = 499
            if isinstance(left, asyncio.CancelledError):
                raise
        except Exception as error:
            problem = self.problem(key, error)
            status = problem.status
            if not sender.started:
                with suppress(Gone):
                    await Json(problem.body, status, _AGAIN if status == 429 else None)(scope, receive, send)
        finally:
            self._count(key, status, asked, texts, time.monotonic() - began)

    async def _asked(self, body: dict[str, Any], chat: bool) -> Asked:
        if chat and not self.talks:
            raise ApiError(400, "this model has no chat template; use /v1/completions", code="no_chat_template")
        number = next(self._numbers) * MOST_PROMPTS
        # In another thread: a template is rendered in a process, and a long prompt takes its time.
        asked = await asyncio.to_thread(
            read_asked, body, chat, self.name, number, self._maker, self._form, self._tokenizer
        )
        if asked.texts > self._options.requests:
            raise ApiError(400, f"{asked.texts} texts are more than the {self._options.requests} of this server")
        return asked

    @asynccontextmanager
    async def _running(self, asked: Asked) -> AsyncIterator[Texts]:
        if self.meter.texts + asked.texts > self._options.requests:
            self.meter.refused += 1
            raise ApiError(429, "this server has as many requests as it takes; try again later", code="server_busy")
        self.meter.texts += asked.texts
        try:
            texts = Texts(self._driver, self._tokenizer, self._settings, asked)
            try:
                yield texts
            finally:
                texts.close()
        finally:
            self.meter.texts -= asked.texts

    def problem(self, key: str, error: Exception) -> ApiError:
        """The answer to a request that an error ended."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, PromptError):
            return ApiError(400, str(error))
        if isinstance(error, ClosedError):
            return ApiError(503, "the server is shutting down")
        place = traceback.extract_tb(error.__traceback__)[-1]
        self._log(f"{key} {type(error).__name__} at {place.filename.rpartition('/')[2]}:{place.lineno}")
        return ApiError(500, str(error) if isinstance(error, OnebufError) else "an error of the server; its log has it")

    def _count(self, key: str, status: int, asked: Asked | None, texts: Texts | None, seconds: float) -> None:
        if status == 200:
            self.meter.finished += 1
        else:
            self.meter.failed += 1
        prompt, made = asked.prompt_tokens if asked else 0, texts.made if texts else 0
        self._log(f"{key} {status} {prompt} + {made} tokens, {seconds:.2f} s")


@asynccontextmanager
async def _watched(texts: Texts, receive: Receive) -> AsyncIterator[None]:
    """Meanwhile, texts end where their client leaves."""
    watch = asyncio.ensure_future(until_gone(receive))
    watch.add_done_callback(lambda _: texts.leave())
    try:
        yield
    finally:
        watch.cancel()


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
