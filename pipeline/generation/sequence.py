"""One request while it is generated: its slot, its tokens so far, and the end that is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from .requests import Finished, Request, Top


@dataclass
class Sequence:
    """A request that has a slot of the cache."""

    request: Request
    slot: int
    length: int  # tokens at which it ends, by max_tokens or the context
    done: int = 0  # prompt tokens that went through
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Top] = field(default_factory=list)

    @property
    def before_last(self) -> int:
        """Prompt tokens to prefill: the last one is the first decode step's input."""
        return len(self.request.tokens) - 1

    @property
    def room(self) -> int:
        """Steps after which it ends by length."""
        return self.length - len(self.tokens)

    def take(self, token: int, logprob: float, top: Top) -> str | None:
        """Appends a token; gives the reason where the sequence ends with it, else None."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if top:
            self.top.append(top)
        if self.request.ends is not None and self.request.ends(token):
            return "stop"
        return "length" if len(self.tokens) >= self.length else None

    def finished(self, reason: str) -> Finished:
        return Finished(self.request.index, self.tokens, self.logprobs, reason, self.top)
