"""One prompt of a run, as its line of a file states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .guides import Guide

__all__ = ["MOST_SAMPLES", "OPENAI", "OWN", "Prompt", "Wanted"]

OWN, OPENAI = "onebuf", "openai"  # the dialects of lines and rows
MOST_SAMPLES = 128  # of one prompt


@dataclass(frozen=True)
class Wanted:
    """The wishes of a request of OpenAI's batch files for its row, besides the text.

    chat      whether it is one of chat completions, else of completions
    logprobs  whether the row has log-probabilities
    digest    of the request, which tells it from others of the same custom_id
    echo      whether the text begins with the prompt
    """

    chat: bool
    logprobs: bool
    digest: str
    echo: bool = False


@dataclass(frozen=True)
class Prompt:
    """One prompt: `text`, `tokens` or `messages`, or `error` where its line could not be used.

    index   position among the prompts, from 0; blank lines do not count
    id      the line's own id, else the index
    where   for messages: "stories.txt line 3"
    messages   a conversation, each message an object with "role" and "content"; `text` is its last content
    settings   its own settings, by the names of generation.settings, instead of the run's
    stop       its own stop strings; None: the run's
    samples    its own number of texts; None: the run's
    chat       what the line has for the chat template, by the names of conversations.CHAT_KEYS
    unknown    keys of its line that mean nothing here
    dialect    of its line: OWN or OPENAI, or "" where the line does not tell
    wanted     of a request in OpenAI's dialect
    guide      what its texts must be
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
    samples: int | None = None
    chat: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    dialect: str = ""
    wanted: Wanted | None = None
    guide: Guide | None = None

    def failed(self, error: str) -> Prompt:
        """This prompt, as one that cannot be used."""
        return replace(self, error=error)

    @property
    def continues(self) -> bool:
        """Whether its conversation's last message is continued; else it is answered."""
        kwargs = self.chat.get("chat_template_kwargs", {})
        return bool(self.chat.get("continue_final_message", kwargs.get("continue_final_message")))
