"""A rendered plan says everything that its sections say, to eyes and to screen readers, and nothing in it is markup."""

import asyncio
import io
import json
import re
import subprocess
import sys
import unicodedata
from datetime import date
from typing import Any

import pytest
import typst
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from schemas.identifiers import Organisation
from schemas.plan import Child, FamilyMember, FamilyRole, Involved, Item, Placement, PlanVersion, Role, Section, SectionLetter
from services.ehcp_publisher import rendering
from services.ehcp_publisher.layout import TITLES
from services.ehcp_publisher.printable import printable, shown
from services.ehcp_publisher.rendering import FAMILIES, FONTS, Renderer, render

L = SectionLetter
COUNCIL = "Dudley Metropolitan Borough Council"
CHILD = Child(
    family_name="Wójcik-Llŷn",
    given_names="Zofia Ŵenllian",
    preferred_name="Zosia",
    date_of_birth=date(2014, 5, 9),
    nhs_number="9434765919",
    upn="P207000016049",
    address=("14 Example Street", "Dudley"),
    postcode="DY1 9ZZ",
)
SECTIONS = {
    L.A: Section(text="Zosia told us: “I like drawing dragons.”\n\nHer mother hopes:\n- that she keeps her friends"),
    L.B: Section(
        text="Zosia has a developmental language disorder.",
        items=(
            Item(ref="B1", text="She understands instructions of two steps."),
            Item(ref="B2", text="She reads slowly and with effort."),
        ),
    ),
    L.C: Section(items=(Item(ref="C1", text="Epilepsy with absence seizures."),)),
    L.D: Section(text="No social care needs were identified."),
    L.E: Section(items=(Item(ref="E1", text="Zosia follows three-step instructions by Year 8.", serves=("B1", "C1")),)),
    L.F: Section(
        items=(
            Item(
                ref="F1",
                text="Direct speech and language therapy.",
                serves=("E1",),
                provider="Speech and language therapist",
                frequency="12 sessions of 45 minutes a year",
            ),
        )
    ),
    L.G: Section(items=(Item(ref="G1", text="Epilepsy nurse trains the staff.", serves=("E1",)),)),
    L.H1: Section(text="Short breaks, two evenings a month."),
    L.H2: Section(text="A support worker at the youth club."),
    L.I: Section(text="A mainstream secondary school."),
    L.J: Section(text="A direct payment pays for F1."),
    L.K: Section(text="Each report is appended."),
}
PLACEMENTS = (
    Placement(
        setting=Organisation.model_validate({"scheme": "urn", "value": "103876"}),
        name="St Example’s Primary School",
        from_=date(2025, 9, 1),
        until=date(2026, 7, 21),
    ),
    Placement(setting_type="Mainstream secondary school", from_=date(2026, 9, 1)),
)
INVOLVED = (
    Involved(role=Role.ADVICE, name="Dr Amina Yusuf", profession="Paediatrician", advice_dated=date(2025, 12, 4)),
    Involved(role=Role.PROVISION, name="Somebody Else"),
)


def version(sections: dict[L, Section] | None = None, **more: Any) -> PlanVersion:
    return PlanVersion(
        issued_on=date(2026, 3, 3),
        **{"sections": SECTIONS if sections is None else sections, "placements": PLACEMENTS, "involved": INVOLVED} | more,
    )


def of(sections: dict[L, Section], **more: Any) -> bytes:
    return render(CHILD, COUNCIL, "EHC/2025/0417", version(sections, **more))


def words(text: str) -> str:
    """Text composed, without spaces and the places where a long word may break: these differ between page and source."""
    return re.sub(r"[\s\u00ad\u200b]+", "", unicodedata.normalize("NFC", text))


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]


def root_of(pdf: bytes) -> Any:
    return PdfReader(io.BytesIO(pdf)).trailer["/Root"]


def said(pdf: bytes) -> str:
    return words("".join(pages(pdf)))


@pytest.fixture(scope="module")
def plan() -> bytes:
    return render(CHILD, COUNCIL, "EHC/2025/0417", version(views_recorded_on=date(2026, 1, 12)))


def test_every_section_is_there_with_its_title_and_all_its_text(plan: bytes) -> None:
    everything = said(plan)
    for letter, section in SECTIONS.items():
        assert words(f"Section {letter}: {TITLES[letter][0]}") in everything
        assert words(section.text) in everything
        for item in section.items:
            for text in (item.ref, item.text, item.provider or "", item.frequency or ""):
                assert words(text) in everything


def test_the_cover_says_whose_plan_it_is_and_when_it_was_issued(plan: bytes) -> None:
    cover = words(pages(plan)[0])
    for text in ("Zofia Ŵenllian Wójcik-Llŷn", "known as Zosia", "9 May 2014", COUNCIL, "3 March 2026", "EHC/2025/0417",
                 "St Example’s Primary School (from 1 September 2025 until 21 July 2026)",
                 "Mainstream secondary school (from 1 September 2026)", "Views recorded on 12 January 2026"):  # fmt: skip
        assert words(text) in cover


