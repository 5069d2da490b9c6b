"""What a service answers, and logs, when a request goes wrong on the way."""

from typing import Any

import pytest
from fastapi import Request
from structlog.testing import capture_logs

from services.shared.runtime import make_app

pytestmark = pytest.mark.asyncio


async def test_a_caller_that_goes_away_while_it_sends_is_no_error_of_ours() -> None:
    app = make_app("test")

    @app.post("/v1/plans/{plan_id}")
    async def take(plan_id: str, request: Request) -> int:
        return len(plan_id) + len(await request.body())

    coming = iter([{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}])
    answered: list[Any] = []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        answered.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/plans/1", "query_string": b"", "headers": []}
    with capture_logs() as logs:
        await app(scope, receive, send)
    assert logs == [{"event": "client_gone", "route": "/v1/plans/{plan_id}", "log_level": "info"}]
    assert [message.get("status") for message in answered] == [400, None]
