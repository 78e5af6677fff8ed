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
from ..generation.settings import ROW_KEYS
from .conversations import CHAT_KEYS, chat_values
from .line_values import samples_of, settings_of, stops_of, with_prompt
from .prompt import Prompt, Wanted

__all__ = ["BODY_KEYS", "from_request"]

CHATS, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_LINE = ("custom_id", "method", "url", "body")
_WITHOUT_EFFECT = (  # on a text: who asks, and how the answer is stored, billed or sent
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "stream_options",
    "parallel_tool_calls",
)
# Keys that ask for nothing with these values, and cannot be honoured with others.
_HARMLESS: dict[str, tuple[object, ...]] = {
    "stream": (False,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto",),
    "best_of": (1,),
    "suffix": ("",),
    "modalities": (["text"],),
}
_OF_COMPLETIONS = ("best_of", "echo", "suffix")
_WITHOUT_ECHO = "prompt_logprobs"  # is what echo and logprobs say together here
BODY_KEYS = (
    "messages",
    "prompt",
    "max_completion_tokens",
    "top_logprobs",
    "n",
    "stop",
    "echo",
    *(key for key in ROW_KEYS if key != _WITHOUT_ECHO),
    *CHAT_KEYS,
    *_WITHOUT_EFFECT,
    *_HARMLESS,
)


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
        return _request(replace(prompt, unknown=tuple(unknown)), body, chat, digest)
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


def _request(prompt: Prompt, body: Mapping[str, Any], chat: bool, digest: str) -> Prompt:
    body = {key: value for key, value in body.items() if value is not None}
    refused = [key for key in body if key not in BODY_KEYS or not _harmless(key, body[key], chat)]
    if refused:
        names = ", ".join(repr(key[:60]) for key in refused[:8])
        raise PromptError(f"{names} in body cannot be honoured here; leave {'it' if len(refused) == 1 else 'them'} out")
    needed, other = ("messages", "prompt") if chat else ("prompt", "messages")
    if needed not in body or other in body:
        raise PromptError(f"body: {CHATS if chat else COMPLETIONS} takes {needed}, and not {other}")
    if not chat and isinstance(body["prompt"], list) and any(not isinstance(each, int) for each in body["prompt"]):
        raise PromptError("body: prompt must be one string or one list of token ids; give each prompt its own line")
    settings = settings_of(body)
    logprobs, echo = body.get("logprobs"), body.get("echo", False)
    if not isinstance(echo, bool):
        raise PromptError("echo must be true or false")
    wants = logprobs is True if chat else logprobs is not None and logprobs is not False
    if chat and logprobs is not None and not isinstance(logprobs, bool):
        raise PromptError("logprobs must be true or false; top_logprobs is the number")
    if not chat and "top_logprobs" in body:
        raise PromptError(f"top_logprobs is for {CHATS}; for {COMPLETIONS} logprobs is the number")
    if chat and "top_logprobs" in body and not wants:
        raise PromptError("top_logprobs needs logprobs to be true")
    if settings.get("max_tokens") == 0 and not echo:
        raise PromptError("max_tokens 0: impossible without echo; give at least 1")
    if echo and (wants or settings.get("max_tokens") == 0):
        settings["prompt_logprobs"] = settings.get("logprobs", 0)
    prompt = replace(
        prompt,
        settings=settings,
        stop=stops_of(body.get("stop")),
        samples=samples_of(body.get("n")),
        chat=chat_values(body),
        wanted=Wanted(chat, wants, digest, echo),
    )
    return with_prompt(prompt, body)


def _harmless(key: str, value: object, chat: bool) -> bool:
    if key in _OF_COMPLETIONS and chat:
        return False
    return key not in _HARMLESS or any(type(value) is type(each) and value == each for each in _HARMLESS[key])