def test_placements_and_advice_are_listed(plan: bytes) -> None:
    everything = said(plan)
    for text in ("URN 103876", "21 July 2026", "Dr Amina Yusuf", "Paediatrician", "4 December 2025"):
        assert words(text) in everything
    assert words("Somebody Else") not in everything  # provision, not advice


def test_every_page_says_whose_it_is_and_which_one_it_is(plan: bytes) -> None:
    every = pages(plan)
    for number, page in enumerate(every, start=1):
        assert words(f"Page {number} of {len(every)}") in words(page)
        assert words("Wójcik-Llŷn") in words(page)


def test_needs_outcomes_and_provision_are_linked(plan: bytes) -> None:
    assert words("B1 She understands instructions of two steps. E1 F1, G1") in said(plan)
    assert words("B2 She reads slowly and with effort. none none") in said(plan)
    targets = [note for page in PdfReader(io.BytesIO(plan)).pages for note in page.get("/Annots") or []]
    assert len(targets) > len(SECTIONS)  # the contents, and the references within the tables


def test_no_address_no_number_of_the_child_and_no_family_member_is_printed() -> None:
    family = (
        FamilyMember(
            reference="P1", role=FamilyRole.PARENT, name="Marta Wójcik", email="marta@example.org", address=("2 Hidden Lane",)
        ),
    )
    everything = said(of(SECTIONS, family=family))
    for secret in ("14 Example Street", "DY1 9ZZ", "9434765919", "P207000016049", "Marta", "marta@example.org", "Hidden Lane"):
        assert words(secret) not in everything


def test_it_is_tagged_titled_and_in_english(plan: bytes) -> None:
    reader = PdfReader(io.BytesIO(plan))
    root = root_of(plan)
    assert root["/MarkInfo"]["/Marked"] == True  # noqa: E712 - a PDF object, not a bool
    assert "/StructTreeRoot" in root
    assert root["/Lang"] == "en-GB"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"] == True  # noqa: E712
    assert reader.metadata is not None
    assert reader.metadata.title == "Education, Health and Care plan: Zofia Ŵenllian Wójcik-Llŷn"
    assert reader.metadata.author == COUNCIL
    assert b"pdfuaid:part" in root["/Metadata"].get_data()
    roles = {element["/S"] for element in _elements(root["/StructTreeRoot"])}
    assert {"/Title", "/H1", "/P", "/Table", "/TH", "/TD", "/Link", "/TOC"} <= roles


def _elements(node: Any) -> list[Any]:
    children = node.get("/K", [])
    inner: list[Any] = []
    for child in children if isinstance(children, list) else [children]:
        child = child.get_object()
        if isinstance(child, dict) and "/S" in child:
            inner += [child, *_elements(child)]
    return inner


def test_equal_input_gives_equal_bytes(plan: bytes) -> None:
    assert render(CHILD, COUNCIL, "EHC/2025/0417", version(views_recorded_on=date(2026, 1, 12))) == plan


def test_another_process_in_another_place_gives_the_same_bytes() -> None:
    code = "import hashlib\nfrom tests.unit.test_rendering import SECTIONS, of\nprint(hashlib.sha256(of(SECTIONS)).hexdigest())"
    environment = [{"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    given = [
        subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
        for env in environment
    ]
    assert given[0] == given[1]
    assert len(given[0].strip()) == 64


@pytest.mark.parametrize(
    "text",
    [
        '#eval("1 + 1")',
        '#panic("x")',
        '#read("/etc/passwd")',
        "$ x^2 $ *bold* _it_ `code` @ref <label> \\u{41} -- --- ... ~ 'a' \"b\"",
        "<b>html</b> &amp; <script>alert(1)</script> {{7*7}} ${7*7} %s {0}",
        "[link](http://example.org) https://example.org/a?b=c&d=e",
        '")] }) ]] --> */ //',
    ],
)
def test_markup_of_any_kind_is_printed_as_it_is(text: str) -> None:
    item = Item(ref='#x"]', text=text, serves=('#x"]', "<B1>"), provider=text, frequency=text)
    everything = said(of({letter: Section(text=text, items=(item,)) for letter in (L.A, L.B, L.E, L.F, L.K)}))
    assert everything.count(words(text)) >= 5 * 4


def test_what_looks_like_markup_at_the_start_of_a_line_stays_a_line() -> None:
    text = "= not a heading\n+ not a number\n- not a list\n/ not: a term\n// not a comment"
    pdf = of({L.A: Section(text=text)})
    assert words(text) in said(pdf)
    assert len([e for e in _elements(root_of(pdf)["/StructTreeRoot"]) if e["/S"] == "/L"]) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "Llŷn, Ŵyn, tŷ",
        "Zażółć gęślą jaźń",
        "Ștefan și țara",
        "Nguyễn Hằng",
        "Привіт",
        "½ £ € ≥ ✓ ☐ → ° “’”",
        "Ærøskøbing İstanbul",
    ],
)
def test_letters_and_signs_of_many_languages_are_shown(text: str) -> None:
    assert words(text) in said(of({L.A: Section(text=text)}))


