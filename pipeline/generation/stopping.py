"""Stop strings: a text ends where one of them begins, wherever the borders of its tokens lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:  # the command line checks stop strings before the tokenizers are loaded
    from ..checkpoints.tokenizer import Tokenizer

MAX_STOPS, MAX_CHARACTERS = 64, 1000


def check_stops(stops: Sequence[str]) -> tuple[str, ...]:
    """The stop strings, once each. Raises UsageError, without the option's name, for one that is impossible."""
    if not isinstance(stops, (list, tuple)) or not all(isinstance(text, str) for text in stops):
        raise UsageError(f"{stops!r:.60} cannot stop a text; give a string or a list of strings")
    stops = tuple(dict.fromkeys(stops))
    if len(stops) > MAX_STOPS:
        raise UsageError(f"{len(stops)} stop strings are too many; give at most {MAX_STOPS}")
    for text in stops:
        if not text:
            raise UsageError("an empty stop string would end every text at once; leave it out")
        if len(text) > MAX_CHARACTERS:
            raise UsageError(f"a stop string of {len(text):,} characters is too long; give at most {MAX_CHARACTERS:,}")
    return stops


def cut(text: str, stops: Sequence[str]) -> str:
    """`text` up to where the first stop string in it begins."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


class StopText:
    """Passes a text on as it comes, without what is or may become a stop string. `found` tells when there was one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """The part of the text so far that can be shown now."""
        if self.found or not piece:
            return ""
        text = self._held + piece
        shown = cut(text, self._stops)
        if len(shown) < len(text):
            self.found, self._held = True, ""
            return shown
        count = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - count :]
        return text[: len(text) - count]

    def ends_with(self, piece: str) -> bool:
        """Whether the text would have a stop string if it ended with `piece`; nothing is passed on."""
        return bool(piece) and any(stop in self._held + piece for stop in self._stops)

    def finish(self, piece: str = "") -> str:
        """The rest, when no more text comes: what was held back was no stop string."""
        shown = self.push(piece)
        held, self._held = self._held, ""
        return shown + held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """The number of characters at the end of `text` with which a stop string begins."""
        for count in range(min(len(text), len(stop) - 1), 0, -1):
            if text.endswith(stop[:count]):
                return count
        return 0


class Watch:
    """A `Request.ends` for a row that goes on from the tokens `after`: it takes the row's tokens one by one and
    tells when their text has a stop string. `stops` and `after` are all that another process needs to make the same."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], after: Sequence[int] = ()) -> None:
        self.stops, self.after = stops, after
        self._stream, self._text = tokenizer.stream(after), StopText(stops)

    def __call__(self, token: int) -> bool:
        self._text.push(self._stream.push(token))
        return self._text.found or self._text.ends_with(self._stream.open())


def watch(tokenizer: Tokenizer, stops: Sequence[str], after: Sequence[int] = ()) -> Watch | None:
    """The Watch of a row; None where nothing stops it."""
    return Watch(tokenizer, stops, after) if stops else None
