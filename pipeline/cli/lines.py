"""One line of a prompt file as a prompt: which keys it may have, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ..checkpoints.files import repeated_key
from ..checkpoints.tensor_info import quoted
from ..errors import PromptError, UsageError
from ..generation.settings import ROW_KEYS
from ..language.conversations import CHAT_KEYS, chat_values
from .batch_lines import from_request
from .guides import GUIDE_KEYS, guide_of
from .line_values import PROMPTS, samples_of, settings_of, stops_of, with_prompt
from .prompt import OPENAI, OWN, Prompt

__all__ = ["LINE_KEYS", "parse_line"]

_ALIASES = ("custom_id", "max_completion_tokens", "top_logprobs")  # of OpenAI's interface, for keys of ours

LINE_KEYS = ("id", *PROMPTS, "stop", "n", *ROW_KEYS, *CHAT_KEYS, *GUIDE_KEYS, *_ALIASES)  # all that a line may have


def parse_line(line: bytes, is_jsonl: bool, prompt: Prompt, dialect: str = "") -> Prompt:
    """`prompt` with what its line says; with `error` where that cannot be used.

    dialect: of the lines before it, which it must have, too."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return prompt.failed(f"not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8")
    if not is_jsonl:
        return replace(prompt, text=text, dialect=OWN)
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except PromptError as error:
        return prompt.failed(str(error))
    except json.JSONDecodeError as error:
        return prompt.failed(f"not JSON at column {error.colno}: {error.msg}; write one object per line")
    except (ValueError, RecursionError):  # a number too long to convert, arrays nested too deeply
        return prompt.failed("not usable JSON: too long a number or too deep; write one object per line")
    if not isinstance(value, dict):
        return prompt.failed('not an object; write {"prompt": "..."} or {"tokens": [...]}')
    is_request = "body" in value and not any(value.get(key) is not None for key in PROMPTS)
    prompt = replace(prompt, dialect=OPENAI if is_request else OWN)
    if dialect == OPENAI and not is_request:
        return _named(prompt, value.get("custom_id")).failed(
            "has no body, but the lines before it are requests of OpenAI's batch files; put it into another file"
        )
    if is_request and dialect == OWN:
        return _named(prompt, value.get("custom_id")).failed(
            "is a request of OpenAI's batch files, but the lines before it are not; put it into another file"
        )
    return from_request(prompt, value) if is_request else _from_object(prompt, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a line. PromptError where a key is there twice: one of the two would be lost."""
    if (key := repeated_key(pairs)) is not None:
        raise PromptError(f"has the key {quoted(key[:80])} twice in one object; leave one out")
    return dict(pairs)


def _named(prompt: Prompt, name: object) -> Prompt:
    return replace(prompt, id=name) if isinstance(name, str) else prompt


def _from_object(prompt: Prompt, line: dict[str, Any]) -> Prompt:
    name = line.get("custom_id") if line.get("id") is None else line["id"]
    if name is not None:
        if type(name) not in (str, int):
            return prompt.failed("id must be a string or a whole number")
        prompt = replace(prompt, id=name)
    prompt = replace(prompt, unknown=tuple(key for key in line if key not in LINE_KEYS))
    if isinstance(line.get("prompt"), str):
        prompt = replace(prompt, text=line["prompt"])  # a row shows it, though the line may have mistakes
    try:
        prompt = replace(
            prompt,
            settings=settings_of(line),
            stop=stops_of(line.get("stop")),
            samples=samples_of(line.get("n")),
            chat=chat_values(line),
            guide=guide_of(line),
        )
        return with_prompt(prompt, line)
    except (PromptError, UsageError) as error:
        return prompt.failed(str(error))
