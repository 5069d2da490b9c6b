"""Fails when what is published breaks what was released: ``python -m schemas.compatibility``, in ``make check``.

Compares ``json/``, ``asyncapi.json``, ``openapi/`` and ``webhooks.json`` with the newest folder under ``released/``. Of every
schema two things are asked (:mod:`schemas.differences`): what was allowed and no longer is (*narrower*), and what is allowed
and was not (*wider*). Which of the two breaks somebody depends on who sends it:

- what councils send may become wider: whoever sends what the last release took is still understood;
- what an answer holds may become narrower: whoever reads what the last release gave still understands it;
- what council and subscribers send each other may become neither, since each is updated on a day of its own.

A breaking change needs a new major version **beside** the old one: a schema ``…-v2`` (``$id`` ``…:2``), an event type
``….v2``, a route ``/v2/…``. The old one may go when the project's own version (``pyproject.toml``) has a new major number.
Before 1.0 a new minor number may break anything. What only needs attention, such as a new value that readers will meet, is
printed and passes.
"""

import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from schemas.differences import Difference, Effect, differences, resolved
from schemas.generate import SENT_BY_COUNCILS

PUBLISHED = Path(__file__).parent
RELEASED = PUBLISHED / "released"
PROJECT = PUBLISHED.parent / "pyproject.toml"

Json = Mapping[str, Any]
Version = tuple[int, int, int]


class Sent(Enum):
    """Who sends what a schema describes: to whom which difference is a break."""

    BY_CLIENTS = frozenset({Effect.NARROWER})
    BY_SERVICES = frozenset({Effect.WIDER})
    BOTH_WAYS = frozenset({Effect.NARROWER, Effect.WIDER})


@dataclass(frozen=True, slots=True)
class Finding:
    breaking: bool
    where: str
    what: str

    def __str__(self) -> str:
        return f"{'BREAKING' if self.breaking else 'note'} {self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything published at one time. ``schemas`` by ``$id``."""

    schemas: Mapping[str, Json]
    asyncapi: Json
    openapi: Mapping[str, Json]
    webhooks: Json


def read_contract(folder: Path) -> Contract:
    """Of this version, or of a release, which has the same layout."""
    schemas = [_read(path) for path in sorted((folder / "json").glob("*.schema.json"))]
    return Contract(
        {schema["$id"]: schema for schema in schemas},
        _read(folder / "asyncapi.json"),
        {path.stem: _read(path) for path in sorted((folder / "openapi").glob("*.json"))},
        _read(folder / "webhooks.json"),
    )


def compare(old: Contract, new: Contract, *, may_retire: bool = False) -> list[Finding]:
    """What of ``new`` breaks, or is worth a look by, those who rely on ``old``."""
    return [
        *_compare_schemas(old.schemas, new.schemas, may_retire=may_retire),
        *_compare_asyncapi(old.asyncapi, new.asyncapi, may_retire=may_retire),
        *_compare_openapi(old.openapi, new.openapi, may_retire=may_retire),
        *_compare_routes(
            old.webhooks, new.webhooks, "webhooks", may_retire=may_retire, takes=Sent.BY_SERVICES, gives=Sent.BY_CLIENTS
        ),
    ]


def releases() -> dict[Version, Path]:
    """In order of their versions."""
    found = {parse_version(path.name.removeprefix("v")): path for path in RELEASED.glob("v*")}
    return dict(sorted(found.items()))


def parse_version(text: str) -> Version:
    """Raises ``ValueError`` when it is not three numbers."""
    major, minor, patch = (int(part) for part in text.split("."))
    return major, minor, patch


def project_version() -> str:
    version: str = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["version"]
    return version


def may_retire(last: Version, next_: Version) -> bool:
    """Whether whole parts may go: the number that stands for breaking changes (SemVer) has risen."""
    return next_[0] > last[0] or (next_[0] == last[0] == 0 and next_[1] > last[1])


