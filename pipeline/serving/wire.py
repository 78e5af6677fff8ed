"""Bytes of a connection: bodies in, within bounds; answers and streams of events out, to readers that may be slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from .errors import ApiError, Gone

__all__ = ["BODY_SECONDS", "READER_SECONDS", "Json", "Sender", "read_json", "until_gone"]

BODY_SECONDS = 30.0  # in which a body must be there
READER_SECONDS = 60.0  # after which a client that takes nothing counts as gone

Message: TypeAlias = dict[str, Any]  # of ASGI: https://asgi.readthedocs.io/en/latest/specs/www.html
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


async def read_json(headers: Mapping[str, str], receive: Receive, most: int) -> dict[str, Any]:
    """The object that a body is. ApiError where it is too large, too slow or no object, Gone where nobody is there."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a browser sends other types to any server, whatever page it shows
        raise ApiError(415, "the body must be JSON, sent with Content-Type: application/json")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            content = await _body(receive, most)
    except TimeoutError:
        raise ApiError(408, f"the body was not there within {BODY_SECONDS:g} s") from None
    try:
        found = json.loads(content, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ApiError(400, "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON at character {error.pos}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is no usable JSON: a number that JSON does not have, or too deep") from None
    if not isinstance(found, dict):
        raise ApiError(400, "the body must be an object, the request")
    return found


def _no_number(name: str) -> None:
    raise ValueError(name)


async def _body(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body is larger than {most >> 20} MiB, the most that this server takes")


async def until_gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Json:
    """An answer that is one object."""

    def __init__(self, body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
        self.status, self._headers = status, headers or {}

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        sender = Sender(send)
        size = {"content-length": str(len(self._content))}
        await sender.start(self.status, {"content-type": "application/json"} | size | dict(self._headers))
        await sender.more(self._content, last=True)


class Sender:
    """Sends an answer. Gone where the client does not take it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.started = True
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._put({"type": "http.response.start", "status": status, "headers": pairs})

    async def more(self, content: bytes, last: bool = False) -> None:
        await self._put({"type": "http.response.body", "body": content, "more_body": not last})

    async def events(self, chunks: AsyncIterator[list[Mapping[str, Any]]]) -> None:
        """Sends a stream of server-sent events, and says at the end that it is whole."""
        await self.start(200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"})
        async for some in chunks:
            await self.more(b"".join(_event(chunk) for chunk in some))
        await self.more(b"data: [DONE]\n\n", last=True)

    async def _put(self, message: Message) -> None:
        try:
            async with asyncio.timeout(READER_SECONDS):
                await self._send(message)
        except (TimeoutError, OSError):
            raise Gone from None


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"
