"""The OpenAPI 3.1 document of a service: what the framework derives from the routes, and what it cannot know.

Routes that take streams, parts or lines of JSON read the request themselves; a row of :class:`Described` says what they take
and give. Every route may refuse with a problem document (RFC 9457), and all but the token endpoint need a token. The document
is served at ``/openapi.json`` and published under ``schemas/openapi/``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from schemas.answers import Problem
from schemas.generate import without_closing

Json = dict[str, Any]
Taken = type[BaseModel] | TypeAdapter[Any]
TOKEN_PATH = "/oauth/token"  # noqa: S105 - an address
_REF = "#/components/schemas/"
_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": f"{_REF}Problem"}}}}
_ABOUT = """\
Every refusal is a problem document (RFC 9457) that says what is wrong and what to send instead, and repeats nothing of the
request. Ignore fields of an answer that you do not know: a minor version may add some."""
_ABOUT_TOKENS = """\
A token of ten minutes for a client assertion that the client signs with its own Ed25519 key (private_key_jwt: RFC 7523
section 2.2, OpenID Connect Core section 9). Send it as `Authorization: Bearer`. There are no scopes: what a client may do
follows from its entry in the registry."""


def takes_json(model: Taken) -> Json:
    return {"application/json": {"schema": _taken(model)}}


def takes_form(model: Taken) -> Json:
    return {"application/x-www-form-urlencoded": {"schema": _taken(model)}}


def takes_json_or_parts(model: Taken, part: str, about: str) -> Json:
    """JSON alone, or ``part`` beside a document and attachments."""
    parts: Json = {
        "type": "object",
        "required": [part],
        "properties": {
            part: _taken(model),
            "document": {"type": "string", "contentMediaType": "application/pdf", "description": "One PDF, at most 25 MiB."},
            "attachment": {
                "type": "array",
                "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                "description": "Files of at most 25 MiB each.",
            },
        },
    }
    return takes_json(model) | {
        "multipart/form-data": {
            "schema": parts | {"description": about},
            "encoding": {part: {"contentType": "application/json"}, "document": {"contentType": "application/pdf"}},
        }
    }


def takes_lines(*models: type[BaseModel]) -> Json:
    """NDJSON, each line one of ``models``."""
    return {"application/x-ndjson": {"schema": _one_of([_taken(model) for model in models])}}


def gives_json(*models: type[BaseModel]) -> Json:
    """One of ``models``."""
    return {"application/json": {"schema": _one_of([_given(model) for model in models])}}


def gives_lines(*models: type[BaseModel]) -> Json:
    """NDJSON, each line one of ``models``."""
    return {"application/x-ndjson": {"schema": _one_of([_given(model) for model in models])}}


def gives_file() -> Json:
    """Its media type is the file's own."""
    return {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def refuses(why: str) -> Json:
    """One of a route's ``responses``: a problem document."""
    return {"description": why} | _PROBLEM


@dataclass(frozen=True, slots=True)
class Described:
    """What one route takes and gives, by media type, and why it refuses besides the reasons that every route has."""

    takes: Json | None = None
    gives: Mapping[int, tuple[str, Json]] = field(default_factory=dict)
    refuses: Mapping[int, str] = field(default_factory=dict)

    def as_openapi(self) -> Json:
        operation: Json = {"responses": {}}
        if self.takes:
            operation["requestBody"] = {"required": True, "content": self.takes}
        for status, (description, content) in self.gives.items():
            operation["responses"][str(status)] = {"description": description, "content": content}
        for status, why in self.refuses.items():
            operation["responses"][str(status)] = refuses(why)
        return operation


def describe(router: APIRouter, rows: Mapping[str, Described]) -> APIRouter:
    """Give ``router``'s routes what ``rows`` say of them, by the name of the route's function."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.name in rows:
            route.openapi_extra = rows[route.name].as_openapi()
    return router


def complete(document: Json) -> Json:
    """The framework's document with problems, tokens, and the schemas of the rows in its components."""
    schemas: Json = document.setdefault("components", {}).setdefault("schemas", {})
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete(operation, path)
    schemas |= _given(Problem)["$defs"]
    document["paths"] = _moved(document["paths"], schemas)
    used = _used(document["paths"], schemas, set())
    document["components"]["schemas"] = _moved({name: schemas[name] for name in sorted(used)}, {})
    document["components"]["securitySchemes"] = {
        "token": {
            "type": "oauth2",
            "description": _ABOUT_TOKENS,
            "flows": {"clientCredentials": {"tokenUrl": TOKEN_PATH, "scopes": {}}},
        }
    }
    document["info"] |= {"description": _ABOUT, "license": {"name": "MIT", "identifier": "MIT"}}
    return document


def _complete(operation: Json, path: str) -> None:
    responses = operation["responses"]
    for status, response in list(responses.items()):
        content = response.get("content", {})
        # Of a route that answers by itself the framework knows nothing, and says JSON; its own word for 422 is not ours.
        if status == "422" or (len(content) > 1 and content.get("application/json") == {"schema": {}}):
            content.pop("application/json", None)
        if not content:
            del responses[status]
    if path == TOKEN_PATH:
        refused = {"400": "The request is no token request.", "401": "The client assertion was refused."}
    else:
        operation["security"] = [{"token": []}]
        refused = {"401": "No token, or one that is not valid here.", "403": "This client may not do this."}
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        refused["404"] = "There is nothing of this id, or it is not this client's."
    if "requestBody" in operation:
        refused["413"] = "The request is too large."
    if "requestBody" in operation or "parameters" in operation:
        refused["422"] = "The request does not fit the contract."
    refused |= {"500": "The exchange failed; nothing was lost.", "503": "The database is away; send it again."}
    for status, why in refused.items():
        responses.setdefault(status, refuses(why))
    operation["responses"] = dict(sorted(responses.items()))


def _taken(model: Taken) -> Json:
    if isinstance(model, TypeAdapter):
        schema: Json = _without_null_defaults(model.json_schema(by_alias=True, ref_template=_REF + "{model}"))
        return schema
    return _schema(model, lambda definitions: definitions)


def _given(model: type[BaseModel]) -> Json:
    """As a reader sees it. Parts that a council may not add to are open here, and so have a name of their own."""

    def opened(definitions: Json) -> Json:
        closed = {name: f"{name}AsRead" for name, each in definitions.items() if each.get("additionalProperties") is False}
        return {closed.get(name, name): _renamed(without_closing(each), closed) for name, each in definitions.items()}

    return _schema(model, opened)


def _schema(model: type[BaseModel], change: Callable[[Json], Json]) -> Json:
    """``model``'s schema with all that it needs under ``$defs``, to be moved to the document's components."""
    references, definitions = models_json_schema([(model, "validation")], by_alias=True, ref_template=_REF + "{model}")
    return references[model, "validation"] | {"$defs": _without_null_defaults(change(definitions["$defs"]))}


def _without_null_defaults(value: Any) -> Any:
    """As the framework writes it: the same schema must come out the same both ways."""
    if isinstance(value, dict):
        return {key: _without_null_defaults(each) for key, each in value.items() if key != "default" or each is not None}
    if isinstance(value, list):
        return [_without_null_defaults(each) for each in value]
    return value


def _one_of(schemas: list[Json]) -> Json:
    if len(schemas) == 1:
        return schemas[0]
    definitions = {name: each for schema in schemas for name, each in schema.pop("$defs").items()}
    return {"anyOf": schemas, "$defs": definitions}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if isinstance(value, str) and value.startswith(_REF):
        name = value.removeprefix(_REF)
        return _REF + names.get(name, name)
    return value


def _moved(value: Any, schemas: Json) -> Any:
    """``value`` without ``$defs``, which are in ``schemas`` then. Raises ``ValueError`` where one name means two things."""
    if isinstance(value, list):
        return [_moved(each, schemas) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # the framework's limits of whole numbers
    if not isinstance(value, dict):
        return value
    for name, schema in value.get("$defs", {}).items():
        if schemas.setdefault(name, schema) != schema:
            raise ValueError(f"two schemas of the OpenAPI document have the name {name}")
    return {key: _moved(each, schemas) for key, each in value.items() if key != "$defs"}


def _used(value: Any, schemas: Json, found: set[str]) -> set[str]:
    """The names of ``schemas`` that ``value`` refers to, directly or through each other."""
    if isinstance(value, dict):
        for each in value.values():
            _used(each, schemas, found)
    elif isinstance(value, list):
        for each in value:
            _used(each, schemas, found)
    elif isinstance(value, str) and value.startswith(_REF) and (name := value.removeprefix(_REF)) not in found:
        found.add(name)
        _used(schemas[name], schemas, found)
    return found


class Api(FastAPI):
    """An application whose document is complete."""

    def openapi(self) -> Json:
        if not self.openapi_schema:
            self.openapi_schema = complete(super().openapi())
        return self.openapi_schema