def may_break(last: Version, next_: Version) -> bool:
    """Whether even a name may mean something else: before 1.0 nobody was promised anything beyond the minor version."""
    return last[0] == 0 and may_retire(last, next_)


def check() -> list[Finding]:
    """This version against the last release; nothing when there is none yet."""
    known = releases()
    if not known:
        return []
    last, folder = list(known.items())[-1]
    planned = parse_version(project_version())
    findings = compare(read_contract(folder), read_contract(PUBLISHED), may_retire=may_retire(last, planned))
    return [replace(each, breaking=False) for each in findings] if may_break(last, planned) else findings


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _breaking(where: str, what: str) -> Finding:
    return Finding(breaking=True, where=where, what=what)


def _note(where: str, what: str) -> Finding:
    return Finding(breaking=False, where=where, what=what)


def _judged(found: Iterable[Difference], sent: Sent, where: str) -> Iterator[Finding]:
    for each in found:
        place = f"{where} {each.where}".rstrip()
        if each.effect in sent.value:
            yield _breaking(place, each.what)
        elif each.effect is Effect.VALUE_ADDED and sent is not Sent.BY_CLIENTS:
            yield _note(place, f"{each.what}; readers of the last release do not know it")


def _gone(where: str, what: str, *, may_retire: bool) -> Finding:
    if may_retire:
        return _note(where, f"{what} is not published any more")
    return _breaking(where, f"{what} is not published any more; keep it beside its successor")


def _compare_schemas(old: Mapping[str, Json], new: Mapping[str, Json], *, may_retire: bool) -> Iterator[Finding]:
    for id_, before in old.items():
        name = id_.removeprefix("urn:ehcp:schema:")
        if id_ not in new:
            yield _gone(f"json {name}", "this schema", may_retire=may_retire)
            continue
        base = name.partition(":")[0]
        sent = Sent.BY_CLIENTS if base in SENT_BY_COUNCILS else Sent.BOTH_WAYS
        yield from _judged(differences(before, new[id_], before, new[id_]), sent, f"json {name}")


def _compare_asyncapi(old: Json, new: Json, *, may_retire: bool) -> Iterator[Finding]:
    for name, channel in old["channels"].items():
        where, now = f"asyncapi {name}", new["channels"].get(name)
        if now is None:
            yield _gone(where, "this topic", may_retire=may_retire)
            continue
        if now["address"] != channel["address"]:
            yield _breaking(where, f"the topic {channel['address']} is called {now['address']}")
        for type_ in channel["messages"]:
            if type_ not in now["messages"]:
                yield _gone(where, f"the event type {type_}", may_retire=may_retire)
                continue
            before, after = (document["components"]["messages"][type_] for document in (old, new))
            if before["contentType"] != after["contentType"]:
                yield _breaking(f"{where} {type_}", f"{before['contentType']} became {after['contentType']}")
            for part in ("headers", "payload"):
                found = differences(before[part], after[part], old, new)
                yield from _judged(found, Sent.BOTH_WAYS, f"{where} {type_} {part}")
    for name in sorted(old["operations"].keys() - new["operations"].keys()):
        yield _gone(f"asyncapi {name}", "this operation", may_retire=may_retire)


def _compare_openapi(old: Mapping[str, Json], new: Mapping[str, Json], *, may_retire: bool) -> Iterator[Finding]:
    for service, before in old.items():
        yield from _compare_routes(
            before, new.get(service, {}), f"openapi {service}", may_retire=may_retire,
            takes=Sent.BY_CLIENTS, gives=Sent.BY_SERVICES,
        )  # fmt: skip


