"""One thread that makes a scheduler's steps, for any number of threads and event loops that give it requests."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from ..errors import ClosedError
from .requests import Event, Failed, Finished, Handle, Request
from .scheduler import ABANDONED, Scheduler

__all__ = ["Driver", "Listener", "Post"]

Listener: TypeAlias = Callable[[Event], None]
"""Is called with each event of a request; the last one is its Finished or Failed."""
Post: TypeAlias = Callable[..., Any]
"""Has a function called with arguments elsewhere, as `loop.call_soon_threadsafe` does."""
_Item: TypeAlias = tuple[Listener, Event]
_Result = TypeVar("_Result")


class Driver:
    """Steps a scheduler in a thread of its own, which begins with the first request and rests where there is none.

    A listener is called in that thread, and must return at once. With `post` it is called where that brings it. Events
    go there together, at least every `pace` seconds and whenever a text ends, so that an event loop is not woken for
    every token of a fast model.

    Threads: everything here is for any thread. The scheduler belongs to the driver: nobody else steps it.
    """

    def __init__(self, scheduler: Scheduler, pace: float = 0.0) -> None:
        self.scheduler = scheduler
        self._pace = pace
        self._posted: dict[Post, list[_Item]] = {}  # what waits to be brought
        self._brought = 0.0  # when that happened last
        self._news = threading.Condition()
        self._numbers = itertools.count()
        self._listeners: dict[int, tuple[Handle, Listener, Post | None]] = {}
        self._errands: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False

    @property
    def running(self) -> int:
        """Requests that have not ended."""
        return len(self._listeners)

    def submit(self, request: Request, listener: Listener, post: Post | None = None) -> Handle:
        """Takes a request, whose index becomes a number of the driver's. PromptError where it can never run here."""
        with self._news:
            if self._closing:
                raise ClosedError("no more requests are taken: the model was closed")
            number = next(self._numbers)
            handle = self.scheduler.submit(replace(request, index=number))
            self._listeners[number] = handle, listener, post
            self._wake()
        return handle

    def cancel(self, handle: Handle) -> None:
        """Ends a request with what it has by now; its Finished says "cancelled"."""
        with self._news:
            self.scheduler.cancel(handle)
            self._news.notify_all()

    def between_steps(self, errand: Callable[[], _Result]) -> Future[_Result]:
        """Has `errand` called in the driver's thread, where it may look at what the steps change."""
        done: Future[_Result] = Future()
        with self._news:
            if self._closing:
                raise ClosedError("the model was closed")
            self._errands.append((errand, done))
            self._wake()
        return done

    def close(self, drain: bool = False) -> None:
        """Takes no more requests, and returns when the thread has ended. With `drain`, requests run to their ends
        first; else they are cancelled."""
        with self._news:
            self._closing = True
            if not drain:
                for handle, _, _ in self._listeners.values():
                    self.scheduler.cancel(handle)
            self._news.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _wake(self) -> None:
        if self._thread is None:
            # A program that forgets to close a model can end all the same.
            self._thread = threading.Thread(target=self._work, name="onebuf driver", daemon=True)
            self._thread.start()
        self._news.notify_all()

    def _work(self) -> None:
        while True:
            with self._news:
                while self.scheduler.idle and not self._errands and not self._closing:
                    self._news.wait()
                if self.scheduler.idle and not self._errands and self._closing:
                    return
                errands, self._errands = self._errands, deque()
            for errand, done in errands:
                _run(errand, done)
            if not self.scheduler.idle:
                self._hand_out(self._events())

    def _events(self) -> Iterable[Event]:
        """The events of a step. Where it fails, so do the requests that had a slot; the others go on."""
        try:
            return self.scheduler.step()
        except Exception as error:
            with self._news:
                handles = [handle for handle, _, _ in self._listeners.values()]
            ends = [handle.end for handle in handles if handle.end is not None]
            if not ends:  # it would fail again and again
                self.scheduler.abandon()
                ends = [handle.end or Failed(handle.request.index, ABANDONED) for handle in handles]
                ends = [Failed(end.index, f"{ABANDONED}: {error}") for end in ends]
            return ends

    def _hand_out(self, events: Iterable[Event]) -> None:
        direct: list[_Item] = []
        due = False
        with self._news:  # whoever submits a request holds this until its listener is known
            for event in events:
                found = self._listeners.get(event.index)
                if found is None:
                    continue
                if isinstance(event, (Finished, Failed)):
                    del self._listeners[event.index]
                    due = True
                _, listener, post = found
                items = direct if post is None else self._posted.setdefault(post, [])
                items.append((listener, event))
        _call(direct)
        now = time.monotonic()
        if self._posted and (due or now - self._brought >= self._pace):
            self._brought = now
            self._bring()

    def _bring(self) -> None:
        posted, self._posted = self._posted, {}
        for post, items in posted.items():
            try:
                post(_call, items)
            except RuntimeError:  # the event loop was closed: nobody waits for these any more
                self._forget(items)

    def _forget(self, items: Iterable[_Item]) -> None:
        with self._news:
            for _, event in items:
                if event.index in self._listeners:
                    self.scheduler.cancel(self._listeners[event.index][0])


def _call(items: Iterable[_Item]) -> None:
    for listener, event in items:
        listener(event)


def _run(errand: Callable[[], _Result], done: Future[_Result]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(errand())
    except BaseException as error:
        with suppress(Exception):
            done.set_exception(error)
