"""PDFs for the sample plans, as a council's case system or a word processor would have made them.

Tagged (PDF/UA-1), with Typst's own fonts and the date of issue as the only date, so that the same plan gives the same
bytes on every machine. This is sample data: what the exchange itself renders has a template of its own.
"""

import json
from typing import Any

import typst

JSON = dict[str, Any]

_PAGE = """
#let data = json(bytes(sys.inputs.data))
#set document(title: data.title, author: data.author, date: none)
#set page(paper: "a4", margin: (x: 22mm, top: 24mm, bottom: 22mm),
  footer: context [#set text(8pt)
    #data.footer #h(1fr) Page #counter(page).display() of #counter(page).final().first()])
#set text(font: "Libertinus Serif", size: 10.5pt, lang: "en", region: "GB")
#set par(justify: false, leading: 0.62em, spacing: 0.95em)
#set table(stroke: 0.4pt + luma(120), inset: 5pt)
#show heading.where(level: 1): set text(18pt)
#show heading.where(level: 2): it => block(above: 1.5em, below: 0.8em, fill: luma(232), inset: 6pt, width: 100%, it)
"""

_PLAN = (
    _PAGE
    + """
#text(13pt, weight: "bold", data.author)
#v(2mm)
#heading(level: 1, data.title)
#text(9pt, style: "italic")[Made under section 37 of the Children and Families Act 2014. Synthetic: no real child.]
#v(3mm)
#table(columns: (42mm, 1fr), ..data.details.flatten())
#for section in data.sections [
  #heading(level: 2, section.title)
  #for part in section.paragraphs [#par(part)]
  #if section.rows.len() > 0 {
    table(columns: section.columns.map(c => (Ref: 12mm, Meets: 17mm, What: 2fr).at(c, default: 1fr)),
      table.header(..section.columns.map(c => strong(c))), ..section.rows.flatten())
  }
]
#v(8mm)
Signed on behalf of the local authority: #h(4mm) _#data.signed _ #h(1fr) Date: #data.issued
"""
)

_ADVICE = (
    _PAGE
    + """
#text(11pt, weight: "bold", data.service)
#v(2mm)
#heading(level: 1, data.title)
#table(columns: (42mm, 1fr), ..data.details.flatten())
#v(3mm)
#for part in data.body [#par(part)]
#v(6mm)
#data.author \\
#data.dated
"""
)

_TITLES = {
    "A": "Section A: views, interests and aspirations",
    "B": "Section B: special educational needs",
    "C": "Section C: health needs related to special educational needs",
    "D": "Section D: social care needs related to special educational needs",
    "E": "Section E: outcomes",
    "F": "Section F: special educational provision",
    "G": "Section G: health provision",
    "H1": "Section H1: social care provision under section 2 of the Chronically Sick and Disabled Persons Act 1970",
    "H2": "Section H2: other social care provision",
    "I": "Section I: placement",
    "J": "Section J: personal budget and direct payments",
    "K": "Section K: advice and information",
}

_COUNCILS = {"332": "Dudley Metropolitan Borough Council", "333": "Sandwell Metropolitan Borough Council"}
_SIGNED = {"332": "R. Pargeter, SEND Team Manager", "333": "T. Ekwueme, Head of SEND"}


def _compile(source: str, data: JSON) -> bytes:
    made = typst.compile(
        source.encode(),
        format="pdf",
        ignore_system_fonts=True,
        pdf_standards=["ua-1"],
        sys_inputs={"data": json.dumps(data)},
    )
    assert isinstance(made, bytes)
    return made


def _written(day: str) -> str:
    """``2026-02-13`` as ``13/02/2026``."""
    return "/".join(reversed(day.split("-")))


def _section(letter: str, section: JSON) -> JSON:
    items = section.get("items", [])
    linked = any("serves" in item for item in items)
    provided = any("provider" in item for item in items)
    columns = ["Ref", "What"] + (["Meets"] if linked else []) + (["Who", "How often"] if provided else [])
    rows = [
        [item["ref"], item["text"]]
        + ([", ".join(item.get("serves", []))] if linked else [])
        + ([item.get("provider", ""), item.get("frequency", "")] if provided else [])
        for item in items
    ]
    paragraphs = section.get("text", "").split("\n\n") if section.get("text") else []
    return {"title": _TITLES[letter], "paragraphs": paragraphs, "columns": columns, "rows": rows}


def plan_pdf(submission: JSON, sections: JSON) -> bytes:
    """A whole plan as one document, for a version that has no separate sections."""
    child, version, la_code = submission["child"], submission["version"], submission["la_code"]
    details = [
        ["Name", f"{child['given_names']} {child['family_name']}"],
        ["Date of birth", _written(child["date_of_birth"])],
        ["NHS number", child.get("nhs_number", "not known")],
        ["Unique pupil number", child.get("upn", "not known")],
        ["Home address", ", ".join([*child["address"], child["postcode"]])],
        ["Family", "; ".join(f"{m['name']} ({m['role'].replace('_', ' ')})" for m in version["family"])],
        ["Case reference", submission["case_reference"]],
        ["Date of this plan", _written(version["issued_on"])],
    ]
    return _compile(
        _PLAN,
        {
            "title": "Education, Health and Care Plan",
            "author": _COUNCILS[la_code],
            "footer": f"EHC plan {submission['case_reference']}, {_written(version['issued_on'])}. Confidential.",
            "details": details,
            "sections": [_section(letter, section) for letter, section in sections.items()],
            "signed": _SIGNED[la_code],
            "issued": _written(version["issued_on"]),
        },
    )


def advice_pdf(submission: JSON, attachment: JSON) -> bytes:
    """One report of section K."""
    child = submission["child"]
    dated = attachment["dated"].isoformat()
    return _compile(
        _ADVICE,
        {
            "title": attachment["title"],
            "author": attachment["author"],
            "service": attachment["service"],
            "dated": _written(dated),
            "footer": f"{submission['case_reference']}, {attachment['title']}. Confidential. Synthetic.",
            "details": [
                ["Name", f"{child['given_names']} {child['family_name']}"],
                ["Date of birth", _written(child["date_of_birth"])],
                ["NHS number", child.get("nhs_number", "not known")],
            ],
            "body": [part.strip() for part in attachment["body"].splitlines() if part.strip()],
        },
    )
