"""What every request must pass before anything of it is read: its size, where it comes from, and its key."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from .errors import ApiError, Gone
from .options import Options, is_loopback
from .wire import Json, Receive, Send

__all__ = ["MOST_HEADERS", "guarded"]

MOST_HEADERS = 100
_OPEN = ("/", "/health", "/page/")  # paths that need no key: they tell nothing of the model, nor of anybody's texts
_App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


def guarded(app: _App, options: Options) -> _App:
    """`app` behind these checks. An error that it does not expect is an answer, too."""
    local = is_loopback(options.host) and options.api_key is None

    async def call(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        try:
            _check(scope, options, local)
            await app(scope, receive, send)
        except ApiError as error:
            await Json(error.body, error.status, {"connection": "close"})(scope, receive, send)
        except (Gone, asyncio.CancelledError):
            return
        except Exception:  # it was answered and logged; here its message would be, too
            return

    return call


def _check(scope: Mapping[str, Any], options: Options, local: bool) -> None:
    if len(scope["headers"]) > MOST_HEADERS:
        raise ApiError(431, f"more than {MOST_HEADERS} headers")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = _host("//" + headers.get("host", ""))
    if local and not is_loopback(host):
        # Another site's name may lead to this machine: its pages would then talk to the server as if it were theirs.
        raise ApiError(403, "this server answers to the names of this machine alone; give --api-key to change that")
    origin = headers.get("origin")
    if local and origin is not None and not is_loopback(_host(origin)):
        raise ApiError(403, "this server takes no requests of other sites' pages; give --api-key to change that")
    path = scope["path"]
    if options.api_key is None or path in _OPEN or path.startswith(_OPEN[-1]):
        return
    given = headers.get("authorization", "").removeprefix("Bearer ").strip()
    if not hmac.compare_digest(given.encode(), options.api_key.encode()):
        raise ApiError(401, "the API key is missing or wrong; send Authorization: Bearer KEY", code="invalid_api_key")


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
