"""What callers give as a prompt, as the tokens that go through the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..checkpoints.chat import Chat
from ..checkpoints.tokenizer import Tokenizer
from ..errors import PromptError, UsageError
from .conversations import checked_messages, rendered

__all__ = ["Begin", "Messages", "Prompt", "begin_of", "conversation", "is_several"]

Messages: TypeAlias = Sequence[Mapping[str, Any]]
Prompt: TypeAlias = str | Sequence[int] | Messages
"""A text, token ids as they are, or a conversation."""


class Begin(NamedTuple):
    """The tokens of a prompt, and whether the text answers them; else it continues their text."""

    tokens: tuple[int, ...]
    answers: bool = False


def is_several(prompt: object) -> bool:
    """Whether a caller gives several prompts: a list of texts, of lists of tokens, or of conversations."""
    return isinstance(prompt, (list, tuple)) and bool(prompt) and isinstance(prompt[0], (str, list, tuple))


def conversation(messages: str | Messages) -> Messages:
    """A conversation as it is, or of one message of the user."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def begin_of(prompt: object, tokenizer: Tokenizer, chat: Chat, variables: Mapping[str, Any], vocab_size: int) -> Begin:
    """The tokens of one prompt. PromptError where it is none, or the template does not take it.

    variables: further names that the chat template may ask for. vocab_size: of the model; token ids are below it."""
    if not isinstance(variables, Mapping):
        raise UsageError(f'template {variables!r:.60}: impossible; give a mapping, such as {{"tools": [...]}}')
    if isinstance(prompt, str):
        return Begin(tokenizer.encode(prompt))
    if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], Mapping):
        text = rendered(chat, checked_messages([_object(message) for message in prompt]), variables)
        return Begin(tokenizer.encode(text, complete=True), not variables.get("continue_final_message"))
    if isinstance(prompt, (list, tuple)) and all(isinstance(token, (int, np.integer)) for token in prompt):
        outside = next((token for token in prompt if isinstance(token, bool) or not 0 <= token < vocab_size), None)
        if outside is not None:
            raise PromptError(f"token {outside!r:.60} is not in the vocabulary of {vocab_size}")
        return Begin(tuple(map(int, prompt)))
    raise PromptError('a prompt is a text, a list of token ids, or a list of messages: {"role": ..., "content": ...}')


def _object(message: object) -> object:
    return dict(message) if isinstance(message, Mapping) else message
