"""The guard over texts by hand and over every sample plan: each breach is found, and no plan is held for nothing."""

from collections.abc import Iterable
from datetime import date
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from deploy.sandbox.make_plans import HERE
from schemas.guard import Finding, FindingKind
from schemas.plan import Child, PlanSubmission, PlanVersion, Section, SectionLetter
from schemas.policy import Unread
from services.ehcp_publisher import guard, identities
from services.ehcp_publisher.documents import Received, receive_attachment, receive_document
from services.ehcp_publisher.file_reader import read_through
from services.ehcp_publisher.file_texts import FileText, text_of
from services.ehcp_publisher.guard import Asked, Known
from services.ehcp_publisher.keys import ChildKeys
from services.ehcp_publisher.rendering import render
from services.shared.sealing.sealing import Key
from tests.support.files import pdf_of, word_of

ON = date(2026, 11, 2)
KEYS = ChildKeys(Key(bytes(32)), {})
AMIRA = Child(
    family_name="Khan", given_names="Amira Leila", date_of_birth=date(2014, 3, 3), nhs_number="9434765919",
    upn="P207000016049",
)  # fmt: skip
OLIVER = Child(
    family_name="Smith-Jones", given_names="Oliver", preferred_name="Ollie", date_of_birth=date(2012, 9, 14),
    nhs_number="9434765870", upn="T332999925001",
)  # fmt: skip


def everyone(children: Iterable[Child]) -> Known:
    nhs, upns = set(), set()
    names: dict[int, dict[int, UUID]] = {}
    for child in children:
        nhs.add(KEYS.lookup("nhs", child.nhs_number))
        upns.add(KEYS.lookup("upn", child.upn))
        child_id = uuid4()
        for name_key, born_key in guard.names_of(identities.identity(child), KEYS):
            names.setdefault(name_key, {})[born_key] = child_id
    return Known(frozenset(each for each in nhs if each), frozenset(each for each in upns if each), names)


def in_this_process(file: Received, child: Child, on: date) -> FileText:
    own = identities.identity(child)
    return text_of(read_through(file.media_type, file.name, file.data, on, sorted(own.given | own.family)))


def judged(
    child: Child, known: Known, version: PlanVersion | None = None, document: bytes | None = None,
    *attachments: tuple[str, bytes], may_leave: frozenset[Unread] = frozenset(), on: date = ON,
) -> tuple[Finding, ...]:  # fmt: skip
    files = [receive_document("plan.pdf", document)] if document else []
    files += [receive_attachment(name, data) for name, data in attachments]
    texts = [in_this_process(file, child, on) for file in files]
    found = guard.pieces_of_sections(guard.sections_of(version), on) if version else []
    found += guard.pieces_of_files(files, texts, document=document is not None)
    own, asked = identities.identity(child), Asked()
    guard.ask(found, own, KEYS, asked)
    # What is not asked after is not found: as in the database.
    names = {key: each for key, each in known.names.items() if key in asked.names}
    return guard.judge(
        found, own, Known(known.nhs_numbers & asked.nhs_numbers, known.upns & asked.upns, names), KEYS, may_leave
    )


def section(text: str) -> PlanVersion:
    return PlanVersion(issued_on=ON, sections={SectionLetter.B: Section(text=text)})


BOTH = everyone([AMIRA, OLIVER])
OTHERS = [
    ("Oliver's number is 943 476 5870.", FindingKind.OTHER_NHS_NUMBER),
    ("NHS No: 943-476-\n5870", FindingKind.OTHER_NHS_NUMBER),
    ("UPN T332999925001", FindingKind.OTHER_UPN),
    ("Oliver Smith-Jones (14/09/2012)", FindingKind.OTHER_NAME),
    ("SMITH JONES Ollie, born on 14th September 2012", FindingKind.OTHER_NAME),
    ("Name: Smith-Jones Oliver\nDate of birth: 2012-09-14", FindingKind.OTHER_NAME),
]
OF_NOBODY_ELSE = [
    "Amira Khan, born 3 March 2014, NHS 943 476 5919, UPN P207000016049.",
    "Her father's NHS number is 999 000 0018.",  # a parent is no child of the exchange
    "Oliver Smith-Jones sits beside her.",
    "Oliver Smith-Jones was born in 2012.",
    "The meeting of 14 September 2012 was held. Dr Smith and Mr Jones attended.",
    "She is twelve.",
]


@pytest.mark.parametrize(("text", "kind"), OTHERS)
def test_another_child_in_a_section_or_a_file(text: str, kind: FindingKind) -> None:
    assert [(each.kind, each.where) for each in judged(AMIRA, BOTH, section(text))] == [(kind, "section B")]
    (found,) = judged(AMIRA, BOTH, None, pdf_of("Amira Khan", "", text))
    assert (found.kind, found.where, found.pages) == (kind, "document", (3,))
    attached = judged(AMIRA, BOTH, None, None, ("advice.docx", word_of("For Amira", footnotes=text)))
    assert [(each.kind, each.where) for each in attached] == [(kind, "attachment 1")]
    assert judged(OLIVER, BOTH, section(text)) == ()


@pytest.mark.parametrize("text", OF_NOBODY_ELSE)
def test_what_names_no_other_child(text: str) -> None:
    assert judged(AMIRA, BOTH, section(text)) == ()
    assert judged(AMIRA, BOTH, None, pdf_of(f"Plan of Amira Khan\n{text}")) == ()


