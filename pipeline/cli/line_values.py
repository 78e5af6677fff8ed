"""The values of a line of a prompt file, checked: what it continues, its settings, its stop strings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import NoneType
from typing import Any

from ..errors import PromptError, UsageError
from ..generation.settings import row_settings
from ..generation.stopping import check_stops
from ..language.conversations import checked_messages, shown_text
from ..printing import one_line, to_json
from .prompt import MOST_SAMPLES, Prompt

__all__ = ["PROMPTS", "samples_of", "settings_of", "stops_of", "with_prompt"]

PROMPTS = ("prompt", "tokens", "messages")


def with_prompt(prompt: Prompt, line: Mapping[str, Any]) -> Prompt:
    given = [name for name in PROMPTS if line.get(name) is not None]
    if len(given) > 1:
        raise PromptError(f"has both {' and '.join(given)}; leave one out")
    if given == ["messages"]:
        messages = checked_messages(line["messages"])
        return replace(prompt, messages=messages, text=shown_text(messages[-1]))
    key, wanted = "tokens", "a list of token ids"
    if isinstance(line.get("prompt"), list):  # as OpenAI's completions allow it
        key, wanted = "prompt", "one string or one list of token ids; give each prompt its own line"
    tokens = line.get(key)
    if tokens is not None and (key == "tokens" or isinstance(tokens, list)):
        if not isinstance(tokens, list):
            raise PromptError(f"{key} must be {wanted}; it is {_shown(tokens)}")
        wrong = next((at for at, token in enumerate(tokens) if type(token) is not int or token < 0), None)
        if wrong is not None:
            which = f"item {wrong + 1} of {len(tokens):,} is {_shown(tokens[wrong])}"
            raise PromptError(f"{key} must be {wanted}; {which}, and ids are whole numbers of at least 0")
        if not tokens:
            raise PromptError(f"{key} is empty; give at least one token")
        return replace(prompt, tokens=tuple(tokens))
    if not isinstance(line.get("prompt", ""), (str, NoneType)):
        raise PromptError(f"prompt must be a string; it is {_shown(line['prompt'])}")
    if not isinstance(line.get("prompt"), str):
        raise PromptError("has neither prompt (a string) nor tokens (a list of ids) nor messages")
    return prompt


def _shown(value: object) -> str:
    """A value as JSON has it."""
    return one_line(to_json(value), 40)


def settings_of(line: Mapping[str, Any]) -> dict[str, Any]:
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


def stops_of(value: object) -> tuple[str, ...] | None:
    """The stop strings of a line, which gives one or a list of them."""
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise UsageError("stop must be a string or a list of strings")
    return check_stops(stops)


def samples_of(value: object) -> int | None:
    """The number of texts that a line wants of its prompt."""
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= MOST_SAMPLES:
        raise UsageError(f"n {value!r:.60}: impossible; give a whole number from 1 to {MOST_SAMPLES}")
    return value
