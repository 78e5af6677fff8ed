"""One request while it is generated: its slot, its tokens so far, and its end."""

from __future__ import annotations

from dataclasses import dataclass, field

from .requests import Finished, Handle, Request, Top


@dataclass(eq=False)
class Sequence:
    """A request that has a slot of the cache."""

    handle: Handle
    slot: int
    length: int  # tokens at which it ends, by max_tokens or the context
    done: int = 0  # prompt tokens that went through
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Top] = field(default_factory=list)

    @property
    def request(self) -> Request:
        return self.handle.request

    @property
    def text(self) -> list[int]:
        """The tokens of the prompt and those generated so far."""
        return [*self.request.tokens, *self.tokens]

    @property
    def left(self) -> int:
        """Prompt tokens that are still to go through before it decodes: the last one is the first step's input."""
        return len(self.request.tokens) - 1 - self.done

    @property
    def room(self) -> int:
        """Steps after which it ends by length."""
        return self.length - len(self.tokens)

    @property
    def ended(self) -> bool:
        return self.handle.end is not None

    def take(self, token: int, logprob: float, top: Top) -> None:
        """Appends a token, with which the sequence may end."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if top:
            self.top.append(top)
        if self.request.ends is not None and self.request.ends(token):
            self.finish("stop")
        elif len(self.tokens) >= self.length:
            self.finish("length")

    def finish(self, reason: str) -> Finished:
        """Ends it with what it has."""
        end = Finished(self.request.index, self.tokens, self.logprobs, reason, self.top)
        self.handle.end = end
        return end