def test_two_children_of_one_name_are_told_apart_by_the_day_of_birth() -> None:
    other = AMIRA.model_copy(update={"date_of_birth": date(2015, 5, 6), "nhs_number": None, "upn": None})
    known = everyone([AMIRA, other])
    assert judged(AMIRA, known, None, pdf_of("Amira Khan, born 3 March 2014")) == ()
    assert [each.kind for each in judged(AMIRA, known, None, pdf_of("Amira Khan, born 6 May 2015"))] == [FindingKind.OTHER_NAME]


def test_a_twin_is_another_child() -> None:
    twin = AMIRA.model_copy(update={"given_names": "Adam", "nhs_number": None, "upn": None})
    text = "Amira Khan (3 March 2014) has a twin brother, Adam Khan."
    assert [each.kind for each in judged(AMIRA, everyone([AMIRA, twin]), None, pdf_of(text))] == [FindingKind.OTHER_NAME]


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("Education, Health and Care Plan", True), ("Plan of Tomas Novak, born 3 March 2014", True),
        ("Amira's plan, short", True),
        ("Mr Khan's plan for his daughter", True), ("Miss A. KHAN, known as Amira", False),
        ("Number 943 476 5919 alone", False),
        ("Pupil P207000016049 of the school", False), ("Plan of KHAN\nAMIRA", False), ("Plan of Amira Leilakhan", False),
    ],
)  # fmt: skip
def test_a_document_must_say_whose_it_is(text: str, held: bool) -> None:
    found = judged(AMIRA, BOTH, None, pdf_of(text))
    assert [each.kind for each in found] == ([FindingKind.NOTHING_OF_CHILD] if held else [])


def test_an_attachment_may_call_the_child_by_its_given_name() -> None:
    assert judged(AMIRA, BOTH, None, None, ("a.docx", word_of("My name is Amira and I like trains."))) == ()
    found = judged(AMIRA, BOTH, None, None, ("a.docx", word_of("My name is Tomas and I like trains.")))
    assert [each.kind for each in found] == [FindingKind.NOTHING_OF_CHILD]


def test_a_files_name_and_its_title_leave_too() -> None:
    named = judged(AMIRA, BOTH, None, None, ("943 476 5870.docx", word_of("For Amira, with what is known.")))
    assert [each.kind for each in named] == [FindingKind.OTHER_NHS_NUMBER]
    titled = judged(AMIRA, BOTH, None, pdf_of("Plan of Amira Khan", title="T332999925001"))
    assert [each.kind for each in titled] == [FindingKind.OTHER_UPN]


def test_scans_and_pictures_hold_unless_the_policy_lets_them_leave() -> None:
    png = bytes.fromhex("89504e470d0a1a0a") + b"\0" * 40 + b"IEND\xae\x42\x60\x82"
    found = judged(AMIRA, BOTH, None, pdf_of(""), ("drawing.png", png))
    assert [(each.kind, each.where, each.waived) for each in found] == [
        (FindingKind.SCAN, "document", False), (FindingKind.PICTURE, "attachment 1", False),
    ]  # fmt: skip
    assert guard.holds(found)
    pictures = judged(AMIRA, BOTH, None, pdf_of(""), ("drawing.png", png), may_leave=frozenset({Unread.PICTURES}))
    assert [each.waived for each in pictures] == [False, True]
    both = judged(AMIRA, BOTH, None, pdf_of(""), ("drawing.png", png), may_leave=frozenset(Unread))
    assert not guard.holds(both)


# --- the sample plans ---


@cache
def samples() -> list[tuple[Path, PlanSubmission]]:
    return [(path, PlanSubmission.model_validate_json(path.read_bytes())) for path in sorted(HERE.glob("plans/*/*/v*.json"))]


def test_no_sample_plan_is_held_and_all_are_once_they_are_mixed_up() -> None:
    children = {each.case_reference: each.child for _, each in samples()}
    known = everyone(children.values())
    for path, each in samples():
        pdf = path.with_suffix(".pdf")
        document = pdf.read_bytes() if pdf.exists() else None
        assert judged(each.child, known, each.version, document, on=each.version.issued_on) == (), path
        if document:
            other = next(child for child in children.values() if child.family_name != each.child.family_name)
            wrong = {found.kind for found in judged(other, known, None, document, on=each.version.issued_on)}
            assert {FindingKind.OTHER_NHS_NUMBER, FindingKind.OTHER_NAME, FindingKind.NOTHING_OF_CHILD} <= wrong


def test_what_is_typeset_here_names_its_child() -> None:
    known = everyone({each.case_reference: each.child for _, each in samples()}.values())
    for _, each in samples()[::9]:
        if each.version.sections:
            pdf = render(each.child, "Dudley", each.case_reference, each.version)
            assert judged(each.child, known, None, pdf, on=each.version.issued_on) == ()


def test_the_words_of_findings_say_where_and_never_whose() -> None:
    found = Finding(kind=FindingKind.OTHER_NAME, where="attachment 2", pages=(3, 4), count=34)
    assert str(found) == "the names and dates of birth of 34 other children (attachment 2, page 3, 4)"
    assert str(Finding(kind=FindingKind.SCAN, where="document")) == "pages without text, which cannot be read (document)"
