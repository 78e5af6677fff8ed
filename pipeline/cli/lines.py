"""One line of a prompt file as a prompt: which keys it may have, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import PromptError, UsageError
from ..generation.settings import ROW_KEYS, row_settings
from ..generation.stopping import check_stops
from .conversations import CHAT_KEYS, chat_values, checked_messages, shown_text
from .prompt import Prompt

__all__ = ["LINE_KEYS", "parse_line"]

_PROMPTS = ("prompt", "tokens", "messages")
_ALIASES = ("custom_id", "max_completion_tokens", "top_logprobs")  # of OpenAI's interface, for keys of ours
_BATCH = ("body", "method", "url")  # of a line of OpenAI's batch files, around the request's own keys
_URLS = ("/v1/chat/completions", "/v1/completions")

LINE_KEYS = ("id", *_PROMPTS, "stop", *ROW_KEYS, *CHAT_KEYS, *_ALIASES)  # all that a line may have


def parse_line(line: bytes, is_jsonl: bool, prompt: Prompt) -> Prompt:
    """`prompt` with what its line says; with `error` where that cannot be used."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return prompt.failed(f"not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8")
    if not is_jsonl:
        return replace(prompt, text=text)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return prompt.failed(f"not JSON at column {error.colno}: {error.msg}; write one object per line")
    except (ValueError, RecursionError):  # a number too long to convert, arrays nested too deeply
        return prompt.failed("not usable JSON: too long a number or too deep; write one object per line")
    if not isinstance(value, dict):
        return prompt.failed('not an object; write {"prompt": "..."} or {"tokens": [...]}')
    return _from_object(prompt, value)


def _from_object(prompt: Prompt, line: dict[str, Any]) -> Prompt:
    name = line.get("custom_id") if line.get("id") is None else line["id"]
    if name is not None:
        if type(name) not in (str, int):
            return prompt.failed("id must be a string or a whole number")
        prompt = replace(prompt, id=name)
    if "body" in line and not any(line.get(key) is not None for key in _PROMPTS):
        if not isinstance(line["body"], dict):
            return prompt.failed("body must be an object, the request")
        if line.get("url") not in (None, *_URLS):
            return prompt.failed(f"url: only {' and '.join(_URLS)} can be answered here")
        line = {key: value for key, value in line.items() if key not in _BATCH} | line["body"]
    prompt = replace(prompt, unknown=tuple(key for key in line if key not in LINE_KEYS))
    if isinstance(line.get("prompt"), str):
        prompt = replace(prompt, text=line["prompt"])  # a row shows it, though the line may have mistakes
    try:
        prompt = replace(prompt, settings=_settings(line), stop=_stops(line.get("stop")), chat=chat_values(line))
        return _with_prompt(prompt, line)
    except (PromptError, UsageError) as error:
        return prompt.failed(str(error))


def _with_prompt(prompt: Prompt, line: Mapping[str, Any]) -> Prompt:
    given = [name for name in _PROMPTS if line.get(name) is not None]
    if len(given) > 1:
        raise PromptError(f"has both {' and '.join(given)}; leave one out")
    if given == ["messages"]:
        messages = checked_messages(line["messages"])
        return replace(prompt, messages=messages, text=shown_text(messages[-1]))
    tokens = line.get("tokens")
    if isinstance(line.get("prompt"), list):  # as OpenAI's completions allow it
        tokens = line["prompt"]
    if tokens is not None:
        if not isinstance(tokens, list) or not all(type(token) is int and token >= 0 for token in tokens):
            raise PromptError("tokens must be a list of token ids")
        if not tokens:
            raise PromptError("tokens is empty; give at least one token")
        return replace(prompt, tokens=tuple(tokens))
    if not isinstance(line.get("prompt"), str):
        raise PromptError("has neither prompt (a string) nor tokens (a list of ids) nor messages")
    return prompt


def _settings(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line's settings by their names here. In OpenAI's chats, logprobs says whether top_logprobs are wanted."""
    values = dict(line)
    if values.get("max_completion_tokens") is not None:
        if values.get("max_tokens") is not None:
            raise UsageError("has both max_tokens and max_completion_tokens; leave one out")
        values["max_tokens"] = values["max_completion_tokens"]
    if isinstance(values.get("logprobs"), bool) or values.get("top_logprobs") is not None:
        if type(values.get("logprobs")) is int:
            raise UsageError("has both logprobs as a number and top_logprobs; leave one out")
        wanted = values.get("logprobs", True)
        values["logprobs"] = (values.get("top_logprobs") or 0) if wanted else 0
    return row_settings(values)


def _stops(value: object) -> tuple[str, ...] | None:
    """The stop strings of a line, which gives one or a list of them."""
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise UsageError("stop must be a string or a list of strings")
    return check_stops(stops)
