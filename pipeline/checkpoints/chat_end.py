"""A conversation whose last message is continued, as transformers does it: its text ends where that message does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PromptError

__all__ = ["cut_at_mark", "with_mark"]

# What marks the message's end while the template runs. The blank tells whether the template trims messages.
_MARK = "CONTINUE_FINAL_MESSAGE_TAG "


def with_mark(messages: Sequence[Mapping[str, Any]], key: str) -> tuple[list[Mapping[str, Any]], str]:
    """The messages, with a mark at the end of what the last one has under `key`, its text or its last text part; and
    that text."""
    value = messages[-1].get(key) if messages else None
    if isinstance(value, str):
        return [*messages[:-1], {**messages[-1], key: value + _MARK}], value
    parts = list(value) if isinstance(value, list) else []
    for place in reversed(range(len(parts))):
        text = parts[place].get("text") if isinstance(parts[place], Mapping) else None
        if isinstance(text, str):
            parts[place] = {**parts[place], "text": text + _MARK}
            return [*messages[:-1], {**messages[-1], key: parts}], text
    raise PromptError(f"cannot be continued: its last message has no text as {key!r:.60}")


def cut_at_mark(text: str, last: str) -> str:
    """The rendered text up to the mark. PromptError where the template left out the last text, or changed it."""
    place = text.rfind(_MARK.strip())
    if place < 0 or last.strip() not in text:
        raise PromptError("cannot be continued: the chat template leaves the last message out, or changes it")
    return text[:place] if text.startswith(_MARK, place) else text[:place].rstrip()
