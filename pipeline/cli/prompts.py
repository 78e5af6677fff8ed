"""Prompts from the command line, a file or standard input. A line that cannot be used becomes a prompt with `error`."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import PromptError, UsageError
from ..generation.settings import row_settings
from ..generation.stopping import check_stops

__all__ = ["Prompt", "read_prompts", "refuse_if_all_failed", "single_prompt"]

TEXT, JSONL = ".txt", ".jsonl"


@dataclass(frozen=True)
class Prompt:
    """One prompt: `text`, `tokens` or `messages`, or `error` where its line could not be used.

    index   position among the prompts, from 0; blank lines do not count
    id      the line's own id, else the index
    where   for messages: "stories.txt line 3"
    messages   a conversation, each message an object with "role" and "content"; `text` is its last content
    settings   its own settings, by the names of generation.settings, instead of the run's
    stop       its own stop strings; None: the run's
    """

    index: int
    id: str | int
    where: str
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    error: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] | None = None
    stop: tuple[str, ...] | None = None

    def failed(self, error: str) -> "Prompt":
        """This prompt, as one that cannot be used."""
        return replace(self, error=error)


def single_prompt(text: str) -> list[Prompt]:
    """The prompt of `--prompt`."""
    return [Prompt(0, 0, "--prompt", text=text)]


def read_prompts(source: str) -> list[Prompt]:
    """The prompts in file `source`, or in standard input for "-".

    A `.txt` file has one prompt per line, a `.jsonl` file one object per line, with `prompt` or `tokens` and an
    optional `id`. Standard input and pipes have no name that could tell: they are JSONL where the first line that is
    not blank starts with a brace. PromptError where nothing can be used: no prompts, or no good line.
    """
    name, data, is_jsonl = _read(source)
    prompts: list[Prompt] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if line.strip():
            prompts.append(_parse_line(line, is_jsonl, len(prompts), f"{name} line {number}"))
    if not prompts:
        raise PromptError(f"{name}: no prompts in it; write one per line")
    refuse_if_all_failed(prompts)
    return prompts


def refuse_if_all_failed(prompts: list[Prompt]) -> None:
    """Raises PromptError for the first prompt, with a count of the others, where not one of them can be used."""
    if any(prompt.error is None for prompt in prompts):
        return
    first, others = prompts[0], len(prompts) - 1
    more = f" (and {others} more, no good prompt among them)" if others else ""
    raise PromptError(f"{first.where}: {first.error}{more}")


def _read(source: str) -> tuple[str, bytes, bool]:
    """The name for messages, the bytes, and whether each line is JSON."""
    if source == "-":
        data = sys.stdin.buffer.read()
        return "standard input", data, _looks_like_json(data)
    file = Path(source)
    if not file.exists():
        raise PromptError(f"{file}: no such file; give a {TEXT} or {JSONL} file, or - for standard input")
    if file.is_dir():
        raise PromptError(f"{file}: a folder; give a {TEXT} or {JSONL} file, or - for standard input")
    suffix = file.suffix.lower()
    if file.is_file() and suffix not in (TEXT, JSONL):
        raise UsageError(f"{file}: prompts come as {TEXT} (one prompt per line) or {JSONL}; rename or convert the file")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PromptError(f"{file}: cannot be read: {error.strerror or error}") from error
    return str(file), data, suffix == JSONL or (suffix != TEXT and _looks_like_json(data))


def _looks_like_json(data: bytes) -> bool:
    return data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _parse_line(line: bytes, is_jsonl: bool, index: int, where: str) -> Prompt:
    prompt = Prompt(index, index, where)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return prompt.failed(f"not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8")
    if not is_jsonl:
        return replace(prompt, text=text)
    try:
        return _from_object(prompt, json.loads(text))
    except json.JSONDecodeError as error:
        return prompt.failed(f"not JSON at column {error.colno}: {error.msg}; write one object per line")
    except (ValueError, RecursionError):  # a number too long to convert, arrays nested too deeply
        return prompt.failed("not usable JSON: too long a number or too deep; write one object per line")


def _from_object(prompt: Prompt, value: object) -> Prompt:
    if not isinstance(value, dict):
        return prompt.failed('not an object; write {"prompt": "..."} or {"tokens": [...]}')
    if value.get("id") is not None:
        if type(value["id"]) not in (str, int):
            return prompt.failed("id must be a string or a whole number")
        prompt = replace(prompt, id=value["id"])
    try:
        prompt = replace(prompt, settings=row_settings(value), stop=_stops(value.get("stop")))
    except UsageError as error:
        return replace(prompt, text=value["prompt"] if isinstance(value.get("prompt"), str) else None).failed(
            str(error)
        )
    text, tokens = value.get("prompt"), value.get("tokens")
    given = [name for name in ("prompt", "tokens", "messages") if value.get(name) is not None]
    if len(given) > 1:
        return replace(prompt, text=text if isinstance(text, str) else None).failed(
            f"has both {' and '.join(given)}; leave one out"
        )
    if given == ["messages"]:
        return _with_messages(prompt, value["messages"])
    if tokens is not None:
        if not isinstance(tokens, list) or not all(type(token) is int and token >= 0 for token in tokens):
            return prompt.failed("tokens must be a list of token ids")
        if not tokens:
            return prompt.failed("tokens is empty; give at least one token")
        return replace(prompt, tokens=tuple(tokens))
    if not isinstance(text, str):
        return prompt.failed("has neither prompt (a string) nor tokens (a list of ids) nor messages")
    return replace(prompt, text=text)


def _with_messages(prompt: Prompt, messages: object) -> Prompt:
    if not (
        isinstance(messages, list)
        and messages
        and all(
            isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message
            for message in messages
        )
    ):
        return prompt.failed('messages must be a list of objects such as {"role": "user", "content": "..."}')
    content = messages[-1]["content"]
    return replace(prompt, messages=tuple(messages), text=content if isinstance(content, str) else json.dumps(content))


def _stops(value: object) -> tuple[str, ...] | None:
    """The stop strings of a line, which gives one or a list of them."""
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise UsageError("stop must be a string or a list of strings")
    return check_stops(stops)
