"""The published description of webhooks: valid by OpenAPI's own schema, and true of what is sent and what is taken."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from jsonschema import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas import webhooks
from schemas.documents import Rendering
from schemas.events import EventType
from schemas.webhooks import Holding, Holdings, Marked, Removed, Stored, WebhookType
from services.shared.record_systems import webhook_messages as messages
from services.shared.record_systems.port import Filed, Recall, Withdrawal, Withdrawn
from services.shared.record_systems.port import Removed as RemovedOutcome
from services.shared.record_systems.webhook_keys import keys_of, signed
from tests.support.contents import RNA, content, invitation, pdf
from tests.support.openapi import Documented

PUBLISHED: dict[str, Any] = json.loads(webhooks.FILE.read_text("utf-8"))
DOCUMENTED = Documented(PUBLISHED)
NOW = datetime(2026, 2, 13, 9, 30, tzinfo=UTC)
JSON = {"content-type": "application/json"}


def sent(type_: WebhookType) -> list[messages.Message]:
    """Messages of this type as subscribers send them."""
    share_id, plan_id, version_id = uuid4(), uuid4(), uuid4()
    match type_:
        case WebhookType.PLAN_DELIVERED:
            files = content(document=pdf("plan"), attachments=[("advice.pdf", pdf("advice"))], replaces=version_id)
            return [messages.delivered(content()), messages.delivered(files)]
        case WebhookType.NOTICE_DELIVERED:
            return [messages.delivered(content(notice=invitation()))]
        case WebhookType.AVAILABLE:
            url = "https://subscriber.test/v1/webhooks/cases"
            return [messages.available(content(), url), messages.available(content(notice=invitation()), url)]
        case WebhookType.PLAN_WITHDRAWN:
            return [messages.withdrawn(Withdrawal(share_id, 2, plan_id, RNA))]
        case WebhookType.RECALL_REQUESTED:
            return [messages.recalled(Recall(share_id, 2, plan_id, RNA, (version_id,)))]


def test_it_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert webhooks.main(["--check"]) == 0
    monkeypatch.setattr(webhooks, "FILE", tmp_path / "webhooks.json")
    assert webhooks.main(["--check"]) == 1
    assert "python -m schemas.webhooks" in capsys.readouterr().err
    assert webhooks.main([]) == 0
    assert webhooks.main(["--check"]) == 0
    assert webhooks.main(["--chekc"]) == 2


def test_it_is_valid_by_openapis_own_schema() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(PUBLISHED).iter_errors()] == []


def test_no_name_means_one_thing_on_kafka_and_another_in_a_webhook() -> None:
    assert not {each.value for each in WebhookType} & {each.value for each in EventType}


@pytest.mark.parametrize("type_", WebhookType, ids=lambda type_: type_.value)
def test_what_is_sent_is_what_is_published(type_: WebhookType) -> None:
    body = PUBLISHED["webhooks"][type_.value]["post"]["requestBody"]["content"][messages.CONTENT_TYPE]["schema"]
    for message in sent(type_):
        event = json.loads(message.body)
        DOCUMENTED.fits(body, event)
        for name in event:
            with pytest.raises(ValidationError):
                DOCUMENTED.fits(body, {key: value for key, value in event.items() if key != name})


def test_the_headers_that_are_sent_are_those_published() -> None:
    headers = signed("id", "body", keys_of("whsec_" + "A" * 32), NOW)
    assert headers.keys() == PUBLISHED["components"]["parameters"].keys()


def test_the_answers_that_are_published_are_taken() -> None:
    stored = Stored(record="doc/1", sha256="a" * 64)
    assert messages.filed(200, JSON, stored.model_dump_json().encode(), "a" * 64, NOW) == Filed("doc/1", "a" * 64)
    assert messages.marked(200, JSON, Marked(record="").model_dump_json().encode(), NOW) == Withdrawn("")
    held = Holding(plan_id=UUID(int=1), version_id=UUID(int=2), sha256="a" * 64, record="doc/1")
    assert messages.held(JSON, Holdings(holdings=(held,)).model_dump_json().encode()) is not None
    now = datetime.now(UTC)
    keys = keys_of("whsec_" + "A" * 32)
    statement = Removed(removed=(UUID(int=2),), record="doc/1").model_dump_json()
    headers = JSON | signed("statement", statement, keys, now)
    assert isinstance(messages.removed(200, headers, statement.encode(), [UUID(int=2)], keys, now), RemovedOutcome)


def test_a_receiver_gets_what_the_council_gave() -> None:
    """Nothing of a rendering is lost on the way; the names are the same, so that one description serves both."""
    delivered = PUBLISHED["components"]["schemas"]["NoticeDelivered"]["properties"].keys()
    assert Rendering.model_fields.keys() <= delivered
