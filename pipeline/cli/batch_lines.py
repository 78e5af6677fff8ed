"""A line of OpenAI's batch files: {"custom_id", "method", "url", "body"}, of which the body is the request.

What a request asks for and cannot have here is an error of its row, which names it; it is never left out in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import PromptError, UsageError
from .prompt import Prompt, Wanted
from .request_body import CHATS, COMPLETIONS, from_body

__all__ = ["from_request"]

_LINE = ("custom_id", "method", "url", "body")


def from_request(prompt: Prompt, line: Mapping[str, Any]) -> Prompt:
    """`prompt` with what a line says; with `error` where that cannot be honoured."""
    name = line.get("custom_id")
    if isinstance(name, str):
        prompt = replace(prompt, id=name)
    body = line["body"]
    if not isinstance(body, dict):
        return prompt.failed("body must be an object, the request")
    try:
        asked = json.dumps([name, body], sort_keys=True)
        digest = hashlib.blake2b(asked.encode(), digest_size=12).hexdigest()
        if not isinstance(name, str) or not name:
            raise PromptError("custom_id must be a string, by which the row is found")
        chat = _is_chat(line, body)
        prompt = replace(prompt, wanted=Wanted(chat, False, digest))
        if isinstance(body.get("prompt"), str):
            prompt = replace(prompt, text=body["prompt"])
        unknown = [key for key in line if key not in _LINE]
        return from_body(replace(prompt, unknown=tuple(unknown)), body, chat, digest)
    except RecursionError:
        return prompt.failed("body is nested too deeply")
    except (PromptError, UsageError) as error:
        return prompt.failed(str(error))


def _is_chat(line: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    if line.get("method") != "POST":
        raise PromptError('method must be "POST"' + ("" if "method" in line else ", and is not there"))
    url = line.get("url")
    if url is None:
        raise PromptError(f"url is not there; give {CHATS if 'messages' in body else COMPLETIONS}")
    if url not in (CHATS, COMPLETIONS):
        raise PromptError(f"url: only {CHATS} and {COMPLETIONS} can be answered here")
    return bool(url == CHATS)