def _compare_routes(old: Json, new: Json, where: str, *, may_retire: bool, takes: Sent, gives: Sent) -> Iterator[Finding]:
    """``takes``: who sends the requests; of webhooks that is the exchange, and the receivers answer."""
    after = _routes(new)
    for route, operation in _routes(old).items():
        place, now = f"{where} {route}", after.get(route)
        if now is None:
            yield _gone(place, "this route", may_retire=may_retire)
            continue
        if now.get("security") != operation.get("security"):
            yield _breaking(place, "who may call it, or how, has changed")
        if now.get("operationId") != operation.get("operationId"):
            yield _note(place, f"its operationId was {operation.get('operationId')}; generated clients call it by that")
        yield from _compare_parameters(operation, now, old, new, takes, place)
        yield from _compare_bodies(operation, now, old, new, takes, place)
        yield from _compare_answers(operation, now, old, new, gives, place)


def _routes(document: Json) -> dict[str, Json]:
    return {
        f"{method.upper()} {path}": operation
        for part in ("paths", "webhooks")
        for path, item in document.get(part, {}).items()
        for method, operation in item.items()
    }


def _compare_parameters(old: Json, new: Json, old_root: Json, new_root: Json, takes: Sent, where: str) -> Iterator[Finding]:
    before, after = _parameters(old, old_root), _parameters(new, new_root)
    for name, parameter in after.items():
        known = before.get(name)
        if takes is Sent.BY_CLIENTS and parameter.get("required") and not (known and known.get("required")):
            yield _breaking(where, f"the {name} must be sent now")
        if known:
            found = differences(known["schema"], parameter["schema"], old_root, new_root)
            yield from _judged(found, takes, f"{where} {name}")
    for name in sorted(before.keys() - after.keys()):
        gone = "is not taken any more" if takes is Sent.BY_CLIENTS else "is not sent any more"
        yield _breaking(where, f"the {name} {gone}")


def _parameters(operation: Json, root: Json) -> dict[str, Json]:
    found = [resolved(each, root) for each in operation.get("parameters", ())]
    return {f"{each['in']} parameter {each['name']}": each for each in found}


def _compare_bodies(old: Json, new: Json, old_root: Json, new_root: Json, takes: Sent, where: str) -> Iterator[Finding]:
    before, after = old.get("requestBody"), new.get("requestBody")
    if takes is Sent.BY_CLIENTS and after and after.get("required") and not (before and before.get("required")):
        yield _breaking(where, "a body must be sent now")
    if before:
        content = after["content"] if after else {}
        yield from _compare_content(before["content"], content, old_root, new_root, takes, f"{where} takes")


def _compare_answers(old: Json, new: Json, old_root: Json, new_root: Json, gives: Sent, where: str) -> Iterator[Finding]:
    """Of successes. A refusal is a problem document whatever its status; its reasons may come and go."""
    before, after = (
        {status: each for status, each in operation["responses"].items() if status.startswith("2")} for operation in (old, new)
    )
    for status, answer in before.items():
        if status not in after:
            yield _breaking(where, f"{status} is no answer any more")
            continue
        content = after[status].get("content", {})
        yield from _compare_content(answer.get("content", {}), content, old_root, new_root, gives, f"{where} {status}")
    if gives is Sent.BY_SERVICES:
        for status in sorted(after.keys() - before.keys()):
            yield _note(where, f"it may answer {status} now; clients of the last release do not know it")


def _compare_content(old: Json, new: Json, old_root: Json, new_root: Json, sent: Sent, where: str) -> Iterator[Finding]:
    for media_type, content in old.items():
        if media_type not in new:
            yield _breaking(where, f"{media_type} is gone")
            continue
        found = differences(content["schema"], new[media_type]["schema"], old_root, new_root)
        yield from _judged(found, sent, where)


def main(arguments: list[str]) -> int:
    if arguments:
        print("usage: python -m schemas.compatibility", file=sys.stderr)  # noqa: T201 - a command line
        return 2
    findings = check()
    for finding in findings:
        print(finding, file=sys.stderr)  # noqa: T201 - a command line
    if any(finding.breaking for finding in findings):
        print("Put the new major version beside the old one; see docs/contract.md.", file=sys.stderr)  # noqa: T201 - a command line
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
