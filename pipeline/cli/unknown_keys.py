"""Keys of lines that mean nothing here: each is named once, with the first line that has it."""

from __future__ import annotations

import difflib

from ..checkpoints.tensor_info import quoted
from .lines import LINE_KEYS
from .prompt import OPENAI, Prompt
from .request_body import BODY_KEYS

__all__ = ["NAMED_KEYS", "UnknownKeys"]

NAMED_KEYS = 8  # that are named at a time; of the others there is a count
MOST_KEYS = 1000  # that are remembered: a line may have any number of them


class UnknownKeys:
    """Collects the keys of prompts as they come."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}  # where each was seen first
        self._told = 0

    def add(self, prompt: Prompt) -> None:
        for key in prompt.unknown:
            if len(self._first) < MOST_KEYS and key not in self._first:
                known = BODY_KEYS if prompt.dialect == OPENAI else LINE_KEYS
                close = difflib.get_close_matches(key[:80], known, 1, 0.75)
                meant = f"; is {quoted(close[0])} meant?" if close else ""
                self._first[key] = f"{prompt.where}{meant}"

    def message(self) -> str | None:
        """A message about those that no earlier message counted; None where there are none."""
        new = list(self._first.items())[self._told :]
        self._told = len(self._first)
        if not new:
            return None
        named = [f"{quoted(key)} ({where})" for key, where in new[:NAMED_KEYS]]
        more = f" and {len(new) - NAMED_KEYS} more" if len(new) > NAMED_KEYS else ""
        return f"keys that mean nothing here and are not used: {', '.join(named)}{more}"
