"""Signals that end a run (Ctrl-C, kill, a closed terminal): noted at once, acted on between two events."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from .program import SignalReceived

__all__ = ["Interrupt"]

# The signals, and what Python does by itself: where that was changed, or a signal is ignored (nohup), it stays so.
_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | signal.Handlers
_DEFAULTS: dict[signal.Signals, _Handler] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


class Interrupt:
    """A context in which the first signal is noted, for `check`, and the second one ends the run at once."""

    def __init__(self) -> None:
        self._number = 0
        self._installed: list[signal.Signals] = []

    def __enter__(self) -> "Interrupt":
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) is default:
                try:
                    signal.signal(number, self._note)
                    self._installed.append(number)
                except ValueError:  # not the main thread, which alone gets signals
                    break
        return self

    def __exit__(self, *exception: object) -> None:
        for number in self._installed:
            signal.signal(number, _DEFAULTS[number])

    def check(self, state: str) -> None:
        """Ends the run, where a signal has come, with `state` as what is said of it."""
        if self._number:
            raise _end(self._number, f": {state}")

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._number:
            raise _end(number)
        self._number = number


def _end(number: int, message: str = "") -> KeyboardInterrupt:
    return KeyboardInterrupt(message) if number == signal.SIGINT else SignalReceived(number, message)