@pytest.mark.parametrize(
    "text", ["أُحِبُّ الرَّسْمَ", "مجھے ڈرائنگ پسند ہے", "ਮੈਨੂੰ ਤਸਵੀਰਾਂ ਪਸੰਦ ਹਨ", "মা বলেছেন", "ગુજરાતી", "हिन्दी", "שלום"]
)
def test_scripts_of_the_council_s_families_are_shown_and_not_replaced(text: str) -> None:
    everything = said(of({L.A: Section(text=text)}))
    assert "U+" not in everything  # how these letters come out of a PDF again depends on the reader


def test_what_no_font_can_show_is_printed_as_its_number_and_said_so() -> None:
    everything = said(of({L.A: Section(text="happy 😀\x01 中文 end")}))
    assert "happy[U+1F600U+0001][U+4E2DU+6587]end" in everything
    assert words("printed as its Unicode number") in everything


def test_a_change_of_direction_cannot_make_a_text_read_otherwise() -> None:
    assert printable("pays \u202e0001\u202c pounds") == "pays [U+202E]0001[U+202C] pounds"


@given(st.text(min_size=1, max_size=60).filter(lambda text: text.replace("\0", "").strip()))
@settings(max_examples=80, deadline=None)
def test_no_text_stops_a_plan(text: str) -> None:
    section = Section(text=text.replace("\0", ""), items=(Item(ref="A1", text=text.replace("\0", "")),))
    assert of({L.A: section}, placements=(), involved=()).startswith(b"%PDF-")


def test_marks_that_no_font_can_put_on_a_letter_are_printed_as_numbers() -> None:
    section = Section(text="a Hebrew point on an Arabic letter: ب\u0591 \u0a4d")
    assert of({L.A: section}).startswith(b"%PDF-")


def test_the_table_of_what_can_be_shown_is_true() -> None:
    """Typst itself is asked for every character, as plain and as bold text; a new release may bring other fonts."""
    source = b"""#set document(title: "x")
#set text(lang: "en", font: json(bytes(sys.inputs.families)))
#for c in json(bytes(sys.inputs.characters)) [#c #strong(c) \\ ]"""
    inputs = {"families": json.dumps(FAMILIES), "characters": json.dumps(shown())}
    compiler = typst.Compiler(font_paths=typst.Fonts(include_system_fonts=False, font_paths=[str(FONTS)]))
    assert compiler.compile(source, format="pdf", pdf_standards=["ua-1"], sys_inputs=inputs)


def test_the_longest_plan_loses_nothing() -> None:
    long = " ".join(f"word{number}" for number in range(20_000))
    rows = tuple(Item(ref=f"F{number}", text=f"provision {number}.", serves=("E1",)) for number in range(1_000))
    pdf = of({L.A: Section(text=long), L.F: Section(items=(*rows[:999], Item(ref="F-long", text=long[:150_000])))})
    everything = "".join(pages(pdf))
    assert {f"word{number}" for number in range(20_000)} <= set(re.findall(r"word\d+", everything))
    assert {f"provision {number}." for number in range(999)} <= set(re.findall(r"provision \d+\.", everything))


def test_a_copy_of_some_sections_holds_those_and_says_so() -> None:
    pdf = render(CHILD, COUNCIL, "EHC/1", version(views_recorded_on=date(2026, 1, 12)), frozenset({L.B, L.F}))
    everything = said(pdf)
    assert words("This copy holds sections B and F only.") in everything
    assert words("Direct speech and language therapy.") in everything
    for left_out in ("Section A", "dragons", "St Example", "Dr Amina Yusuf", "G1", "Epilepsy", "12 January 2026", "Setting"):
        assert words(left_out) not in everything


def test_a_section_that_the_version_lacks_is_named_as_empty() -> None:
    everything = said(of({L.A: Section(text="Only this.")}, placements=(), involved=()))
    for letter in L:
        assert words(f"Section {letter}: {TITLES[letter][0]}") in everything
    assert everything.count(words("Nothing is recorded in this section.")) == len(L) - 1


def test_a_version_that_is_a_document_alone_is_not_rendered() -> None:
    with pytest.raises(ValueError, match="document alone"):
        render(CHILD, COUNCIL, "EHC/1", PlanVersion(issued_on=date(2026, 3, 3)))


def test_what_typst_says_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "lay_out", lambda *_, **__: {"title": "Zosia likes dragons"})
    with pytest.raises(rendering.RenderingError) as refused:
        of(SECTIONS)
    assert "dragons" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.asyncio
async def test_the_renderer_gives_the_same_document_beside_the_event_loop(plan: bytes) -> None:
    renderer = Renderer(workers=2)
    made = version(views_recorded_on=date(2026, 1, 12))
    try:
        results = await asyncio.gather(*(renderer.render(CHILD, COUNCIL, "EHC/2025/0417", made) for _ in range(6)))
    finally:
        renderer.close()
    assert set(results) == {plan}
