"""Ctrl-C while texts are generated: noted at once, acted on between two events."""

import signal
from types import FrameType

__all__ = ["Interrupt"]


class Interrupt:
    """A context in which the first SIGINT sets `requested` and the second one raises KeyboardInterrupt at once.

    It changes nothing where SIGINT is ignored or handled by someone else.
    """

    def __init__(self) -> None:
        self.requested = False
        self._installed = False

    def __enter__(self) -> "Interrupt":
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, self._note)
                self._installed = True
            except ValueError:  # not the main thread, which alone gets signals
                pass
        return self

    def __exit__(self, *exception: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            signal.default_int_handler(number, frame)
        self.requested = True
