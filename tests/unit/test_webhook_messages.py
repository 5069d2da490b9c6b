"""What a webhook says, and what each answer to it means."""

import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook, WebhookVerificationError

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme
from schemas.manifest import sha256
from services.shared.record_systems.guarded_http import retry_after
from services.shared.record_systems.port import Filed, Held, Outcome, Recipient, Refused, Retry, Withdrawal, Withdrawn
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings
from services.shared.record_systems.webhook import build_webhook
from services.shared.record_systems.webhook_keys import keys_of, signed
from services.shared.record_systems.webhook_messages import (
    CONTENT_TYPE,
    Verdict,
    delivered,
    fault,
    filed,
    held,
    marked,
    withdrawn,
)
from tests.support.contents import content, pdf

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
OTHER = "whsec_" + base64.b64encode(b"b secret of thirty-two bytes ...").decode()
SHARE = UUID("019c5a10-7b1e-7c44-9d0e-000000000001")
PLAN = UUID("019c5a10-7b1e-7c44-9d0e-000000000002")
HASH = "ab" * 32
JSON = {"content-type": "application/json"}


def body(**answer: object) -> bytes:
    return json.dumps(answer).encode()


def judged(status: int, headers: dict[str, str] | None = None, answer: bytes = b"") -> Outcome:
    found = filed(status, headers or {}, answer, HASH, NOW)
    return found.outcome if isinstance(found, Verdict) else found


# --- messages


def test_a_delivery_is_a_cloud_event_that_the_sdk_reads() -> None:
    each = content(share_id=SHARE, seq=3, plan_id=PLAN, document=pdf("plan"), attachments=[("advice.pdf", pdf("advice"))])
    message = delivered(each)
    event = from_http_event(HTTPMessage({"content-type": CONTENT_TYPE}, message.body))
    assert message.id == event.get_id() == f"{SHARE}-3"
    assert event.get_type() == "ehcp.plan.delivered.v1"
    assert event.get_subject() == str(PLAN)
    data = json.loads(message.body)["data"]
    assert (data["share_id"], data["seq"], data["plan_id"]) == (str(SHARE), 3, str(PLAN))
    assert data["recipient"] == {
        "kind": "trust",
        "scheme": "ods",
        "value": "RNA",
        "name": "The Dudley Group NHS Foundation Trust",
    }
    assert data["child"] == {
        "family_name": "Hartley", "given_names": "Rowan James", "date_of_birth": "2014-05-06", "nhs_number": "9434765919",
        "address": [],
    }  # fmt: skip
    assert data["sections"]["G"]["items"][0]["provider"] == "The Dudley Group"
    assert data["sha256"] == each.sha256
    assert base64.b64decode(data["document"]["data"]) == pdf("plan")
    assert [file["name"] for file in data["attachments"]] == ["advice.pdf"]
    assert sha256(base64.b64decode(data["attachments"][0]["data"])) == data["attachments"][0]["sha256"]


def test_the_same_content_is_the_same_message_and_another_turn_is_another() -> None:
    each = content(share_id=SHARE, seq=3, plan_id=PLAN, version_id=PLAN)
    again = content(share_id=SHARE, seq=3, plan_id=PLAN, version_id=PLAN)
    assert delivered(each) == delivered(again)
    assert delivered(content(share_id=SHARE, seq=4, plan_id=PLAN)).id != delivered(each).id


def test_a_withdrawal_says_which_share_and_nothing_of_the_child() -> None:
    recipient = Recipient(RecipientKind.SOCIAL_CARE, CodeScheme.LA, "332", "")
    message = withdrawn(Withdrawal(SHARE, 5, PLAN, recipient))
    assert message.id == f"{SHARE}-5"
    event = json.loads(message.body)
    assert event["type"] == "ehcp.plan.withdrawn.v1"
    assert event["data"] == {
        "share_id": str(SHARE), "seq": 5, "plan_id": str(PLAN),
        "recipient": {"kind": "social_care", "scheme": "la", "value": "332"},
    }  # fmt: skip


