"""The paths of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..cli.request_body import CHATS, COMPLETIONS
from .errors import ApiError
from .guard import guarded
from .options import Options
from .service import Service
from .wire import Json, Receive, Send

__all__ = ["PAGE", "make_app"]

PAGE = Path(__file__).parents[1] / "data" / "page"


class _Post:
    """A path that takes bodies."""

    def __init__(self, answer: Callable[..., Awaitable[None]], chat: bool) -> None:
        self._answer, self._chat = answer, chat

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            raise ApiError(405, "this path takes POST")
        await self._answer(self._chat, scope, receive, send)


def make_app(service: Service, options: Options) -> Callable[[Any, Receive, Send], Awaitable[None]]:
    """An ASGI application."""
    from starlette.applications import Starlette  # an extra, which other programs do not need
    from starlette.responses import FileResponse, PlainTextResponse  # the same
    from starlette.routing import Mount, Route  # the same
    from starlette.staticfiles import StaticFiles  # the same

    entry = {"id": service.name, "object": "model", "created": service.created, "owned_by": "onebuf"}

    async def models(request: Any) -> Any:
        return Json({"object": "list", "data": [entry]})

    async def model(request: Any) -> Any:
        if request.path_params["name"] != service.name:
            raise ApiError(404, f"there is no such model; this server has {service.name!r}", code="model_not_found")
        return Json(entry)

    async def health(request: Any) -> Any:
        return Json({"status": "ok"})

    async def metrics(request: Any) -> Any:
        return PlainTextResponse(await service.meter.text(), media_type="text/plain; version=0.0.4")

    async def stats(request: Any) -> Any:
        return Json({"model": service.name, "chat": service.talks, **await service.meter.page()})

    async def page(request: Any) -> Any:
        return FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)

    async def refused(request: Any, error: Any) -> Any:
        return Json(error.body, error.status)

    async def unexpected(request: Any, error: Exception) -> Any:
        return Json(service.problem("-", error).body, 500)

    async def no_such(request: Any, error: Any) -> Any:
        return Json(ApiError(error.status_code, _WORDS.get(error.status_code, "impossible")).body, error.status_code)

    routes = [
        Route(CHATS, _Post(service.answer, True)),
        Route(COMPLETIONS, _Post(service.answer, False)),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/stats", stats),
        Route("/", page),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    handlers: Any = {404: no_such, 405: no_such, ApiError: refused, Exception: unexpected}
    return guarded(Starlette(routes=routes, exception_handlers=handlers), options)


_WORDS = {404: "there is no such path", 405: "this path does not take this method"}
_PAGE_HEADERS = {  # nothing but the page's own files, and no frame of another site around it
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
