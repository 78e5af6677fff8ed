"""Requests of texts, from the words of a caller to their ends."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..errors import RunError, UsageError
from ..generation.driver import Driver
from ..generation.requests import Event, Failed, Finished, Request
from ..generation.settings import Sampling, check, row_seed
from ..generation.stopping import check_stops, cut, watch
from .grammars import KINDS, Grammars
from .prompts import Begin
from .texts import Growing, Text

__all__ = ["MAX_TOKENS", "Asked", "Work", "ask"]

MAX_TOKENS = 512


@dataclass(frozen=True)
class Asked:
    """A request, the prompt that it begins with, and the strings that end its text."""

    request: Request
    begin: Begin
    stops: tuple[str, ...] = ()

    def growing(self, tokenizer: Tokenizer) -> Growing:
        return Growing(tokenizer, self.begin.tokens, self.begin.answers, self.stops)

    def text(self, tokenizer: Tokenizer, end: Finished) -> Text:
        """Its text, when it has ended."""
        before = () if self.begin.answers else self.begin.tokens
        return Text.of(cut(tokenizer.decode(end.tokens, before), self.stops), end, len(self.begin.tokens))


def ask(begin: Begin, tokenizer: Tokenizer, number: int, grammars: Grammars, settings: Mapping[str, Any]) -> Asked:
    """What a caller asks for behind a prompt, the one of that number among several: each has a seed of its own.
    UsageError names a setting that is impossible; TypeError one that does not exist.

    grammars: compiles what the text must be, which one of grammars.KINDS among the settings says."""
    settings = dict(settings)
    for name in settings:
        if name not in _SETTINGS:
            raise TypeError(f"{name!r} is no setting of a text; settings are {', '.join(_SETTINGS)}")
    kinds = [kind for kind in KINDS if settings.get(kind) is not None]
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(kinds)}: a text can have one grammar; give one of them")
    guides = {kind: settings.pop(kind, None) for kind in KINDS}
    grammar = grammars.compiled(kinds[0], guides[kinds[0]]) if kinds else None
    stop = settings.pop("stop", None)
    stops = (*check_stops([stop] if isinstance(stop, str) else () if stop is None else stop), *tokenizer.end_texts)
    max_tokens, temperature = settings.pop("max_tokens", MAX_TOKENS), settings.pop("temperature", 0.0)
    seed = settings.pop("seed", None)
    if seed is None:
        seed = secrets.randbits(63)
    check("seed", seed)
    seed = row_seed(seed, number - 1) if number else seed
    ends = watch(tokenizer, stops, () if begin.answers else begin.tokens)
    request = Request(0, begin.tokens, max_tokens, temperature, seed, Sampling(**settings), ends=ends, grammar=grammar)
    return Asked(request, begin, stops)


_SETTINGS = ("max_tokens", "temperature", "seed", "stop", *Sampling.__dataclass_fields__, *KINDS)


class Work:
    """Requests that run together. Where one fails, or whoever waits is interrupted, the others end, too."""

    def __init__(self, driver: Driver, asked: Sequence[Asked]) -> None:
        self.asked = asked
        self._driver = driver
        self._handles = []
        self._ends: list[Future[Finished]] = []
        try:
            for each in asked:
                end: Future[Finished] = Future()
                self._handles.append(driver.submit(each.request, _Waiting(end)))
                self._ends.append(end)
        except BaseException:
            self._cancel()
            raise

    def wait(self) -> list[Finished]:
        """How all of them end. RunError where one fails."""
        try:
            return [end.result() for end in self._ends]
        except BaseException:
            self._cancel()
            raise

    async def done(self) -> list[Finished]:
        try:
            return [await asyncio.wrap_future(end) for end in self._ends]
        except BaseException:
            self._cancel()
            raise

    def _cancel(self) -> None:
        for handle in self._handles:
            self._driver.cancel(handle)


class _Waiting:
    """A listener that keeps the end alone."""

    def __init__(self, end: Future[Finished]) -> None:
        self._end = end

    def __call__(self, event: Event) -> None:
        if not isinstance(event, (Finished, Failed)) or not self._end.set_running_or_notify_cancel():
            return
        if isinstance(event, Finished):
            self._end.set_result(event)
        else:
            self._end.set_exception(RunError(event.error))
