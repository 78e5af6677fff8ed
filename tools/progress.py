"""Shows how far a build is: one line that is rewritten in place on a terminal, one line every ten seconds elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TextIO

INTERVAL = 10.0  # seconds between lines of a log


class Progress:
    """Counts what is done of `total`. Any thread may call any method."""

    def __init__(self, total: int, stream: TextIO | None = None, interval: float = INTERVAL) -> None:
        self._stream = stream or sys.stderr
        self._in_place = self._stream.isatty()
        self._lock = threading.RLock()
        self._total, self._done = total, 0
        self._shown, self._line = "", False
        self._began = time.monotonic()
        self._interval, self._next = interval, self._began + interval
        self._ended = threading.Event()
        self._started = False

    def start(self) -> None:
        """Shows the count from now on, also while nothing becomes ready."""
        with self._lock:
            self._started = True
            if self._in_place:
                self._show()
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while not self._ended.wait(self._interval / 10):
            with self._lock:
                if time.monotonic() >= self._next and not self._in_place:
                    self._show()

    def done(self, name: str = "") -> None:
        """One more is ready; `name` says which."""
        with self._lock:
            self._done += 1
            self._shown = name
            if self._in_place and self._started:
                self._show()

    def say(self, line: str) -> None:
        """Prints a line of its own."""
        with self._lock:
            self._clear()
            print(line, file=self._stream, flush=True)
            if self._in_place and self._started and not self._ended.is_set():
                self._show()

    def end(self) -> None:
        """Takes the count off the terminal."""
        self._ended.set()
        with self._lock:
            self._clear()

    def _show(self) -> None:
        text = f"onebuf: building {self._done} of {self._total}"
        if self._in_place:
            text = f"{text}  {self._shown}"[: shutil.get_terminal_size().columns - 1]
            self._clear()
            print(text, end="", file=self._stream, flush=True)
            self._line = True
        else:
            print(f"{text}, {time.monotonic() - self._began:.0f} s", file=self._stream, flush=True)
        self._next = time.monotonic() + self._interval

    def _clear(self) -> None:
        if self._line:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._line = False
