"""Workers in this process, each with an event loop in a thread of its own, in the place of Ray's actors."""

import asyncio
import threading
from concurrent.futures import Future

from pipeline.ray.worker import Worker


class Died(Exception):
    """A worker's process is not there."""


class LocalHand:
    """A way to a worker of this process, which dies and is begun anew as Ray's actors are.

    lives: how often it may be begun. dies_with: numbers of orders that end the process."""

    def __init__(self, setup, lives=10, dies_with=()):
        self.setup, self.lives, self.dies_with = setup, lives, set(dies_with)
        self.answered, self.most, self.calls, self.lock = [], 0, set(), threading.Lock()
        self._begin()

    def _begin(self):
        self.lives -= 1
        self.worker = Worker(self.setup)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def call(self, name, *arguments):
        future = Future()
        if self.lives < 0:
            future.set_exception(Died("gone"))
            return future
        with self.lock:
            self.calls.add(future)
        self.most = max(self.most, len(self.calls))
        if name == "answer" and arguments[0].request.index in self.dies_with:
            self.die()
            return future
        inner = asyncio.run_coroutine_threadsafe(getattr(self.worker, name)(*arguments), self.loop)
        inner.add_done_callback(lambda inner: self._take(future, name, inner))
        return future

    def _take(self, future, name, inner):
        with self.lock:
            if future not in self.calls:
                return
            self.calls.discard(future)
        if name == "answer" and inner.result() is not None:
            self.answered.append(inner.result().end.index)
        future.set_result(inner.result())

    def die(self):
        """The process ends with all that was on its way, and another one begins."""
        with self.lock:
            calls, self.calls = self.calls, set()
        self._begin()
        for future in calls:
            future.set_exception(Died("killed"))

    def has_died(self, error):
        return isinstance(error, Died)

    def is_gone(self, error):
        return str(error) == "gone"

    def reason(self, error):
        return str(error)

    def kill(self):
        self.lives = -1
        with self.lock:
            calls, self.calls = self.calls, set()
        for future in calls:
            future.set_exception(Died("gone"))
