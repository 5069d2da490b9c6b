"""Every refusal over HTTP is a problem document (RFC 9457): the field, what is wrong, what to send instead.

Nothing of the input is repeated, since a wrong NHS number is still almost an NHS number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from schemas.refusals import explain
from services.shared.json import dumps
from services.shared.postgres.pool import AWAY, transient

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FieldError:
    field: str
    problem: str
    instead: str = ""

    def as_json(self) -> dict[str, str]:
        return {"field": self.field, "problem": self.problem} | ({"instead": self.instead} if self.instead else {})


@dataclass
class Problem(Exception):
    """Raise to refuse. ``slug`` names the kind of problem and never changes; ``extra`` are further members."""

    status: int
    slug: str
    title: str
    detail: str = ""
    errors: Sequence[FieldError] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"type": f"urn:ehcp:problem:{self.slug}", "title": self.title, "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = [error.as_json() for error in self.errors]
        return body | self.extra

    def response(self) -> Response:
        return Response(dumps(self.as_json()), self.status, self.headers, media_type="application/problem+json")


def invalid(errors: Sequence[Any], known: frozenset[str] = frozenset()) -> Problem:
    """From pydantic's errors (``include_input=False``), in the contract's own sentences."""
    listed = [FieldError(each.field, each.problem, each.instead) for each in explain(errors, known)]
    detail = f"{listed[0].field}: {listed[0].problem}"
    return Problem(422, "invalid", "The request does not fit the contract", detail, listed[:50])


def install(app: FastAPI) -> None:
    """Answer every refusal of ``app`` as a problem document."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(RequestValidationError)
    async def _request(_: Request, error: RequestValidationError) -> Response:
        # FastAPI puts before the way where it looked ("body", "query"); a parameter's name is the route's, not the input's.
        errors = [{**each, "loc": each["loc"][1:], "input": None} for each in error.errors()]
        parameters = frozenset(each["loc"][1] for each in error.errors() if each["loc"][0] != "body" and len(each["loc"]) > 1)
        return invalid(errors, parameters).response()

    @app.exception_handler(ValidationError)
    async def _validation(_: Request, error: ValidationError) -> Response:
        return invalid(error.errors(include_input=False, include_url=False)).response()

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        if error.status_code == 413:
            return Problem(413, "too-large", "The request is too large", "Send less at once.").response()
        return Problem(error.status_code, "http", str(error.detail), headers=dict(error.headers or {})).response()

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, _: ClientDisconnect) -> Response:
        # The caller's affair, not a failure of ours. Nobody is there to read the answer, but one must be given.
        log.info("client_gone", route=getattr(request.scope.get("route"), "path", None))
        return Problem(400, "incomplete", "The request did not come to its end", "Send it again.").response()

    async def _away(_: Request, error: Exception) -> Response:
        if not transient(error):
            raise error
        return Problem(
            503, "away", "The exchange's database does not answer", "Nothing was lost; send the same request again.",
            headers={"Retry-After": "5"},
        ).response()  # fmt: skip

    for kind in AWAY:
        app.add_exception_handler(kind, _away)

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, _error: Exception) -> Response:
        return Problem(
            500, "internal", "The exchange failed to answer", "Nothing was lost; send the same request again."
        ).response()