def test_a_signature_is_one_that_standard_webhooks_verifies() -> None:
    message = delivered(content())
    headers = signed(message.id, message.body.decode(), keys_of(SECRET), datetime.now(UTC))
    Webhook(SECRET).verify(message.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(message.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(message.body.replace(b"trains", b"planes"), headers)
    old = signed(message.id, message.body.decode(), keys_of(SECRET), datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(message.body, old)


def test_while_a_secret_is_changed_both_verify() -> None:
    headers = signed("id", "{}", keys_of(f"{OTHER} {SECRET}"), datetime.now(UTC))
    for secret in (SECRET, OTHER):
        Webhook(secret).verify("{}", headers)


@pytest.mark.parametrize(
    "secret", ["", "  ", "password", "whsec_", "whsec_c2hvcnQ=", "whsec_***", SECRET.removeprefix("whsec_")]
)
def test_a_secret_that_is_no_key_is_refused_at_the_start(secret: str) -> None:
    entry = SystemSettings(name="care", kind="webhook", recipients="*", url="https://case.example.gov.uk/", secret=secret)
    with pytest.raises(RecordSystemsFileError, match=r"^care: .*secret"):
        build_webhook(entry)


@pytest.mark.parametrize("url", [None, "http://case.example.gov.uk/", "https://127.0.0.1/hook"])
def test_an_endpoint_at_a_wrong_address_is_refused_at_the_start(url: str | None) -> None:
    entry = SystemSettings(name="care", kind="webhook", recipients="*", url=url, secret=SECRET)
    with pytest.raises(RecordSystemsFileError, match=r"^care: "):
        build_webhook(entry)


# --- answers


def test_filed_is_only_what_is_proved_by_the_hash() -> None:
    assert judged(200, JSON, body(record="SC-1", sha256=HASH)) == Filed("SC-1", HASH)
    assert judged(201, {"content-type": "application/json; charset=utf-8"}, body(record="SC-1", sha256=HASH)) == Filed(
        "SC-1", HASH
    )
    assert judged(200, JSON, body(record="SC-1", sha256="cd" * 32)) == Retry(
        "the hash of what the endpoint stored is not the hash of what was sent"
    )


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, b""),
        (JSON, b""),
        (JSON, b"ok"),
        (JSON, b"[]"),
        (JSON, b'{"record": "SC-1"'),
        (JSON, b"\xff\xfe"),
        (JSON, b"[" * 100_000),
        (JSON, body()),
        (JSON, body(record="SC-1")),
        (JSON, body(sha256=HASH)),
        (JSON, body(record="", sha256=HASH)),
        (JSON, body(record=7, sha256=HASH)),
        (JSON, body(record="x" * 201, sha256=HASH)),
        (JSON, body(record="a\nb", sha256=HASH)),
        (JSON, body(record="SC-1", sha256=None)),
        ({"content-type": "text/html"}, b"<html>Service unavailable</html>"),
        ({"content-type": "text/html"}, body(record="SC-1", sha256=HASH)),
    ],
)
def test_an_answer_of_success_without_proof_is_tried_again(headers: dict[str, str], answer: bytes) -> None:
    assert isinstance(judged(200, headers, answer), Retry)
    assert isinstance(judged(202, headers, answer), Retry)


def test_filed_as_history_is_not_filed() -> None:
    assert isinstance(judged(200, JSON, body(record="SC-1", sha256=HASH, current=False)), Refused)


@pytest.mark.parametrize("status", [400, 409, 410, 413, 415, 422, 451])
def test_what_would_meet_the_same_for_ever_is_refused(status: int) -> None:
    assert isinstance(judged(status), Refused)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 407, 408, 421, 423, 425, 429, 499])
@pytest.mark.parametrize("server", [False, True])
def test_what_may_heal_is_tried_again(status: int, *, server: bool) -> None:
    assert isinstance(judged(status + 200 if server and status < 400 else status), Retry)


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 599, 100, 101, 199, 600, 999])
def test_a_server_that_fails_is_tried_again(status: int) -> None:
    assert isinstance(judged(status), Retry)


def test_only_what_is_about_the_endpoint_ends_the_batch() -> None:
    assert {status for status in range(300, 600) if fault(status, {}, NOW).for_all} == {*range(300, 400), 410, 429, 503}


def test_what_the_server_said_is_never_repeated() -> None:
    for status in range(300, 600):
        outcome = fault(status, {"location": "https://x/?name=Hartley", "x": "Hartley"}, NOW).outcome
        assert "Hartley" not in outcome.reason


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("999999999", 86_400.0),
        ("Fri, 20 Nov 2026 09:31:00 GMT", 60.0),
        ("Fri, 20 Nov 2026 09:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2099 09:00:00 GMT", 86_400.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_a_number_or_a_date_and_at_most_a_day(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds
    assert judged(429, {"retry-after": value}) == Retry("the endpoint asked to be sent less (429)", seconds)


def test_a_withdrawal_is_marked_only_with_a_record() -> None:
    assert marked(200, JSON, body(record="SC-1"), NOW) == Withdrawn("SC-1")
    assert marked(200, JSON, body(record=""), NOW) == Withdrawn("")
    for answer in (b"", body(), body(record=None)):
        assert isinstance(marked(200, JSON, answer, NOW), Verdict)
    gone = marked(410, {}, b"", NOW)
    assert isinstance(gone, Verdict)
    assert isinstance(gone.outcome, Refused)


def test_holdings_are_read_or_not_known() -> None:
    row = {"plan_id": str(PLAN), "version_id": str(SHARE), "sha256": HASH, "record": "SC-1", "withdrawn": False}
    assert held(JSON, body(holdings=[row])) == {PLAN: Held(SHARE, HASH, "SC-1")}
    assert held(JSON, body(holdings=[])) == {}
    for answer in (
        b"",
        b"{}",
        b"[]",
        body(holdings=None),
        body(holdings=[{}]),
        body(holdings=["x"]),
        body(holdings=[row | {"plan_id": 1}]),
    ):
        assert held(JSON, answer) is None
    assert held({}, body(holdings=[])) is None
