"""An answer while its tokens come: what of it is content, what the model thought, and which tools it calls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..generation.stopping import StopText
from .tool_formats import HARMONY, Call, ToolFormat

__all__ = ["Answer", "Part"]


@dataclass(frozen=True)
class Part:
    """A piece of an answer: of its content, or of the reasoning before it; or a call."""

    content: str = ""
    reasoning: str = ""
    call: Call | None = None


class Answer:
    """Takes the tokens of a text and gives its parts. Without a form, all is content.

    before: tokens whose text it continues. tools: those that the request offers; without any, there are no calls.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        before: Sequence[int],
        stops: Sequence[str],
        form: ToolFormat | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._stream = tokenizer.stream(before)
        self._stops = stops
        self._shown = StopText(stops)
        self._reader: _Plain | _Calls | _Channels = _Plain()
        self._markers: dict[int, str] = {}
        if form is HARMONY:
            self._reader = _Channels()
        elif form is not None and tools:
            self._reader = _Calls(form, tools)
        if form is not None and (tools or form is HARMONY):
            ids = {text: tokenizer.id_of(text) for text in form.markers}
            self._markers = {token: text for text, token in ids.items() if token is not None}

    def push(self, token: int) -> tuple[str, list[Part]]:
        """The text that a token adds, and the parts that are known by it."""
        piece = self._stream.push(token)
        text = self._shown.push(piece)
        marker = self._markers.get(token)
        if marker is not None and not self._shown.found and not piece:  # a special token, which is not shown
            text += self._shown.finish() + marker
            self._shown = StopText(self._stops)
        return piece, self._reader.push(text) if text else []

    def finish(self) -> list[Part]:
        """The rest, when no more tokens come."""
        text = self._shown.finish(self._stream.finish())
        return (self._reader.push(text) if text else []) + self._reader.finish()


class _Plain:
    def push(self, text: str) -> list[Part]:
        return [Part(text)]

    def finish(self) -> list[Part]:
        return []


class _Calls:
    """Content up to where calls begin. What looks like calls and is none stays content."""

    def __init__(self, form: ToolFormat, tools: Sequence[Mapping[str, Any]]) -> None:
        self._form, self._tools = form, tools
        self._before = StopText(form.begins)
        self._calls = ""
        self._begun = self._content = False

    def push(self, text: str) -> list[Part]:
        if self._begun:
            self._calls += text
            return []
        if self._form.alone:
            if self._content:
                return [Part(text)]
            self._calls += text
            begin = self._calls.lstrip()
            if any(begin.startswith(mark) for mark in self._form.begins):
                self._begun = True
            elif begin and not any(mark.startswith(begin) for mark in self._form.begins):
                self._content, text, self._calls = True, self._calls, ""
                return [Part(text)]
            return []
        whole = self._held + text
        shown = self._before.push(text)
        if self._before.found:
            self._begun, self._calls = True, whole[len(shown) :]
        self._held = whole[len(shown) :]
        return [Part(shown)] if shown else []

    _held = ""

    def finish(self) -> list[Part]:
        rest = self._calls if self._begun or self._form.alone else self._before.finish()
        if not rest:
            return []
        try:
            if not self._begun:
                raise ValueError("no calls")
            return [Part(call=call) for call in self._form.parse(rest, self._tools)]
        except (ValueError, RecursionError):
            return [Part(rest)]


_HEADER_END, _ENDS = "<|message|>", ("<|end|>", "<|start|>", "<|channel|>")
_TO = re.compile(r"to=(?:functions\.)?([\w.-]+)")


class _Channels:
    """gpt-oss's answers: a header, `<|message|>`, and a message. "analysis" is reasoning, "final" content, and what
    goes to a function is a call. https://cookbook.openai.com/articles/openai-harmony"""

    def __init__(self) -> None:
        self._header: str | None = ""  # None within a message
        self._call: str | None = None  # the name of the function that the message is for
        self._channel = ""
        self._arguments = ""
        self._seen = False  # a header

    def push(self, text: str) -> list[Part]:
        parts: list[Part] = []
        for piece in re.split(r"(<\|\w+\|>)", text):
            if not piece:
                continue
            if piece == _HEADER_END and self._header is not None:
                self._begin(self._header)
            elif piece in _ENDS:
                parts += self._end()
                self._seen = True
            elif self._header is None:
                parts += self._more(piece)
            elif self._seen:
                self._header += piece
            else:  # an answer without any header
                parts.append(Part(piece))
        return parts

    def _begin(self, header: str) -> None:
        to = _TO.search(header)
        self._call, self._header, self._arguments = to[1] if to else None, None, ""
        words = header.replace("assistant", " ", 1).split()
        self._channel = words[0] if words else "final"

    def _more(self, piece: str) -> list[Part]:
        if self._call is not None:
            self._arguments += piece
            return []
        return [Part(reasoning=piece) if self._channel == "analysis" else Part(piece)]

    def _end(self) -> list[Part]:
        call, self._call, self._header = self._call, None, ""
        return [Part(call=Call(call, self._arguments))] if call is not None else []

    def finish(self) -> list[Part]:
        return self._end()
