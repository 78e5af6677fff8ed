"""Texts that are read while they grow, by a loop or by an asynchronous one."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator

from ..generation.driver import Driver
from ..generation.requests import Event, Failed, Finished, Handle, Request
from .texts import Growing, Text

__all__ = ["AsyncStream", "Stream"]


class _Growth:
    """What both kinds of streams have: `result` is the whole text when it has ended, and None before."""

    def __init__(self, growing: Growing) -> None:
        self._growing = growing
        self._over = False

    @property
    def result(self) -> Text | None:
        return self._growing.result

    def _take(self, event: Event) -> str:
        self._over = isinstance(event, (Finished, Failed))
        return self._growing.take(event)


class Stream(_Growth, Iterator[str]):
    """The pieces of a text as they come. It is for one thread. Whoever stops early closes it, and the text ends."""

    def __init__(self, driver: Driver, request: Request, growing: Growing) -> None:
        super().__init__(growing)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._driver = driver
        self._handle = driver.submit(request, self._events.put)

    def __next__(self) -> str:
        while not self._over:
            try:
                event = self._events.get()
            except BaseException:  # Ctrl-C
                self.close()
                raise
            if piece := self._take(event):
                return piece
        raise StopIteration

    def close(self) -> None:
        """Ends the text where it is. Nothing happens where it has ended."""
        if not self._over:
            self._over = True
            self._driver.cancel(self._handle)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):  # it was submitted
            self.close()


class AsyncStream(AsyncIterator[str]):
    """The same for `async for`. Nothing happens before the first piece is asked for; `start` then says, in another
    thread, what is to be generated."""

    def __init__(self, driver: Driver, start: Callable[[], tuple[Request, Growing]]) -> None:
        self._driver = driver
        self._start = start
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._growth: _Growth | None = None
        self._handle: Handle | None = None
        self._over = False

    @property
    def result(self) -> Text | None:
        return self._growth.result if self._growth is not None else None

    async def __anext__(self) -> str:
        try:
            while not self._over:
                if self._growth is None:
                    self._growth = await self._begun()
                piece = self._growth._take(await self._events.get())
                self._over = self._growth._over
                if piece:
                    return piece
        except BaseException:  # the text failed, or the task was cancelled
            await self.aclose()
            raise
        raise StopAsyncIteration

    async def _begun(self) -> _Growth:
        request, growing = await asyncio.to_thread(self._start)
        post = asyncio.get_running_loop().call_soon_threadsafe
        self._handle = self._driver.submit(request, self._events.put_nowait, post)
        return _Growth(growing)

    async def aclose(self) -> None:
        """Ends the text where it is. Nothing happens where it has ended."""
        self._end()

    def _end(self) -> None:
        over, self._over = self._over, True
        if not over and self._handle is not None:
            self._driver.cancel(self._handle)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._end()

    def __del__(self) -> None:
        self._end()
