"""Audit's judgement of one record: what is a receipt, what satisfies, and what becomes a dead letter with which reason."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from joserfc.jwk import OKPKey

from schemas.base import Channel
from schemas.heartbeats import Heartbeat as Told
from schemas.receipts import HostedBy, Receipt, Status
from services.audit.receipts import DeadLetter, Former, Heartbeat, Judged, Share, Signed, Subscriber, judge, read
from services.shared.identity.receipts import signer
from services.shared.kafka.consume import Record

KEY, OTHER_KEY = OKPKey.generate_key("Ed25519"), OKPKey.generate_key("Ed25519")
HEALTH = Subscriber("health", HostedBy.AGENCY, KEY)
SCHOOL = Subscriber("school", HostedBy.AGENCY, OTHER_KEY)
SUBSCRIBERS = {each.topic: each for each in (HEALTH, SCHOOL)}
VERSION, OLD_VERSION = uuid4(), uuid4()
SHARE = Share(uuid4(), "332", uuid4(), "health", Channel.FHIR, 3, action="hold", version_id=VERSION, sha256="ab" * 32)
TYPE = ("ce_type", b"ehcp.receipt.v1")


def filed(**changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "number": 1, "subscriber": "health", "hosted_by": HostedBy.AGENCY, "share_id": SHARE.share_id, "seq": 3,
        "status": Status.FILED, "version_id": VERSION, "sha256": "ab" * 32, "record": "DocumentReference/1",
        "at": datetime(2026, 11, 2, 9, 30, tzinfo=UTC),
    }  # fmt: skip
    return Receipt(**(values | changes))


def record_of(
    receipt: Receipt, *, key: OKPKey = KEY, topic: str = HEALTH.topic, record_key: UUID | None = None,
    headers: tuple[tuple[str, bytes], ...] = (TYPE,),
) -> Record:  # fmt: skip
    return Record(topic, 0, 7, str(record_key or receipt.share_id).encode(), signer(key)(receipt), headers)


def judged(receipt: Receipt, share: Share | None = SHARE) -> Judged | DeadLetter:
    reading = read(record_of(receipt), SUBSCRIBERS)
    assert isinstance(reading, Signed)
    judgement = judge(reading, share)
    assert not isinstance(judgement, Former)
    return judgement


def refusal(record: Record) -> str:
    reading = read(record, SUBSCRIBERS)
    assert isinstance(reading, DeadLetter)
    assert reading.record is record
    return reading.reason


def test_a_receipt_of_its_own_subscriber_is_read() -> None:
    reading = read(record_of(filed()), SUBSCRIBERS)
    assert isinstance(reading, Signed)
    assert reading.receipt == filed()


def test_a_heartbeat_says_who_is_alive() -> None:
    beat = Told(subscriber="health", at=datetime(2026, 11, 2, 9, tzinfo=UTC), waiting=3)
    record = Record(HEALTH.topic, 0, 1, b"health", signer(KEY)(beat), (("ce_type", b"ehcp.heartbeat.v1"),))
    assert read(record, SUBSCRIBERS) == Heartbeat("health", beat)
    assert refusal(replace(record, value=b"anything")) == "not a compact JWS"


def test_forged_signature() -> None:
    assert refusal(record_of(filed(), key=OTHER_KEY)) == "the signature is not this subscriber's"


def test_changed_after_signing() -> None:
    record = record_of(filed())
    header, payload, signature = record.value.split(b".")
    changed = replace(record, value=b".".join([header, payload[:-8] + b"AAAAAAAA", signature]))
    assert refusal(changed) == "the signature is not this subscriber's"


def test_on_anothers_topic_although_signed_by_that_subscriber() -> None:
    record = record_of(filed(subscriber="health"), key=OTHER_KEY, topic=SCHOOL.topic)
    assert refusal(record) == "the receipt names another subscriber than its topic"


def test_topic_of_no_subscriber() -> None:
    assert refusal(record_of(filed(), topic="ehcp.receipts.gp.v1")) == "no subscriber in the directory has this topic"


def test_subscriber_without_a_usable_key() -> None:
    keyless = {HEALTH.topic: replace(HEALTH, key=None)}
    reading = read(record_of(filed()), keyless)
    assert isinstance(reading, DeadLetter)
    assert reading.reason == "the directory holds no usable key of this subscriber"


@pytest.mark.parametrize(
    "value", [b"", b"\xff\xfe garbage \x00", b"{}", b"a.b.c", b"..", b"e30.e30.e30", b"." * 5000, b"null.null.null"]
)
def test_garbage_bytes_are_a_dead_letter_and_never_an_exception(value: bytes) -> None:
    record = Record(HEALTH.topic, 0, 7, b"k", value, (TYPE,))
    assert isinstance(read(record, SUBSCRIBERS), DeadLetter)


@pytest.mark.parametrize("payload", [b"[]", b"null", b'"text"', b"{}", b"1e999", b"\xff", b'{"number": 1'])
def test_signed_but_not_a_receipt(payload: bytes) -> None:
    record = replace(record_of(filed()), value=signed_bytes(payload))
    assert isinstance(read(record, SUBSCRIBERS), DeadLetter)


def signed_bytes(payload: bytes) -> bytes:
    """A compact JWS of any payload, really signed by health's key."""
    import base64

    def encode(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = encode(b'{"alg":"Ed25519"}') + b"." + encode(payload)
    private: Any = KEY.private_key
    return signed + b"." + encode(private.sign(signed))


@pytest.mark.parametrize(
    "changes",
    [
        {"at": "0001-01-01T00:00:00+14:00"},
        {"next_try_at": "9999-12-31T23:59:59-14:00"},
        {"record": "Document\u0000Reference"},
        {"reason": "no\u0000reason"},
        {"number": 2**63},
        {"number": 0},
        {"seq": 2**60},
        {"status": "kept"},
        {"record": None},
    ],
)
def test_what_no_database_could_hold_or_no_receipt_says_is_a_dead_letter(changes: dict[str, Any]) -> None:
    payload = orjson.dumps(filed().model_dump(mode="json") | changes)
    record = replace(record_of(filed()), value=signed_bytes(payload))
    assert isinstance(read(record, SUBSCRIBERS), DeadLetter)


def test_lone_surrogate_is_a_dead_letter() -> None:
    payload = orjson.dumps(filed().model_dump(mode="json")).replace(b"DocumentReference/1", b"\\ud800")
    record = replace(record_of(filed()), value=signed_bytes(payload))
    assert isinstance(read(record, SUBSCRIBERS), DeadLetter)


@pytest.mark.parametrize("header", [("x-note", b"\xff\xfe"), ("x-\ufffd", b"name was no UTF-8")])
def test_header_that_is_not_utf8(header: tuple[str, bytes]) -> None:
    assert refusal(record_of(filed(), headers=(TYPE, header))) == "a header is not UTF-8"


@pytest.mark.parametrize("headers", [(), (("ce_type", b"ehcp.share.requested.v1"),), (("ce_type", b""),)])
def test_header_that_names_no_receipt(headers: tuple[tuple[str, bytes], ...]) -> None:
    assert "ce_type" in refusal(record_of(filed(), headers=headers))


def test_key_of_another_share() -> None:
    assert refusal(record_of(filed(), record_key=uuid4())) == "the record's key is not the receipt's share"


def test_unknown_share() -> None:
    outcome = judged(filed(), None)
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason == "the council has no such share"


@pytest.mark.parametrize("owner", ["school", None])
def test_another_subscribers_share(owner: str | None) -> None:
    outcome = judged(filed(), replace(SHARE, subscriber=owner))
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason == "the share belongs to another subscriber"


@pytest.mark.parametrize(
    ("channel", "status", "enough"),
    [
        (Channel.FHIR, Status.FILED, True),
        (Channel.FHIR, Status.COLLECTED, False),
        (Channel.WEBHOOK, Status.FILED, True),
        (Channel.WEBHOOK, Status.SENT, False),
        (Channel.INBOX, Status.SENT, False),
        (Channel.INBOX, Status.OPENED, True),
        (Channel.MANUAL, Status.SENT, True),
        (Channel.MANUAL, Status.WAITING, False),
        (Channel.FHIR, Status.FAILED, False),
        (Channel.FHIR, Status.REFUSED, False),
        (Channel.FHIR, Status.SUPERSEDED, False),
        (Channel.FHIR, Status.CONFLICT, False),
        (Channel.FHIR, Status.WITHDRAWN, False),
    ],
)
def test_strong_enough_for_the_channel(channel: Channel, status: Status, enough: bool) -> None:
    outcome = judged(filed(status=status, reason="why"), replace(SHARE, channel=channel))
    assert isinstance(outcome, Judged)
    assert outcome.satisfies is enough


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha256": "cd" * 32}, "another version or rendering"),
        ({"version_id": OLD_VERSION}, "another version or rendering"),
        ({"seq": 4}, "an instruction that the council has not given"),
        ({"status": Status.WITHDRAWN}, "should hold the plan"),
    ],
)
def test_a_genuine_receipt_that_contradicts_the_wish_is_kept_and_satisfies_nothing(
    changes: dict[str, Any], reason: str
) -> None:
    outcome = judged(filed(**changes))
    assert isinstance(outcome, Judged)
    assert not outcome.satisfies
    assert reason in (outcome.reason or "")


@pytest.mark.parametrize("status", [Status.FILED, Status.WITHDRAWN, Status.FAILED, Status.SUPERSEDED])
def test_whatever_is_said_of_an_instruction_that_was_not_given_is_a_conflict(status: Status) -> None:
    """It must still be one when the restored council comes to that seq itself: what was judged is not judged again."""
    outcome = judged(filed(seq=SHARE.seq + 1, status=status, reason="why"))
    assert isinstance(outcome, Judged)
    assert (outcome.status, outcome.receipt.status) == (Status.CONFLICT, status)
    outcome = judged(filed(seq=SHARE.seq, status=status, reason="why"))
    assert isinstance(outcome, Judged)
    assert outcome.status is status


@pytest.mark.parametrize("seq", [SHARE.seq, SHARE.seq - 1])
def test_what_says_that_something_recalled_remains_satisfies_nothing_however_late_it_comes(seq: int) -> None:
    """A satisfied wish for another version proves the removal too: a late receipt must not prove what it denies."""
    outcome = judged(filed(seq=seq, remaining=[OLD_VERSION]))
    assert isinstance(outcome, Judged)
    assert (outcome.satisfies, outcome.reason) == (False, "what was recalled is not proved to be gone yet")


def test_the_older_instruction_was_satisfied_with_its_own_version() -> None:
    outcome = judged(filed(seq=2, version_id=OLD_VERSION, sha256="cd" * 32))
    assert isinstance(outcome, Judged)
    assert outcome.satisfies


@pytest.mark.parametrize(("status", "enough"), [(Status.WITHDRAWN, True), (Status.FILED, False)])
def test_only_withdrawn_answers_a_withdrawal(status: Status, enough: bool) -> None:
    outcome = judged(filed(status=status), replace(SHARE, action="withdraw"))
    assert isinstance(outcome, Judged)
    assert outcome.satisfies is enough


def test_a_seq_that_no_backup_explains_is_refused() -> None:
    """The publisher wants again above what a receipt names: from the highest number there is it could not go on."""
    far = judged(filed(seq=2**53 - 1))
    assert isinstance(far, DeadLetter)
    assert far.reason == "the receipt's seq is farther ahead than any backup explains"
    assert isinstance(judged(filed(seq=SHARE.seq + 1000)), Judged)


@pytest.mark.parametrize(("status", "satisfied"), [("recalled", True), ("withdrawn", False), ("released", False)])
def test_only_proof_of_removal_answers_a_recall(status: str, satisfied: bool) -> None:
    outcome = judged(filed(status=status), replace(SHARE, action="recall"))
    assert isinstance(outcome, Judged)
    assert (outcome.satisfies, outcome.reason) == (
        satisfied, None if satisfied else "the share is recalled, which this does not answer"
    )  # fmt: skip
