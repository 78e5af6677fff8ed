"""The texts of one request while they run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TypeAlias

from ..checkpoints.tokenizer import Tokenizer
from ..cli.job_requests import request_of
from ..cli.jobs import Job
from ..cli.settings import CheckedSettings
from ..generation.driver import Driver
from ..generation.requests import Event, Failed, Finished, Handle
from .asked import Asked
from .errors import Gone

__all__ = ["Texts"]

_Item: TypeAlias = tuple[int, Event]


class Texts:
    """Submits the texts of a request, numbered in the order of their choices, and gives their events. Whoever leaves
    closes it: what still runs ends then."""

    def __init__(self, driver: Driver, tokenizer: Tokenizer, settings: CheckedSettings, asked: Asked) -> None:
        self.jobs: list[Job] = [job for job in asked.jobs for _ in job.samples]
        self._driver = driver
        self._news: asyncio.Queue[_Item | None] = asyncio.Queue()
        self._running: dict[int, Handle] = {}
        self.made = 0  # tokens
        post = asyncio.get_running_loop().call_soon_threadsafe
        number = 0
        try:
            for job in asked.jobs:
                for sample in job.samples:
                    request = request_of(job, sample, 0, settings, tokenizer)
                    self._running[number] = driver.submit(request, partial(self._hear, number), post)
                    number += 1
        except BaseException:
            self.close()
            raise

    def _hear(self, number: int, event: Event) -> None:
        self._news.put_nowait((number, event))

    def leave(self) -> None:
        """The client has left: whoever waits for events gets Gone."""
        self._news.put_nowait(None)

    async def events(self) -> AsyncIterator[list[_Item]]:
        """Events as they come, all that are there at once."""
        while self._running:
            items = [await self._news.get()]
            while not self._news.empty():
                items.append(self._news.get_nowait())
            found = [item for item in items if item is not None]
            for number, event in found:
                if isinstance(event, (Finished, Failed)):
                    del self._running[number]
                if isinstance(event, Finished):
                    self.made += len(event.tokens)
            if len(found) < len(items):
                raise Gone
            yield found

    def close(self) -> None:
        running, self._running = self._running, {}
        for handle in running.values():
            self._driver.cancel(handle)
