"""Prompts from the command line, a file or standard input. A line that cannot be used becomes a prompt with `error`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from ..checkpoints.tensor_info import quoted
from ..errors import PromptError, UsageError
from .lines import LINE_KEYS, parse_line
from .prompt import Prompt

__all__ = ["Prompt", "read_prompts", "refuse_if_all_failed", "single_prompt", "unknown_keys"]

TEXT, JSONL = ".txt", ".jsonl"
NAMED_KEYS = 8  # unknown keys that are named; of the others there is a count


def single_prompt(text: str) -> list[Prompt]:
    """The prompt of `--prompt`."""
    return [Prompt(0, 0, "--prompt", text=text)]


def read_prompts(source: str) -> list[Prompt]:
    """The prompts in file `source`, or in standard input for "-".

    A `.txt` file has one prompt per line, a `.jsonl` file one object per line, with `prompt`, `tokens` or `messages`.
    Standard input and pipes have no name that could tell: they are JSONL where the first line that is not blank starts
    with a brace. PromptError where nothing can be used: no prompts, or no good line.
    """
    name, data, is_jsonl = _read(source)
    prompts: list[Prompt] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if line.strip():
            index = len(prompts)
            prompts.append(parse_line(line, is_jsonl, Prompt(index, index, f"{name} line {number}")))
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


def unknown_keys(prompts: Sequence[Prompt]) -> str | None:
    """A message that names the keys which mean nothing here, each once, with the first line that has it."""
    first: dict[str, str] = {}
    for prompt in prompts:
        for key in prompt.unknown:
            first.setdefault(key, prompt.where)
    if not first:
        return None
    named = []
    for key, where in list(first.items())[:NAMED_KEYS]:
        close = difflib.get_close_matches(key[:80], LINE_KEYS, 1, 0.75)
        meant = f"; is {quoted(close[0])} meant?" if close else ""
        named.append(f"{quoted(key)} ({where}{meant})")
    more = f" and {len(first) - NAMED_KEYS} more" if len(first) > NAMED_KEYS else ""
    return f"keys that mean nothing here and are not used: {', '.join(named)}{more}"


def _read(source: str) -> tuple[str, bytes, bool]:
    """The name for messages, the bytes, and whether each line is JSON."""
    if source == "-":
        data = _standard_input()
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


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise PromptError("standard input: is closed; give it a file or a pipe, or give a file to --prompts")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise PromptError(f"standard input: cannot be read: {error.strerror or error}") from error


def _looks_like_json(data: bytes) -> bool:
    return data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
