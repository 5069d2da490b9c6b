"""Every refusal over HTTP is a problem document (RFC 9457): the field, what is wrong, what to send instead.

Nothing of the input is repeated, since a wrong NHS number is still almost an NHS number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from services.shared.json import dumps
from services.shared.postgres.pool import AWAY, transient


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


_INSTEAD = {
    "missing": "send this field",
    "extra_forbidden": "remove it, or correct the name",
    "date_from_datetime_parsing": "a date as YYYY-MM-DD",
    "date_parsing": "a date as YYYY-MM-DD",
    "uuid_parsing": "an id as the exchange gave it",
    "json_invalid": "JSON in UTF-8",
}


def invalid(errors: Sequence[Any], prefix: str = "") -> Problem:
    """From pydantic's errors; messages only, never the input."""
    listed = [
        FieldError(
            "/".join([prefix, *(str(part) for part in error["loc"] if part != "body")]).strip("/") or "(body)",
            str(error["msg"]).removeprefix("Value error, "),
            _INSTEAD.get(error["type"], ""),
        )
        for error in errors
    ]
    first = listed[0]
    return Problem(422, "invalid", "The request does not fit the contract", f"{first.field}: {first.problem}", listed[:50])


def install(app: FastAPI) -> None:
    """Answer every refusal of ``app`` as a problem document."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(RequestValidationError)
    async def _request(_: Request, error: RequestValidationError) -> Response:
        return invalid(error.errors()).response()

    @app.exception_handler(ValidationError)
    async def _validation(_: Request, error: ValidationError) -> Response:
        return invalid(error.errors(include_input=False, include_url=False)).response()

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        return Problem(error.status_code, "http", str(error.detail), headers=dict(error.headers or {})).response()

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
