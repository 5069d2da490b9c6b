"""A notice in a clinical record: an R4 Communication, linked to the plan's document (docs/adr/0015-notices-in-fhir.md).

Pure, as :mod:`services.health_subscriber.filing` is for plans, with the same identifiers and the same answers: a notice is
filed once, stands for itself and replaces nothing. Its files lie beside it as Binaries, named by its payload.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import uuid5

from schemas.notices import Notice, NoticeKind
from services.health_subscriber import mapping
from services.health_subscriber.filing import MAX_ENTRIES, AsWanted, Document, Stop, Write, of_plan, others_of_plan
from services.health_subscriber.mapping import Part, Resource
from services.shared.record_systems.port import Content

TITLES = {
    NoticeKind.REVIEW_INVITATION: "Invitation to the review of an Education, Health and Care plan",
    NoticeKind.REVIEW_REPORT: "Report of the review of an Education, Health and Care plan",
    NoticeKind.REVIEW_DECISION: "Decision after the review of an Education, Health and Care plan",
    NoticeKind.CEASE_NOTICE: "Decision to cease an Education, Health and Care plan",
}


def parts(content: Content) -> tuple[Part, ...]:
    """Its files, if it has any."""
    key = mapping.document_key(content)
    files = [content.document, *content.attachments] if content.document else list(content.attachments)
    return tuple(
        Part(number, len(files), uuid5(key, f"{number} {file.sha256}"), file.name, file.media_type, file.data)
        for number, file in enumerate(files, 1)
    )


def text(notice: Notice) -> str:
    """What a clinician reads: the council's own sentences, and the facts that are dates."""
    facts = (
        ("Meeting", notice.meeting_on),
        ("The plan ceases", notice.ceases_on),
        ("The family may appeal until", notice.appeal_until),
    )
    lines = [f"{what}: {mapping.day_in_words(day)}" for what, day in facts if day]
    return "\n".join([notice.text, *lines])


def communication(
    content: Content, notice: Notice, patient: str, about: Resource, urls: Iterable[str], now: datetime
) -> Resource:
    """``about`` refers to the plan; ``urls`` say where each of its files is, in order."""
    council, title = mapping.council_of(content), TITLES[notice.kind]
    attached = [
        {
            "contentAttachment": {
                "contentType": part.media_type,
                "language": "en-GB",
                "url": url,
                "size": len(part.data),
                "hash": mapping.sha1_base64(part.data),
                "title": part.title,
                "creation": content.issued_on.isoformat(),
            }
        }
        for part, url in zip(parts(content), urls, strict=True)
    ]
    return {
        "resourceType": "Communication",
        "identifier": [
            {"system": mapping.DOCUMENT, "value": str(mapping.document_key(content))},
            {"system": mapping.SHARE, "value": str(content.share_id)},
            mapping.instruction(content.share_id, content.seq),
            {"system": mapping.PLAN, "value": str(content.plan_id)},
            {"system": mapping.VERSION, "value": str(content.version_id)},
            {"system": mapping.RENDERING, "value": content.sha256},
            {"system": mapping.RECIPIENT, "value": str(content.recipient)},
            {"system": f"urn:ehcp:case-reference:{content.council.la_code}", "value": content.case_reference},
        ],
        "status": "completed",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/communication-category",
                        "code": "notification",
                        "display": "Notification",
                    }
                ]
            }
        ],
        "topic": {"coding": [{"system": "urn:ehcp:notice-kind", "code": notice.kind.value, "display": title}], "text": title},
        "subject": {"reference": patient},
        "about": [about],
        "sent": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        "sender": council,
        "payload": [{"contentString": text(notice)}, *attached],
    }


def to_hold(
    content: Content,
    notice: Notice,
    patient: str,
    found: Iterable[Resource],
    *,
    now: datetime,
    rewrite: bool = False,
    assign_ids: bool = True,
) -> Write | AsWanted | Stop:
    """The next step towards a record that holds this notice; see :func:`filing.to_hold`."""
    found = list(found)
    wanted = parts(content)
    everything = others_of_plan(found, "Communication", content.plan_id, content.recipient, content.share_id)
    copies = [each for each in everything if each.identifier(mapping.VERSION) == str(content.version_id)]
    own = [each for each in copies if each.key == str(mapping.document_key(content))]
    held = next((each for each in own if each.current), own[0] if own else None)
    if any((each.seq_of(content.share_id) or 0) > content.seq for each in copies):
        return Stop.NEWER_HELD
    if held and held.in_error and not (held.in_error_by_us and held.seq < content.seq):
        return Stop.ENTERED_IN_ERROR
    if held and not rewrite and _is_as_wanted(held, content, notice, patient, len(wanted)):
        return AsWanted(held.reference, tuple(zip(held.urls, wanted, strict=True)))
    others = [each for each in copies if each is not held and not each.in_error]
    if len(wanted) + len(others) + 1 > MAX_ENTRIES:
        return Stop.TOO_MANY_FILES
    files, urls = _files(wanted, held, patient, assign_ids=assign_ids)
    resource = communication(content, notice, patient, _about(content, found), urls, now)
    request: Resource = {"method": "PUT", "url": f"Communication?identifier={mapping.DOCUMENT}|{mapping.document_key(content)}"}
    if held:
        resource |= {"id": held.resource["id"]}
        request = _fenced(held)
    wrong = [
        {"resource": each.resource | {"status": "entered-in-error"}, "request": _fenced(each)} for each in others
    ]  # another rendering of the same notice: it was told with another identity
    entries = [*files, {"resource": resource, "request": request}, *wrong]
    return Write({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def _is_as_wanted(held: Document, content: Content, notice: Notice, patient: str, files: int) -> bool:
    payload = held.resource.get("payload") or [{}]
    return (
        held.current
        and held.patient == patient
        and held.seq_of(content.share_id) == content.seq
        and held.identifier(mapping.RENDERING) == content.sha256
        and not held.withdrawn
        and payload[0].get("contentString") == text(notice)
        and len(held.urls) == files
    )


def _files(
    wanted: tuple[Part, ...], held: Document | None, patient: str, *, assign_ids: bool
) -> tuple[list[Resource], list[str]]:
    """Entries for the Binaries, and how the notice refers to each."""
    before = held.urls if held and len(held.urls) == len(wanted) else [""] * len(wanted)
    entries, urls = [], []
    for part, url in zip(wanted, before, strict=True):
        binary_id = url.removeprefix("Binary/") if url.startswith("Binary/") else str(part.key) if assign_ids else ""
        placeholder = f"urn:uuid:{uuid5(part.key, 'file')}"
        request = {"method": "PUT", "url": f"Binary/{binary_id}"} if binary_id else {"method": "POST", "url": "Binary"}
        resource = mapping.binary(part, patient, binary_id or None)
        entries.append({"fullUrl": placeholder, "resource": resource, "request": request})
        urls.append(f"Binary/{binary_id}" if binary_id else placeholder)
    return entries, urls


def _about(content: Content, found: Iterable[Resource]) -> Resource:
    """The plan as it lies in this record; where it does not (yet), the plan by its identifier."""
    documents = of_plan(found, content.plan_id, content.recipient, None)
    plan = next((each for each in documents if each.current and each.is_plan), None)
    if plan:
        return {"reference": plan.reference}
    return {"type": "DocumentReference", "identifier": {"system": mapping.PLAN, "value": str(content.plan_id)}}


def _fenced(held: Document) -> dict[str, str]:
    version = (held.resource.get("meta") or {}).get("versionId")
    return {"method": "PUT", "url": held.reference} | ({"ifMatch": f'W/"{version}"'} if version else {})
