"""Conversations: what callers and lines of files may say of one, checked and brought into the form of templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoints.chat import Chat
from ..errors import CheckpointError, PromptError

__all__ = ["CHAT_KEYS", "chat_values", "checked_messages", "rendered", "shown_text"]

CHAT_KEYS = (
    "tools",
    "documents",
    "reasoning_effort",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)

_FORM = 'messages must be a list of objects such as {"role": "user", "content": "..."}'
_TEXT_PARTS = ("text", "input_text", "output_text")
_RESERVED = ("messages", "name", "self")  # what Chat.render has other meanings for
# What an assistant's message may have instead of content.
_INSTEAD = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")


def checked_messages(messages: object) -> tuple[dict[str, Any], ...]:
    """The messages with text as content: the text parts of a list are joined. PromptError says which one is wrong.

    The arguments of a tool call, which OpenAI's interface writes as JSON within a string, become the object that
    templates expect.
    """
    if not isinstance(messages, list) or not messages:
        raise PromptError(_FORM)
    return tuple(_message(message, f"message {number}") for number, message in enumerate(messages, 1))


def shown_text(message: Mapping[str, Any]) -> str:
    """A message's content for people."""
    content = message.get("content")
    return content if isinstance(content, str) else "" if content is None else json.dumps(content)


def chat_values(line: Mapping[str, Any]) -> dict[str, Any]:
    """Those of CHAT_KEYS that a line has, checked. PromptError names what is wrong."""
    found = {key: line[key] for key in CHAT_KEYS if line.get(key) is not None}
    for key in ("tools", "documents"):
        value = found.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise PromptError(f"{key} must be a list of objects")
    if not isinstance(found.get("reasoning_effort", ""), str):
        raise PromptError('reasoning_effort must be a text, such as "low"')
    variables = found.get("chat_template_kwargs", {})
    if not isinstance(variables, dict):
        raise PromptError('chat_template_kwargs must be an object, such as {"enable_thinking": false}')
    for key in _RESERVED:
        if key in variables:
            raise PromptError(f"chat_template_kwargs cannot set {key!r}; leave it out")
    prompts, continues = (variables | found).get("add_generation_prompt"), _continues(variables | found)
    if prompts not in (None, True, False):
        raise PromptError("add_generation_prompt must be true or false")
    if continues and prompts:
        raise PromptError("has both add_generation_prompt and continue_final_message; leave one out")
    return found


def rendered(chat: Chat, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """The conversation's text. Some templates tell a call of tools by its lack of content; others fail on it, and get
    an empty one."""
    try:
        return chat.render(messages, **variables)
    except CheckpointError:
        if all(message.get("content") is not None for message in messages):
            raise
        filled = [message if message.get("content") is not None else {**message, "content": ""} for message in messages]
        return chat.render(filled, **variables)


def _continues(values: Mapping[str, Any]) -> bool:
    value = values.get("continue_final_message", False)
    if not isinstance(value, bool) and not (isinstance(value, str) and value):
        raise PromptError("continue_final_message must be true or false, or the name of what is continued")
    return bool(value)


def _message(message: object, where: str) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise PromptError(f"{where}: {_FORM}")
    content = message.get("content")
    if isinstance(content, list):
        message = message | {"content": "".join(_text(part, where) for part in content)}
    elif content is None:
        if message["role"] != "assistant" or not any(message.get(key) for key in _INSTEAD):
            raise PromptError(f"{where} has no content; only an assistant's message with tool_calls may have none")
    elif not isinstance(content, str) and not (message["role"] == "tool" and isinstance(content, dict)):
        raise PromptError(f"{where}: content must be text or a list of text parts")
    if message.get("tool_calls") is not None:
        message = message | {"tool_calls": _calls(message["tool_calls"], where)}
    return message


def _text(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
        named = f"of type {kind[:40]!r} " if isinstance(kind, str) and kind not in _TEXT_PARTS else ""
        raise PromptError(f'{where}: a part {named}is no text; give parts such as {{"type": "text", "text": "..."}}')
    return str(part["text"])


def _calls(calls: object, where: str) -> list[Any]:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise PromptError(f"{where}: tool_calls must be a list of objects")
    return [_call(call) for call in calls]


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """The call with its arguments as an object, where they are the JSON of one."""
    function = call.get("function")
    holder = function if isinstance(function, dict) else call
    if not isinstance(holder.get("arguments"), str):
        return call
    try:
        arguments = json.loads(holder["arguments"])
    except (ValueError, RecursionError):
        return call
    if not isinstance(arguments, dict):
        return call
    changed = holder | {"arguments": arguments}
    return call | {"function": changed} if holder is function else changed
