"""The workers of a run: which are there, what each has on its way, and what becomes of the orders of those that die.

It gives each worker as many orders as keep it busy, and no more. Where workers are, and when one is begun anew, is for
Ray to say.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ..errors import RunError, UsageError
from ..generation.requests import Failed, Stats
from ..generation.usage import Blocks
from .orders import Answer, Figures, Order, Refusal, Report, Room, Size, total

__all__ = ["Crew", "Hand"]

AHEAD = 2  # orders that a worker has beside each text that it can run: their way there takes no time of it then
MOST_DEATHS = 3  # of workers, with which an order was; and of a worker in a row, which answers nothing between
REST_SECONDS = 1.0  # until a worker that died is asked again
LOOK_SECONDS = 0.2  # in which nothing happens, after which the caller may look at signals
END_SECONDS = 30.0  # for the last figures
SLOW_SECONDS = 30.0  # after which somebody is told that no worker is there yet


class Hand(Protocol):
    """A way to a worker, as cluster.Actor is one."""

    def call(self, name: str, *arguments: object) -> Future[Any]: ...
    def has_died(self, error: BaseException) -> bool: ...
    def is_gone(self, error: BaseException) -> bool: ...
    def reason(self, error: BaseException) -> str: ...
    def kill(self) -> None: ...


@dataclass(eq=False)
class _Member:
    """A worker. deaths: how often in a row it died without an answer between. again_at: when it is to be asked again,
    if it is (by the monotonic clock). report: what it has loaded."""

    hand: Hand
    where: str
    report: Report | None = None
    ready: bool = False
    asked: bool = False
    deaths: int = 0
    again_at: float | None = None
    running: set[int] = field(default_factory=set)


@dataclass
class _Sent:
    """An order on its way, or waiting to go again. deaths: of workers that had it."""

    order: Order
    deaths: int = 0


@dataclass(frozen=True)
class _News:
    """A call of a worker that has ended: its future has the result, or the error."""

    member: _Member
    name: str
    future: Future[Any]
    sent: _Sent | None = None


class Crew:
    """Workers, each on a machine of that name. notice: gets lines about those that are left out or die.

    Threads: it is for one thread."""

    def __init__(self, hands: Iterable[tuple[str, Hand]], notice: Callable[[str], None]) -> None:
        self.notice = notice
        self._members = [_Member(hand, where) for where, hand in hands]
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._again: deque[_Sent] = deque()  # orders of workers that died
        self._room: Room | None = None
        self._size: Size | None = None
        self._figures: dict[str, Figures] = {}  # by the worker's life
        self._lives: dict[_Member, str] = {}
        self._refused = ""  # the first reason
        self._on_way = 0

    def __len__(self) -> int:
        return len(self._members)

    # Beginning

    def load(self) -> Report:
        """Has all workers load the model. The report of the first that has; the others go on with it. UsageError where
        none can."""
        for member in self._members:
            self._call(member, "load")
        began, told = time.monotonic(), False
        while True:
            if (first := next((each.report for each in self._members if each.report), None)) is not None:
                return first
            self._look()
            if not told and time.monotonic() - began > SLOW_SECONDS:
                told = True
                self.notice("waits for Ray to give a worker what it needs, and for the model to load; see `ray status`")

    def prepare(self, room: Room) -> Size:
        """Has the workers get ready. The size of all of them, which is that of the first one."""
        self._room = room
        while self._size is None:
            self._ask()
            self._look()
        return self._size

    # Work

    def run(self, requests: Iterable[Order | None]) -> Iterator[Answer | None]:
        """The answers to orders, as they come. An order is taken from `requests` when a worker has room for it; None
        says that there is none now. None is given where nothing has happened for a while.

        RunError where no worker is left."""
        waiting, more = iter(requests), True
        while more or self._on_way or self._again:
            self._ask()
            dry = False
            while (member := self._roomiest()) is not None and not dry:
                sent = self._again.popleft() if self._again else None
                if sent is None and more:
                    try:
                        order = next(waiting)
                    except StopIteration:
                        more = False
                    else:
                        sent = None if order is None else _Sent(order)
                        dry = order is None
                if sent is None:
                    break
                self._send(member, sent)
            yield self._look(0 if dry and not self._on_way else LOOK_SECONDS)  # whoever gives orders has waited

    @property
    def stats(self) -> Stats:
        """What all workers did so far, without the counts of experts."""
        return total(list(self._figures.values()), len(self._members))

    @property
    def blocks(self) -> Blocks:
        """The blocks of all caches."""
        now = [self._figures[life].blocks for life in self._lives.values()]
        return Blocks(*map(sum, zip(*now))) if now else Blocks()

    def expert_counts(self) -> np.ndarray | None:
        """Those of all workers that are there now."""
        calls = [member.hand.call("expert_counts") for member in self._members if member.ready]
        end, sums = time.monotonic() + END_SECONDS, None
        for call in calls:
            try:
                counts = call.result(max(end - time.monotonic(), 0.01))
            except Exception:  # it died since: its rows are there, and this is a figure
                continue
            if counts is not None:
                sums = counts if sums is None else sums + counts
        return sums

    def close(self) -> None:
        for member in self._members:
            member.hand.kill()

    # Calls

    def _call(self, member: _Member, name: str, *arguments: object, sent: _Sent | None = None) -> None:
        future = member.hand.call(name, *arguments)
        future.add_done_callback(lambda future: self._news.put(_News(member, name, future, sent)))

    def _ask(self) -> None:
        """Has workers get ready that have loaded the model, or were begun anew."""
        room, now = self._room, time.monotonic()
        if room is not None and self._size is not None:
            room = replace(room, wanted=self._size, least=self._size)  # the rows of all have the same room
        for member in list(self._members):
            rested = member.again_at is not None and now >= member.again_at
            loaded = member.again_at is None and member.report is not None
            if room is None and rested:
                member.again_at = None
                self._call(member, "load")
            elif room is not None and not member.ready and not member.asked and (loaded or rested):
                member.asked, member.again_at = True, None
                self._call(member, "prepare", room)
                if self._size is None:
                    return  # the first one says how large all are

    def _roomiest(self) -> _Member | None:
        """The worker with the fewest orders of those that have room for one more."""
        if self._size is None:
            return None
        most = AHEAD * self._size.batch_size + AHEAD
        ready = [member for member in self._members if member.ready]
        found = min(ready, key=lambda member: len(member.running), default=None)
        return found if found is not None and len(found.running) < most else None

    def _send(self, member: _Member, sent: _Sent) -> None:
        member.running.add(sent.order.request.index)
        self._on_way += 1
        self._call(member, "answer", sent.order, sent=sent)

    def _look(self, seconds: float = LOOK_SECONDS) -> Answer | None:
        """Takes the next news, for which it waits so many seconds. An answer, where it is one."""
        try:
            news = self._news.get(timeout=seconds)
        except queue.Empty:
            return None
        member, sent, error = news.member, news.sent, news.future.exception()
        if sent is not None:
            self._on_way -= 1
            member.running.discard(sent.order.request.index)
        if error is not None:
            return self._failed(member, sent, error)
        found = news.future.result()
        if isinstance(found, Answer):
            member.deaths = 0
            if found.figures is not None:
                self._lives[member] = found.figures.life
                self._figures[found.figures.life] = found.figures
            return found
        if isinstance(found, Refusal):
            self._leave_out(member, found.reason)
        elif isinstance(found, Report):
            member.report = found
        elif isinstance(found, Size):
            member.ready, member.asked = True, False
            self._size = self._size or found
        elif sent is not None:  # the worker was begun anew before the order came to it
            if member.ready:  # else it is known
                self._rest(member, "its process was begun anew")
            self._again.append(sent)
        return None

    def _failed(self, member: _Member, sent: _Sent | None, error: BaseException) -> Answer | None:
        """What becomes of a call that failed."""
        reason = member.hand.reason(error)
        if sent is not None and not member.hand.has_died(error):  # a mistake in a worker's program
            return Answer(Failed(sent.order.request.index, reason))
        if member in self._members and member.hand.is_gone(error):
            self._leave_out(member, reason)
        elif sent is None or member.ready:  # else it is known
            self._rest(member, reason)
        if sent is None:
            return None
        sent.deaths += 1
        if sent.deaths >= MOST_DEATHS:
            why = f"{sent.deaths} workers died while they had it; --resume runs it again"
            return Answer(Failed(sent.order.request.index, why))
        self._again.append(sent)
        return None

    def _rest(self, member: _Member, reason: str) -> None:
        """A worker died. It is asked again in a while, when Ray has begun it anew."""
        if member not in self._members:
            return
        if member.ready:
            self.notice(f"the worker on {member.where} died; the rows that it had run again")
        member.ready = member.asked = False
        member.deaths += 1
        self._lives.pop(member, None)
        if member.deaths >= MOST_DEATHS:
            self._leave_out(member, f"it died {member.deaths} times in a row: {reason}")
        else:
            member.again_at = time.monotonic() + REST_SECONDS

    def _leave_out(self, member: _Member, reason: str) -> None:
        """Goes on without a worker. UsageError or RunError where it was the last one."""
        self._members.remove(member)
        self._lives.pop(member, None)
        member.ready = False
        member.hand.kill()
        self._refused = self._refused or f"the worker on {member.where}: {reason}"
        if not self._members:
            if self._size is None:
                raise UsageError(f"--ray: no worker can run: {self._refused}")
            raise RunError(
                f"no worker of Ray is left: {self._refused}; finished rows are in --out, go on with --resume"
            )
        self.notice(f"goes on without the worker on {member.where}: {reason}")
