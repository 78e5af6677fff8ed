"""Answers in OpenAI's form: whole, or in chunks while the texts grow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ..checkpoints.tokenizer import Tokenizer
from ..cli.choices import Choices, usage
from ..cli.jobs import Job
from ..generation.requests import Event, Failed, Finished, Token
from ..language.answers import Answer, Part
from ..language.tool_formats import Call, ToolFormat
from .asked import Asked
from .errors import ApiError
from .texts import Texts

__all__ = ["Replies"]


class Replies:
    """Makes the answers to requests of one model."""

    def __init__(self, name: str, tokenizer: Tokenizer, form: ToolFormat | None) -> None:
        self._name, self._tokenizer, self._form = name, tokenizer, form
        self._choices = Choices(tokenizer)

    async def whole(self, key: str, asked: Asked, texts: Texts) -> dict[str, Any]:
        """The answer, when all texts have ended. ApiError where one failed."""
        ends: dict[int, Finished] = {}
        async for items in texts.events():
            for number, event in items:
                if isinstance(event, Failed):
                    raise _problem(event)
                if isinstance(event, Finished):
                    ends[number] = event
        choices = [self._choice(key, asked, job, number, ends[number]) for number, job in enumerate(texts.jobs)]
        kind = "chat.completion" if asked.chat else "text_completion"
        return self._head(key, asked, kind) | {"choices": choices, "usage": usage(asked.prompt_tokens, texts.made)}

    def _head(self, key: str, asked: Asked, kind: str) -> dict[str, Any]:
        name = f"{'chatcmpl' if asked.chat else 'cmpl'}-{key}"
        return {"id": name, "object": kind, "created": int(time.time()), "model": self._name}

    def _choice(self, key: str, asked: Asked, job: Job, number: int, end: Finished) -> dict[str, Any]:
        choice = self._choices.choice(job, number, end)
        if not asked.chat or self._form is None:
            return choice
        answer = self._answer(asked, job)
        parts = [part for token in end.tokens for part in answer.push(token)[1]] + answer.finish()
        message: dict[str, Any] = choice["message"]
        message["content"] = "".join(part.content for part in parts)
        if reasoning := "".join(part.reasoning for part in parts):
            message["reasoning_content"] = reasoning
        found = [part.call for part in parts if part.call is not None]
        calls = [_call(key, number, at, call) for at, call in enumerate(found)]
        if calls:
            message["tool_calls"] = calls
            message["content"] = message["content"].strip() or None
            choice["finish_reason"] = "tool_calls"
        return choice

    def _answer(self, asked: Asked, job: Job) -> Answer:
        return Answer(self._tokenizer, job.before, job.stop, self._form if asked.chat else None, asked.tools)

    async def chunks(self, key: str, asked: Asked, texts: Texts) -> AsyncGenerator[list[Mapping[str, Any]], None]:
        """The answer in pieces: all that are there at once. A text that fails ends the stream with an error."""
        head = self._head(key, asked, "chat.completion.chunk" if asked.chat else "text_completion")
        more = {"usage": None} if asked.usage else {}
        growing = [
            _Growing(key, self._choices, asked, job, self._answer(asked, job), i) for i, job in enumerate(texts.jobs)
        ]
        if asked.chat:
            first = {"role": "assistant", "content": "", "refusal": None}
            yield [head | {"choices": [each.delta(first)]} | more for each in growing]
        async for items in texts.events():
            chunks: list[Mapping[str, Any]] = []
            for number in dict.fromkeys(number for number, _ in items):
                events = [event for of, event in items if of == number]
                failed = next((event for event in events if isinstance(event, Failed)), None)
                if failed is not None:
                    yield [_problem(failed).body]
                    return
                chunks += [head | {"choices": [choice]} | more for choice in growing[number].take(events)]
            if chunks:
                yield chunks
        if asked.usage:
            yield [head | {"choices": [], "usage": usage(asked.prompt_tokens, texts.made)}]


class _Growing:
    """One text of a stream: events in, choices of chunks out."""

    def __init__(self, key: str, choices: Choices, asked: Asked, job: Job, answer: Answer, index: int) -> None:
        self._key = key
        self._choices, self._asked, self._job, self._answer, self._index = choices, asked, job, answer, index
        self._place = 0  # in the text, of what comes next
        self._calls = 0
        wanted = job.prompt.wanted
        self._logprobs = wanted is not None and wanted.logprobs
        self._echo = wanted is not None and wanted.echo

    def take(self, events: list[Event]) -> list[dict[str, Any]]:
        tokens = [event for event in events if isinstance(event, Token)]
        pieces: list[str] = []
        parts: list[Part] = []
        for event in tokens:
            piece, some = self._answer.push(event.token)
            pieces.append(piece)
            parts += some
        end = next((event for event in events if isinstance(event, Finished)), None)
        if end is not None:
            parts += self._answer.finish()
        if not self._asked.chat:
            return self._completion(tokens, pieces, parts, end)
        found = []
        logprobs = None
        if self._logprobs and tokens:
            values, tops = [event.logprob for event in tokens], [event.top for event in tokens]
            logprobs = self._choices.chat_logprobs(pieces, [event.token for event in tokens], values, tops)
        delta = _delta(parts)
        if delta or logprobs:
            found.append(self.delta(delta, logprobs))
        for part in parts:
            if part.call is not None:
                call = {"index": self._calls} | _call(self._key, self._index, self._calls, part.call)
                found.append(self.delta({"tool_calls": [call]}))
                self._calls += 1
        if end is not None:
            found.append(self.delta({}) | {"finish_reason": "tool_calls" if self._calls else end.reason})
        return found

    def delta(self, delta: dict[str, Any], logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": None}

    def _completion(
        self, tokens: list[Token], pieces: list[str], parts: list[Part], end: Finished | None
    ) -> list[dict[str, Any]]:
        if self._echo and self._logprobs:  # those of the prompt come with the end
            return [self._choices.choice(self._job, self._index, end)] if end is not None else []
        text = "".join(part.content for part in parts)
        if self._echo and (text or end is not None):
            text, self._echo = self._job.text + text, False
        if not text and not tokens and end is None:
            return []
        logprobs = None
        if self._logprobs and tokens:
            values, tops = [event.logprob for event in tokens], [event.top for event in tokens]
            logprobs = self._choices.completion_logprobs(pieces, values, tops if any(tops) else [], self._place)
        self._place += sum(map(len, pieces))
        reason = end.reason if end is not None else None
        return [{"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": reason}]


def _problem(failed: Failed) -> ApiError:
    return ApiError(400 if failed.asked else 500, failed.error)


def _delta(parts: list[Part]) -> dict[str, Any]:
    content, reasoning = "".join(part.content for part in parts), "".join(part.reasoning for part in parts)
    delta = {"reasoning_content": reasoning} if reasoning else {}
    return delta | ({"content": content} if content else {})


def _call(key: str, index: int, at: int, call: Call) -> dict[str, Any]:
    """A call with an id of nine letters and digits, which some templates insist on."""
    name = hashlib.blake2b(f"{key} {index} {at}".encode(), digest_size=5).hexdigest()[:9]
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
