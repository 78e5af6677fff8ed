"""Generated texts, whole and while they grow."""

from __future__ import annotations

from collections.abc import Sequence

from ..checkpoints.tokenizer import Tokenizer
from ..errors import RunError
from ..generation.requests import Event, Failed, Finished, Token, Top
from ..generation.stopping import StopText

__all__ = ["Growing", "Text"]


class Text(str):
    """A generated text: a string that knows how it came about.

    tokens         its token ids, without the end token
    logprobs       of each, the log-probability under the model
    top            of each, (token, log-probability) of the most probable ones, where `logprobs` asked for them
    finish_reason  "stop", "length" or "cancelled"
    prompt_tokens  how many tokens the prompt had
    """

    tokens: list[int]
    logprobs: list[float]
    top: list[Top]
    finish_reason: str
    prompt_tokens: int

    @classmethod
    def of(cls, text: str, end: Finished, prompt_tokens: int) -> Text:
        made = cls(text)
        made.tokens, made.logprobs, made.top = end.tokens, end.logprobs, end.top
        made.finish_reason, made.prompt_tokens = end.reason, prompt_tokens
        return made


class Growing:
    """A text while its tokens come: events in, pieces of text out. `result` is the whole when it has ended.

    tokens: those of the prompt; answers: whether the text answers them, else it continues their text. stops: strings
    that end it.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: Sequence[int], answers: bool, stops: Sequence[str]) -> None:
        self._stream = tokenizer.stream(() if answers else tokens)
        self._shown = StopText(stops)
        self._prompt = len(tokens)
        self._pieces: list[str] = []
        self.result: Text | None = None

    def take(self, event: Event) -> str:
        """The piece that an event adds to the text; often there is none. RunError where the text failed."""
        piece = ""
        if isinstance(event, Token):
            piece = self._shown.push(self._stream.push(event.token))
        elif isinstance(event, Finished):
            piece = self._shown.finish(self._stream.finish())
        elif isinstance(event, Failed):
            raise RunError(event.error)
        if piece:
            self._pieces.append(piece)
        if isinstance(event, Finished):
            self.result = Text.of("".join(self._pieces), event, self._prompt)
        return piece
