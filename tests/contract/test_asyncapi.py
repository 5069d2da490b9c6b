"""The published AsyncAPI document: valid by AsyncAPI's own schema, complete, and true of what services really send."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from joserfc.jwk import OKPKey
from jsonschema import Draft7Validator, ValidationError

from schemas import asyncapi
from schemas.events import EventType
from schemas.receipts import HostedBy, Receipt, Status
from services.cli.machine.kafka_access import load_access
from services.shared.identity.receipts import signer
from services.shared.kafka import cloudevents

OFFICIAL = json.loads((Path(__file__).parent / "asyncapi_specs" / "asyncapi-3.0.0.json").read_text("utf-8"))
PUBLISHED: dict[str, Any] = json.loads(asyncapi.FILE.read_text("utf-8"))


def fits(schema: dict[str, Any], value: object) -> None:
    """``schema`` may refer to anything of the published document."""
    checker = Draft7Validator.FORMAT_CHECKER
    Draft7Validator({"allOf": [schema], "components": PUBLISHED["components"]}, format_checker=checker).validate(value)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def found(reference: str) -> Any:
    place: Any = PUBLISHED
    for part in reference.removeprefix("#/").split("/"):
        place = place[part.replace("~1", "/").replace("~0", "~")]
    return place


def test_it_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncapi.main(["--check"]) == 0
    monkeypatch.setattr(asyncapi, "FILE", tmp_path / "asyncapi.json")
    assert asyncapi.main(["--check"]) == 1
    assert "python -m schemas.asyncapi" in capsys.readouterr().err
    assert asyncapi.main([]) == 0
    assert asyncapi.main(["--check"]) == 0
    assert asyncapi.main(["--chekc"]) == 2


def test_it_is_valid_by_asyncapis_own_schema() -> None:
    Draft7Validator(OFFICIAL).validate(PUBLISHED)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["operations"]["audit.receive.receipts"].update(action="emit"),
        lambda document: document["channels"]["events"].update(adress="ehcp.events.v1"),
        lambda document: document["components"]["messages"]["ehcp.receipt.v1"].update(headers=1),
        lambda document: document["components"]["securitySchemes"]["scram"].update(type="scram"),
    ],
)
def test_that_schema_would_find_an_error(change: Any) -> None:
    broken = json.loads(asyncapi.FILE.read_text("utf-8"))
    change(broken)
    with pytest.raises(ValidationError):
        Draft7Validator(OFFICIAL).validate(broken)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(PUBLISHED):
        assert isinstance(found(reference), dict), reference


def test_every_event_type_has_one_message_on_one_topic() -> None:
    published = [name for channel in PUBLISHED["channels"].values() for name in channel["messages"]]
    missing = {type_.value for type_ in EventType} - set(published)
    assert not missing, f"give each a model in a topic of schemas/asyncapi.py: {sorted(missing)}"
    assert sorted(published) == sorted(type_.value for type_ in EventType)


def test_services_may_do_on_kafka_exactly_what_is_published() -> None:
    """The accounts of ``topics.yaml`` against the operations; a subscriber is ``subscriber``, its name the parameter."""
    configured = load_access().accounts
    of_accounts: set[tuple[str, str, str]] = set()
    for account, rights in configured.items():
        subscriber = (rights.group or "").removeprefix("ehcp.") if account.endswith("_subscriber") else None
        service = "subscriber" if subscriber else account
        for action, topics in (("send", rights.writes), ("receive", rights.reads)):
            for topic in topics:
                kind, name = topic.split(".")[1], topic.split(".")[2] if topic.count(".") == 3 else None
                assert subscriber in (None, name), f"{account} {action}s {topic}, which is another subscriber's"
                of_accounts.add((service, action, f"ehcp.{kind}.{{subscriber}}.v1" if name else topic))
    of_document = {
        (operation["tags"][0]["name"], operation["action"], found(operation["channel"]["$ref"])["address"])
        for operation in PUBLISHED["operations"].values()
    }
    assert of_accounts == {each for each in of_document if each[0] != "integration"}


@pytest.mark.parametrize("type_", EventType, ids=lambda type_: type_.value)
def test_headers_as_services_write_them_are_those_published(type_: EventType) -> None:
    message = PUBLISHED["components"]["messages"][type_.value]
    written = cloudevents.headers(
        type_, "/councils/332", datetime(2026, 2, 13, 9, 30, tzinfo=UTC), content_type=message["contentType"]
    )
    fits(message["headers"], written)
    for name in written:
        with pytest.raises(ValidationError):
            fits(message["headers"], {key: value for key, value in written.items() if key != name})


@pytest.mark.parametrize("type_", sorted(set(EventType) - asyncapi.SIGNED), ids=lambda type_: type_.value)
def test_every_message_has_an_example_that_fits(type_: EventType) -> None:
    message = PUBLISHED["components"]["messages"][type_.value]
    assert message["examples"]
    for example in message["examples"]:
        fits(message["payload"], example["payload"])
        fits(message["payload"], example["payload"] | {"of_a_later_minor_version": 1})
        with pytest.raises(ValidationError):
            fits(message["payload"], {})


def test_a_receipt_as_subscribers_sign_it_is_the_one_published() -> None:
    receipt = Receipt(
        number=1, subscriber="health", hosted_by=HostedBy.AGENCY, share_id=UUID(int=1), seq=1, status=Status.REFUSED,
        reason="nobody of this NHS number", at=datetime(2026, 2, 13, 9, 30, tzinfo=UTC),
    )  # fmt: skip
    token = signer(OKPKey.generate_key("Ed25519"))(receipt).decode()
    payload = PUBLISHED["components"]["messages"][EventType.RECEIPT]["payload"]
    fits(payload, token)
    body = token.split(".")[1]
    fits(payload["x-jws-payload"], json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def test_no_field_of_a_message_could_hold_a_childs_data() -> None:
    """Thin: what a schema has no field for, nobody sends by mistake."""
    named = {name for schema in PUBLISHED["components"]["schemas"].values() for name in schema.get("properties", {})}
    assert not named & {"family_name", "given_names", "date_of_birth", "nhs_number", "upn", "address", "text", "name", "email"}
