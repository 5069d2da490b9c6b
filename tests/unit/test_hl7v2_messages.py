"""What an HL7 v2 message says and what an acknowledgement means, without a network."""

import datetime as dt
from uuid import UUID, uuid4

import hl7  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.health_subscriber.hl7v2_messages import (
    Answer,
    Availability,
    Message,
    Names,
    UnreadableAnswerError,
    document,
    meaning,
    number,
    parts_of,
    read_answer,
    status_change,
)
from services.shared.record_systems.port import Collected, Refused, Retry
from tests.support.contents import child, content, pdf

NOW = dt.datetime(2026, 11, 22, 5, 30, 7, tzinfo=dt.UTC)
SHARE = UUID("0e1f0a8e-0000-5000-8000-000000000001")


def test_a_number_is_of_one_share_and_one_turn() -> None:
    numbers = [number(share, seq) for share in (SHARE, uuid4(), uuid4()) for seq in range(1, 50)]
    assert len(set(numbers)) == len(numbers)
    assert {len(each) for each in numbers} == {20}
    assert number(SHARE, 1) == number(SHARE, 1)


@given(st.text(min_size=1), st.text().filter(lambda text: len(text.split()) > 0))
def test_no_name_breaks_a_message(family: str, given_names: str) -> None:
    whose = child().model_copy(update={"family_name": family, "given_names": given_names})
    plan = content(whose=whose, document=pdf("plan"))

    body = document(plan, parts_of(plan), Names(), replaces_seq=None, now=NOW).body

    assert not {0x0B, 0x1C} & set(body)
    segments = [line.split("|")[0] for line in body.decode(errors="surrogatepass").split("\r")]
    assert segments == ["MSH", "EVN", "PID", "PV1", "TXA", "OBX", ""]
    pid = next(line for line in body.decode(errors="surrogatepass").split("\r") if line.startswith("PID")).split("|")
    assert len(pid) == 8
    assert pid[5].count("^") == len(given_names.split(maxsplit=1))


def test_a_header_says_what_it_is_in_the_version_that_was_agreed() -> None:
    plan = content(document=pdf("plan"))
    names = Names(receiving_application="TIE", receiving_facility="RNA", processing_id="T")
    header = document(plan, parts_of(plan), names, replaces_seq=None, now=NOW).body.decode().split("\r")[0]
    control_id = number(plan.share_id, 1)
    assert header == (
        f"MSH|^~\\&|EHCP|EHCP|TIE|RNA|20261122053007+0000||MDM^T02^MDM_T02|{control_id}|T|2.4|||||GBR|UNICODE UTF-8"
    )


def test_a_status_change_has_a_control_id_of_its_own_and_names_no_child() -> None:
    changes = [
        status_change(SHARE, 3, uuid4(), held, availability, Names(), NOW)
        for held in (1, 2)
        for availability in (Availability.OBSOLETE, Availability.CANCELLED)
    ]
    assert len({each.control_id for each in changes} | {number(SHARE, seq) for seq in (1, 2, 3)}) == 7
    assert [each.document for each in changes] == [number(SHARE, 1)] * 2 + [number(SHARE, 2)] * 2


# --- acknowledgements

BRINGS = Message("A1", b"", "DOCUMENT", brings=True)
MARKS = Message("A1", b"", "DOCUMENT", brings=False)


@pytest.mark.parametrize(
    ("code", "error", "of_document", "of_mark"),
    [
        ("AA", "", Collected, Collected),
        ("CA", "", Collected, Collected),
        ("AE", "", Retry, Retry),
        ("AE", "207", Retry, Retry),
        ("AE", "206", Retry, Retry),
        ("AE", "101", Refused, Refused),
        ("AE", "204", Refused, Collected),
        ("AE", "205", Collected, Refused),
        ("CE", "", Retry, Retry),
        ("AR", "", Refused, Refused),
        ("AR", "200", Refused, Refused),
        ("AR", "206", Retry, Retry),
        ("AR", "204", Refused, Collected),
        ("AR", "205", Collected, Refused),
        ("CR", "", Refused, Refused),
        ("", "", Retry, Retry),
        ("OK", "", Retry, Retry),
    ],
)
def test_what_an_answer_means(code: str, error: str, of_document: type, of_mark: type) -> None:
    answer = Answer("A1", code, error)
    assert type(meaning(answer, BRINGS)) is of_document
    assert type(meaning(answer, MARKS)) is of_mark


@pytest.mark.parametrize(
    ("segment", "error"),
    [
        ("ERR|^^^207&Application internal error&HL70357&&Rowan Hartley", "207"),
        ("ERR|PID^1^3^204&Unknown&HL70357", "204"),
        ("ERR||PID^1|101^Required field missing^HL70357|E|||Rowan Hartley", "101"),
        ("ERR||PID^1|102|E", "102"),
        ("ERR|^^^999&Whatever&HL70357", ""),
        ("ERR", ""),
        ("ERR|Rowan Hartley", ""),
    ],
)
def test_the_code_of_an_error_is_found_as_2_4_and_2_5_have_it(segment: str, error: str) -> None:
    answer = read_answer(f"MSH|^~\\&|TIE|RNA|||2026||ACK|1|P|2.4\rMSA|AE|A1|Rowan Hartley\r{segment}\r".encode())
    assert answer == Answer("A1", "AE", error)
    outcome = meaning(answer, BRINGS)
    assert isinstance(outcome, Retry | Refused)
    assert "Rowan" not in outcome.reason


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_an_answer_whose_lines_end_otherwise_is_read(ending: str) -> None:
    text = ending.join(["MSH|^~\\&|TIE|RNA|||2026||ACK|1|P|2.4", "MSA|AA|A1", ""])
    assert read_answer(text.encode()) == Answer("A1", "AA")


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(block: bytes) -> None:
    with pytest.raises(UnreadableAnswerError):
        read_answer(block)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_nor_does_what_follows_a_header(rest: str) -> None:
    block = f"MSH|^~\\&|TIE|RNA|||2026||ACK|1|P|2.4\rMSA{rest}".encode()
    try:
        answer = read_answer(block)
    except UnreadableAnswerError:
        return
    assert isinstance(meaning(answer, BRINGS), Collected | Retry | Refused)


def test_the_library_reads_what_is_written() -> None:
    plan = content(whose=child(family_name="O^Neill|&~\\"), document=pdf("plan"))
    message = hl7.parse(document(plan, parts_of(plan), Names(), replaces_seq=1, now=NOW).body.decode())
    assert message["PID.F5.R1.C1"] == "O^Neill|&~\\"
    assert str(message.segment("TXA")[13]) == f"{number(plan.share_id, 1)}^EHCP"
