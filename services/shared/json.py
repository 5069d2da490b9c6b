"""JSON out. asyncpg gives ids as a subclass of ``UUID``, which orjson does not take by itself; anything else unknown fails."""

from typing import Any
from uuid import UUID

import orjson
from fastapi import Response


def _default(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def dumps(value: Any) -> bytes:
    return orjson.dumps(value, default=_default)


def json_answer(body: Any, status: int = 200, *, private: bool = False) -> Response:
    """``private``: no cache on the way may keep it."""
    headers = {"Cache-Control": "no-store"} if private else None
    return Response(dumps(body), status, headers, "application/json")
