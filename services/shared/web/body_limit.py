"""Refuse a request body beyond its limit with a problem document: at once when its length says so, else when it has come.

Done here because the framework's own limit answers in plain text. Small by default: a route that takes files names its own
limit, so that nobody without a token can make us read hundreds of megabytes.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.shared.web.problems import Problem


class BodyLimit:
    """ASGI middleware. ``larger`` has the limits, in bytes, of paths that begin so; ``limit`` is that of all others."""

    def __init__(self, app: ASGIApp, limit: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((limit for path, limit in self._larger.items() if scope["path"].startswith(path)), self._limit)
        declared = Headers(scope=scope).get("content-length", "")
        if len(declared) > 15 or (declared.isdecimal() and int(declared) > limit):
            # Closing spares reading the rest, which a kept connection would have to.
            refusal = too_large(limit)
            refusal.headers["Connection"] = "close"
            await refusal.response()(scope, receive, send)
            return
        left = limit

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


def too_large(limit: int) -> Problem:
    return Problem(413, "too-large", "The request is too large", f"At most {limit / 2**20:g} MiB are taken here.")
