"""One request while it is generated: its slot, its tokens so far, and its end."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from .grammar import Matcher
from .requests import Failed, Finished, Handle, Request, Top


@dataclass(eq=False)
class Sequence:
    """A request that has a slot of the cache."""

    handle: Handle
    slot: int
    length: int  # tokens at which it ends, by max_tokens or the context
    before: list[int]  # tokens that go through before it decodes: the prompt, and what it had when it gave up its slot
    done: int = 0  # of them, how many went through
    counted: int = 0  # tokens of the prompt that went through before it gave up its slot, or since
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Top] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)  # log-probabilities of the prompt's tokens
    prompt_top: list[Top] = field(default_factory=list)

    @functools.cached_property
    def matcher(self) -> Matcher | None:
        """Where it is in its request's grammar."""
        grammar = self.request.grammar
        return grammar.begin() if grammar is not None else None

    @property
    def request(self) -> Request:
        return self.handle.request

    @property
    def text(self) -> list[int]:
        """The tokens of the prompt and those generated so far."""
        return [*self.request.tokens, *self.tokens]

    @property
    def last(self) -> int:
        """The last token of the prompt and of those generated so far."""
        return self.tokens[-1] if self.tokens else self.request.tokens[-1]

    @property
    def positions(self) -> int:
        """Tokens of the prompt and those generated so far."""
        return len(self.request.tokens) + len(self.tokens)

    @property
    def most(self) -> int:
        """Positions that it may reach."""
        return len(self.request.tokens) + self.length

    @property
    def left(self) -> int:
        """Tokens that are still to go through before it decodes: the last one is the first step's input."""
        return len(self.before) - 1 - self.done

    @property
    def room(self) -> int:
        """Steps after which it ends by length."""
        return self.length - len(self.tokens)

    @property
    def ended(self) -> bool:
        return self.handle.end is not None

    def passed(self, count: int) -> int:
        """`count` more tokens went through. Gives how many of the prompt's had not done so before."""
        self.done += count
        new = max(0, min(self.done, len(self.request.tokens)) - self.counted)
        self.counted += new
        return new

    @property
    def to_score(self) -> range:
        """The positions of the tokens behind each of which the next token of the prompt is still to be scored."""
        if self.request.sampling.prompt_logprobs is None:
            return range(0)
        return range(self.request.score_from - 1 + len(self.scores), len(self.request.tokens) - 1)

    @property
    def known(self) -> int:
        """How many of its tokens need not go through if their keys and values are in the cache: what is still to be
        scored must, and so must the last one."""
        return min(self.positions - 1, self.to_score.start) if self.to_score else self.positions - 1

    def take(self, token: int, logprob: float, top: Top) -> None:
        """Appends a token, with which the sequence may end."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if top:
            self.top.append(top)
        try:
            stops = self.request.ends is not None and self.request.ends(token)
        except Exception as error:  # another program's function: this row fails, and no other
            what = f"{type(error).__name__}: {error}"
            self.handle.end = Failed(self.request.index, f"its function `ends` raised {what}")
            return
        if self.matcher is not None:
            stops = self.matcher.take(token) or stops
        if stops:
            self.finish("stop")
        elif len(self.tokens) >= self.length:
            self.finish("length")

    def finish(self, reason: str) -> Finished:
        """Ends it with what it has."""
        end = Finished(self.request.index, self.tokens, self.logprobs, reason, self.top, self.scores, self.prompt_top)
        self.handle.end = end
        return end
