"""Holds what a service really answers against the OpenAPI document that is published for it."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
import pytest
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

_NOT_DOCUMENTED = ("/health/", "/metrics", "/openapi.json")
"""Not the contract: for whoever runs the service, and the document itself."""


class Documented:
    """One service's document. :meth:`check` is for an httpx response hook, or to be called."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.seen: set[tuple[str, str, str]] = set()
        """(method, path, status) of every answer that was checked."""
        self._strict = _closed(document["components"]["schemas"])
        self._paths = {
            path: re.compile("".join(f"({re.escape(part)})" if not part.startswith("{") else "[^/]+" for part in _parts(path)))
            for path in document["paths"]
        }

    async def check(self, answer: httpx2.Response) -> None:
        """Raises ``AssertionError`` or ``ValidationError`` when the document does not say that this may be answered."""
        await answer.aread()
        asked = urlsplit(str(answer.request.url)).path
        path = next((path for path, pattern in self._paths.items() if pattern.fullmatch(asked)), None)
        if path is None:
            assert answer.status_code == 404 or asked.startswith(_NOT_DOCUMENTED), f"{asked} is answered, but not documented"
            return
        method, status = answer.request.method.lower(), str(answer.status_code)
        if method not in self.document["paths"][path]:
            assert answer.status_code == 405, f"{method} {path} is answered, but not documented"
            return
        responses = self.document["paths"][path][method]["responses"]
        assert status in responses, f"{method} {path} answered {status}, which is not documented"
        media_type = answer.headers["content-type"].partition(";")[0]
        content = responses[status]["content"]
        self.seen.add((method, path, status))
        if "*/*" in content:
            return
        assert media_type in content, f"{method} {path} answered {media_type}, which is not documented for {status}"
        if "json" not in media_type:
            return
        lines = answer.content.splitlines() if media_type == "application/x-ndjson" else [answer.content]
        for line in lines:
            try:
                self.fits(content[media_type]["schema"], orjson.loads(line))
            except ValidationError as error:
                what = best_match([error])
                pytest.fail(
                    f"{method} {path} answered {status} otherwise than its document says, at {what.json_path}: "
                    f"{what.message[:400]}. Describe it in schemas/*answers.py, see docs/contract.md."
                )

    def fits(self, schema: Mapping[str, Any], value: Any) -> None:
        """With every member of every object known: an answer that says more than the document is documented badly."""
        Draft202012Validator(
            {"allOf": [schema], "components": {"schemas": self._strict}}, format_checker=Draft202012Validator.FORMAT_CHECKER
        ).validate(value)


def _parts(path: str) -> list[str]:
    return re.split(r"(\{[^}]+\})", path)


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    closed = {key: _closed(each) for key, each in value.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed
