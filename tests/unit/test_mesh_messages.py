"""What a MESH message says and what a receipt means, without MESH."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.health_subscriber import mesh_messages
from services.health_subscriber.mesh_messages import (
    About,
    Mailboxes,
    Proof,
    Receipt,
    Said,
    UnreadableReceiptError,
    message_id,
    parts_of,
    proof_of,
    proofs_of,
    read_receipt,
)
from services.shared.record_systems.port import Recall, Withdrawal
from tests.support.contents import RNA, content, invitation, pdf

ONE, TWO = "1" * 64, "2" * 64


def a_receipt(**more: Any) -> dict[str, Any]:
    header = {
        "resourceType": "MessageHeader",
        "eventCoding": {"system": "urn:ehcp:message-event", "code": "receipt", "display": "A receipt"},
        "response": {"identifier": "0e1f0a8e-0000-5000-8000-000000000001", "code": "ok"},
    }
    return {"resourceType": "Bundle", "type": "message", "entry": [{"resource": header | more}, {"resource": filed(ONE)}]}


def filed(*proofs: str, **more: Any) -> dict[str, Any]:
    attachments = [{"attachment": {"extension": [{"url": "urn:ehcp:sha256", "valueString": each}]}} for each in proofs]
    return {"resourceType": "DocumentReference", "id": "42", "content": attachments} | more


def test_a_message_belongs_to_one_wish() -> None:
    plan = content(document=pdf("plan"))
    same = Withdrawal(plan.share_id, plan.seq, plan.plan_id, RNA), Recall(plan.share_id, plan.seq, plan.plan_id, RNA, ())
    ids = {
        message_id(plan, About.CONTENT),
        message_id(content(share_id=plan.share_id, seq=2), About.CONTENT),
        message_id(content(seq=1), About.CONTENT),
        message_id(same[0], About.WITHDRAWAL),
        message_id(same[1], About.RECALL),
    }
    assert len(ids) == 5
    assert message_id(plan, About.CONTENT) == message_id(content(share_id=plan.share_id), About.CONTENT)


def test_the_same_message_has_the_same_bytes() -> None:
    plan = content(document=pdf("plan"), attachments=[("a.pdf", pdf("a"))])
    boxes = Mailboxes("OURS", "THEIRS")
    first, second = (mesh_messages.delivered(plan, parts_of(plan), boxes) for _ in range(2))
    assert first == second


def test_a_notice_without_a_file_is_proved_by_its_text() -> None:
    told = content(notice=invitation())
    assert parts_of(told) == ()
    assert len(proofs_of(told, ())) == 1


def test_a_receipt_is_read() -> None:
    body = a_receipt()
    body["entry"].append({"resource": filed(TWO, id="43")})
    assert read_receipt(json.dumps(body).encode()) == Receipt(
        UUID("0e1f0a8e-0000-5000-8000-000000000001"), Said.OK, "DocumentReference/42", (ONE, TWO), ""
    )


def test_of_what_went_wrong_the_code_is_kept_and_no_word() -> None:
    body = a_receipt(response={"identifier": str(uuid4()), "code": "fatal-error"})
    issue = {"severity": "fatal", "code": "not-found", "diagnostics": "Rowan Hartley is not known"}
    body["entry"][1] = {"resource": {"resourceType": "OperationOutcome", "issue": [issue]}}
    receipt = read_receipt(json.dumps(body).encode())
    assert (receipt.said, receipt.issue, receipt.record) == (Said.NEVER, "not-found", "")
    assert "Rowan" not in repr(receipt)


@pytest.mark.parametrize(
    ("said", "record", "proofs", "expected"),
    [
        (Said.OK, "DocumentReference/1", (ONE, TWO), Proof("DocumentReference/1")),
        (Said.OK, "", (ONE, TWO), Proof("", "the receiver's receipt lacks the record's id or the hash of a file")),
        (
            Said.OK,
            "DocumentReference/1",
            (ONE,),
            Proof("", "the receiver's receipt lacks the record's id or the hash of a file"),
        ),
        (
            Said.OK,
            "DocumentReference/1",
            (ONE, ONE),
            Proof("", "the hash of what the receiver filed is not the hash of what was sent"),
        ),
        (Said.LATER, "", (), Proof("", "the receiver could not file it yet")),
        (Said.NEVER, "", (), Proof("", "the receiver refused it", final=True)),
    ],
)
def test_filed_is_believed_on_proof_of_every_file(said: Said, record: str, proofs: tuple[str, ...], expected: Proof) -> None:
    receipt = Receipt(uuid4(), said, record, proofs, "")
    assert proof_of(receipt, About.CONTENT, [ONE, TWO]) == expected


def test_a_recall_needs_no_hash() -> None:
    assert proof_of(Receipt(uuid4(), Said.OK, "", (), ""), About.RECALL, []).reason is None


BROKEN: dict[str, Any] = {
    "of another event": a_receipt(eventCoding={"system": "urn:ehcp:message-event", "code": "plan-version"}),
    "no answer": a_receipt(response=None),
    "an answer to nothing": a_receipt(response={"identifier": "no id", "code": "ok"}),
    "an unknown code": a_receipt(response={"identifier": str(uuid4()), "code": "perhaps"}),
    "no bundle": a_receipt()["entry"][0]["resource"],
    "a hash of another length": a_receipt() | {"entry": [a_receipt()["entry"][0], {"resource": filed("abc")}]},
    "a hash that is a number": a_receipt() | {"entry": [a_receipt()["entry"][0], {"resource": filed(1)}]},  # type: ignore[arg-type]
    "entries that are none": a_receipt() | {"entry": {"a": 1}},
    "no entry": a_receipt() | {"entry": []},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_receipt_is_said_to_be_none(name: str) -> None:
    with pytest.raises(UnreadableReceiptError):
        read_receipt(json.dumps(BROKEN[name]).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["entry", "type", "resourceType"]), JSON)
def test_whatever_stands_in_a_receipt_it_is_read_or_refused(where: str, what: Any) -> None:
    with pytest.raises(UnreadableReceiptError):
        read_receipt(json.dumps(a_receipt() | {where: what}).encode())


@given(st.sampled_from(["eventCoding", "response"]), JSON)
def test_nor_does_a_broken_header_break_the_reader(where: str, what: Any) -> None:
    with pytest.raises(UnreadableReceiptError):
        read_receipt(json.dumps(a_receipt(**{where: what})).encode())


@given(JSON)
def test_nor_does_a_broken_entry(what: Any) -> None:
    body = a_receipt()
    body["entry"][1] = {"resource": {"resourceType": "DocumentReference", "id": what, "content": what, "payload": what}}
    try:
        receipt = read_receipt(json.dumps(body).encode())
    except UnreadableReceiptError:
        return
    assert receipt.proofs == ()


@given(st.binary(max_size=200))
def test_nor_do_bytes(body: bytes) -> None:
    with pytest.raises(UnreadableReceiptError):
        read_receipt(body)
