"""Stop strings: a text ends where one of them begins, wherever the borders of its tokens lie."""

from collections.abc import Callable, Sequence

from ..errors import UsageError

MAX_STOPS, MAX_CHARACTERS = 64, 1000


def check_stops(stops: Sequence[str]) -> tuple[str, ...]:
    """The stop strings, each of them possible; UsageError, without the option's name, for one that is not."""
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
    """Passes a text on as it comes, without what is or may become a stop string. `found` tells when one was there."""

    def __init__(self, stops: Sequence[str]):
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """What of the text so far can be shown now."""
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

    def finish(self, piece: str = "") -> str:
        """The rest, when no more text comes: what was held back was no stop string."""
        shown = self.push(piece)
        held, self._held = self._held, ""
        return shown + held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Characters at the end of `text` that a stop string begins with."""
        for count in range(min(len(text), len(stop) - 1), 0, -1):
            if text.endswith(stop[:count]):
                return count
        return 0


def watch(tokenizer, stops: Sequence[str], after=()) -> Callable[[int], bool] | None:
    """For the generator: takes the tokens of a row that goes on from `after`, one by one, and tells when its text has a
    stop string."""
    if not stops:
        return None
    stream, text = tokenizer.stream(after), StopText(stops)

    def ends(token: int) -> bool:
        text.push(stream.push(token))
        return text.found

    return ends
