"""Refuse a request body that is too large, by its declared length at once and by counting where none is declared."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.shared.web.problems import Problem


class BodyLimit:
    """ASGI middleware. ``max_bytes`` is for the whole body."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max = max_bytes

    def _too_large(self) -> Problem:
        return Problem(413, "too-large", "The request is too large", f"At most {self._max // 2**20} MiB in one request.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > self._max:
            return await self._too_large().response()(scope, receive, send)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message: dict[str, Any] = dict(await receive())
            seen += len(message.get("body", b""))
            if seen > self._max:
                raise self._too_large()
            return message

        return await self._app(scope, counted, send)
