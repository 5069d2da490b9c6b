"""What has to change in a record so that it holds what is wanted, given what it holds now.

Pure, and the same for a first filing, a repeat, a repair and a race: the adapter (:mod:`services.health_subscriber.fhir`)
reads the record, asks :func:`to_hold`, :func:`to_withdraw` or :func:`to_recall`, posts the transaction it gets, and asks again
until nothing is left to do. Invariants:

- one transaction files a plan and supersedes the former one, so no crash leaves two current plans or none;
- every document that is changed is fenced with the version that was read (If-Match);
- a document of a later instruction is never touched: an earlier one that comes late takes back its own copy at most;
- what a person at the trust marked *entered in error* is never brought back by us;
- nothing of a plan stays valid in the record of a patient who is not the child: it is marked *entered in error* there;
- what was recalled is brought back by a later instruction only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID, uuid5

from services.health_subscriber import mapping
from services.health_subscriber.mapping import Coding, Part, Resource
from services.shared.record_systems.port import Content, Recall, Recipient, Withdrawal

MAX_ENTRIES = 8
"""Entries in one transaction. Medplum takes no more where one of them is conditional; other servers take hundreds."""

OTHER_PATIENT = "an earlier copy lies in another patient's record and is marked entered in error there"


class Stop(StrEnum):
    """Why nothing may be written. Without personal data."""

    NEWER_HELD = "the record already holds a later instruction for this plan"
    OTHER_TEXT_HELD = "the record holds another text under the same instruction number"
    ENTERED_IN_ERROR = "someone marked this document as entered in error in the record; a person must look at it"
    WITHOUT_OUR_MARKS = "an entry that we filed is in the record without our identifiers; a person must look at it"
    NOTHING_TO_FILE = "the version has neither a document nor a section to file"
    TOO_MANY_FILES = "the notice has more files than this record takes at once"


@dataclass(frozen=True, slots=True)
class Write:
    """A transaction Bundle to post; then ask again."""

    bundle: Resource


@dataclass(frozen=True, slots=True)
class AsWanted:
    """The entries are as wanted; the files have yet to be read back."""

    record: str
    """``DocumentReference/…`` of the plan; empty when a withdrawal found no copy to mark."""
    files: tuple[tuple[str, Part], ...] = ()
    """Where the record says each file is, and what must be there."""
    warning: str | None = None
    marked: int = 0
    """Entries that a recall found marked as entered in error."""
    absent: tuple[str, ...] = ()
    """Where a recall wants no file to be any more."""


@dataclass(frozen=True, slots=True)
class Document:
    """A DocumentReference of ours as the record holds it; or a Communication (a notice) or a Flag, which carry the same
    identifiers."""

    resource: Resource

    @property
    def reference(self) -> str:
        return f"{self.resource['resourceType']}/{self.resource['id']}"

    def identifier(self, system: str) -> str:
        """The value of our identifier of this system; empty when somebody removed it."""
        values = (each.get("value") for each in self.resource.get("identifier") or [] if each.get("system") == system)
        return next((value for value in values if isinstance(value, str)), "")

    @property
    def key(self) -> str:
        return self.identifier(mapping.DOCUMENT)

    @property
    def is_plan(self) -> bool:
        return self.identifier(mapping.PART).startswith("1/")

    @property
    def is_notice(self) -> bool:
        return self.resource.get("resourceType") == "Communication"

    @property
    def current(self) -> bool:
        return self.resource.get("status") in ("current", "completed", "active")

    @property
    def in_error(self) -> bool:
        return self.resource.get("status") == "entered-in-error"

    @property
    def in_error_by_us(self) -> bool:
        """Recalled, or moved to the right patient: a later instruction may want it here again."""
        return self.in_error and (self.is_marked(mapping.RECALLED) or self.is_marked(mapping.MISFILED))

    @property
    def withdrawn(self) -> bool:
        return self.is_marked(mapping.WITHDRAWN)

    def is_marked(self, url: str) -> bool:
        return any(each.get("url") == url for each in self.resource.get("extension") or [])

    @property
    def patient(self) -> str:
        return str((self.resource.get("subject") or {}).get("reference") or "")

    @property
    def attachment(self) -> Resource:
        contents = self.resource.get("content") or [{}]
        return contents[0].get("attachment") or {}

    @property
    def url(self) -> str:
        """Where the record says the file is."""
        return str(self.attachment.get("url") or "")

    @property
    def urls(self) -> list[str]:
        """Of every file, a notice's too."""
        return [url for url in (self.url, *(str(each.get("url") or "") for each in self.attached)) if url]

    @property
    def attached(self) -> list[Resource]:
        """A notice's files as attachments."""
        payload = self.resource.get("payload") or []
        return [each["contentAttachment"] for each in payload if each.get("contentAttachment")]

    @property
    def seq(self) -> int:
        """Number of the instruction that it answers, within its share."""
        _, _, seq = self.identifier(mapping.INSTRUCTION).rpartition("/")
        return int(seq) if seq.isdecimal() else 0

    def seq_of(self, share_id: UUID) -> int | None:
        """``seq`` where the document is of this share, else None: numbers of two shares do not compare."""
        return self.seq if self.identifier(mapping.INSTRUCTION).startswith(f"{share_id}/") else None


def of_plan(found: Iterable[Resource], plan_id: UUID, recipient: Recipient, share_id: UUID | None) -> list[Document]:
    """The documents of this plan for this recipient among what a search offered.

    By recipient as well as by share: an ended share that began anew has another id, and a recipient whose code changed
    has the same share. A record that several recipients use holds a copy for each, which are not one another's business.
    """
    ours = [Document(each) for each in found if each.get("resourceType") == "DocumentReference" and "id" in each]
    return _for(ours, plan_id, recipient, share_id)


def others_of_plan(
    found: Iterable[Resource], type_: str, plan_id: UUID, recipient: Recipient, share_id: UUID
) -> list[Document]:
    """The same for what else we write of a plan: its notices, its flag."""
    ours = [Document(each) for each in found if each.get("resourceType") == type_ and "id" in each]
    return _for(ours, plan_id, recipient, share_id)


def _for(ours: Sequence[Document], plan_id: UUID, recipient: Recipient, share_id: UUID | None) -> list[Document]:
    return [
        each
        for each in ours
        if each.identifier(mapping.PLAN) == str(plan_id)
        and (each.identifier(mapping.RECIPIENT) == str(recipient) or each.identifier(mapping.SHARE) == str(share_id))
    ]


def to_hold(
    content: Content,
    patient: str,
    found: Iterable[Resource],
    *,
    now: datetime,
    rewrite: bool = False,
    assign_ids: bool = True,
    plan_type: Coding = mapping.PLAN_TYPE,
    same_person: frozenset[str] = frozenset(),
    remove_files: bool = False,
    flag: bool = False,
) -> Write | AsWanted | Stop:
    """The next step towards a record that holds ``content`` as its one current copy of the plan.

    ``rewrite`` files again what was read back damaged. ``assign_ids`` says that the server lets a client choose the id
    of a new Binary, so that even a request that arrives twice leaves one file. ``same_person`` are records that the trust
    merged into the patient's: an older version in one of them is history, in anybody else's it is a mistake, of which
    ``remove_files`` takes the text too. ``flag``: the patient's banner says that there is a plan.
    """
    found = list(found)
    wanted = mapping.parts(content)
    if not wanted:
        return Stop.NOTHING_TO_FILE
    documents = of_plan(found, content.plan_id, content.recipient, content.share_id)
    own = _one_of_each({str(part.key) for part in wanted}, documents)
    stop = _reason_to_stop(content, own, documents)
    if stop is Stop.NEWER_HELD and (late := [each for each in own.values() if _came_late(content, each)]):
        return Write(_transaction([_supersede(each) for each in late[:MAX_ENTRIES]]))
    if stop:
        return stop
    others = [each for each in documents if own.get(each.key) is not each]
    misfiled = [each for each in others if each.patient not in {patient, *same_person} and not each.in_error]
    formers = [each for each in others if each.current and each not in misfiled]
    former_plans = [each for each in formers if each.is_plan]
    plan, *attachments = wanted
    filer = _Filer(content, patient, own, now, rewrite, assign_ids, plan_type)
    replaced = [_related("replaces", each.reference) for each in former_plans if each.patient == patient]
    appended = [_related("appends", filer.reference(plan))]
    groups = [
        filer.entries(plan, replaced)
        + [_supersede(each) for each in former_plans]
        + [entry for each in misfiled if each.current and each.is_plan for entry in _misfile(each, now, remove_files)],
        *(filer.entries(part, appended) for part in attachments),
        *([_supersede(each)] for each in formers if not each.is_plan),
        *(_misfile(each, now, remove_files) for each in misfiled if not (each.current and each.is_plan)),
        _flag_entries(content, patient, found) if flag else [],
    ]
    if entries := _as_many_as_fit([group for group in groups if group]):
        return Write(_transaction(entries))
    elsewhere = any(each.patient not in {patient, *same_person} and each.is_marked(mapping.MISFILED) for each in others)
    return AsWanted(
        record=own[str(plan.key)].reference,
        files=tuple((own[str(part.key)].url, part) for part in wanted),
        warning=OTHER_PATIENT if elsewhere else None,
    )


def to_withdraw(withdrawal: Withdrawal, found: Iterable[Resource], *, now: datetime) -> Write | AsWanted | Stop:
    """The next step towards a record whose copy says that it gets no more updates. The copy stays where it is.

    Only what this share filed: the plan may be shared anew with the same recipient, and a notice's end is not the plan's.
    """
    found = list(found)
    share, plan, recipient = withdrawal.share_id, withdrawal.plan_id, withdrawal.recipient
    documents = of_plan(found, plan, recipient, share) + others_of_plan(found, "Communication", plan, recipient, share)
    if any((each.seq_of(share) or 0) > withdrawal.seq for each in documents):
        return Stop.NEWER_HELD
    copies = [each for each in documents if each.current and each.identifier(mapping.SHARE) == str(share)]
    flags = [
        each
        for each in others_of_plan(found, "Flag", plan, recipient, share)
        if each.current and each.identifier(mapping.SHARE) == str(share)
    ]
    entries = [_mark_withdrawn(each, withdrawal, now) for each in copies if not each.withdrawn]
    entries += [_lower_flag(each, withdrawal, now, "inactive") for each in flags]
    if entries:
        return Write(_transaction(entries[:MAX_ENTRIES]))
    return AsWanted(next((each.reference for each in copies if each.is_plan or each.is_notice), ""))


def to_recall(
    recall: Recall, found: Iterable[Resource], *, now: datetime, remove_files: bool, still_there: Sequence[str] = ()
) -> Write | AsWanted | Stop:
    """The next step towards a record in which these versions, whoever's patient they were filed under, are entered in error.

    ``remove_files``: their files go too, in the same transaction. ``still_there`` are files that were read back though
    they should be gone.
    """
    found = list(found)
    share, plan, recipient = recall.share_id, recall.plan_id, recall.recipient
    versions = {str(version) for version in recall.versions}
    documents = of_plan(found, plan, recipient, share) + others_of_plan(found, "Communication", plan, recipient, share)
    wrong = [each for each in documents if each.identifier(mapping.VERSION) in versions]
    if any((each.seq_of(share) or 0) > recall.seq for each in wrong):
        return Stop.NEWER_HELD
    known = (Document(each) for each in found if f"{each.get('resourceType')}/{each.get('id')}" == recall.record)
    if any(not each.identifier(mapping.VERSION) and not each.in_error for each in known):
        # Not found by its identifiers, and there all the same: nothing is proved.
        return Stop.WITHOUT_OUR_MARKS
    groups = [
        [_mark_recalled(each, recall, now), *_deletions(each.urls if remove_files else [])]
        for each in wrong
        if not each.in_error
    ]
    groups += [[deletion] for deletion in _deletions(still_there)]
    flags = others_of_plan(found, "Flag", plan, recipient, share)
    groups += [[_lower_flag(each, recall, now, "entered-in-error")] for each in flags if wrong and each.current]
    if groups:
        return Write(_transaction(_as_many_as_fit(groups)))
    absent = tuple(url for each in wrong for url in each.urls) if remove_files else ()
    return AsWanted(", ".join(each.reference for each in wrong), marked=len(wrong), absent=absent)


def held_parts(documents: Sequence[Document]) -> list[Document]:
    """The plan that a record holds and what is appended to it, the plan first; empty when a part is missing.

    Where damage left several current plans, the one of the latest instruction counts.
    """
    plan = max((each for each in documents if each.current and each.is_plan), key=lambda each: each.seq, default=None)
    if plan is None:
        return []
    rendering = plan.identifier(mapping.RENDERING)
    count = plan.identifier(mapping.PART).partition("/")[2]
    parts = {
        each.identifier(mapping.PART): each
        for each in documents
        if each.current and each.identifier(mapping.RENDERING) == rendering
    }
    wanted = [f"{number}/{count}" for number in range(1, int(count) + 1)] if count.isdecimal() else []
    return [parts[part] for part in wanted] if all(part in parts for part in wanted) else []


def _one_of_each(keys: set[str], documents: Sequence[Document]) -> dict[str, Document]:
    """What we filed before, by key. Of doubles (a server that let two requests race) the current one, else the first."""
    own: dict[str, Document] = {}
    for each in documents:
        if each.key in keys and (each.key not in own or (each.current and not own[each.key].current)):
            own[each.key] = each
    return own


def _reason_to_stop(content: Content, own: dict[str, Document], documents: Sequence[Document]) -> Stop | None:
    of_share = [(each, seq) for each in documents if (seq := each.seq_of(content.share_id)) is not None]
    if any(seq > content.seq for _, seq in of_share):
        return Stop.NEWER_HELD
    if any(
        seq == content.seq and each.identifier(mapping.RENDERING) != content.sha256 and not each.in_error
        for each, seq in of_share
    ):
        return Stop.OTHER_TEXT_HELD
    if any(each.in_error and not _may_return(each, content) for each in own.values()):
        return Stop.ENTERED_IN_ERROR
    return None


def _may_return(document: Document, content: Content) -> bool:
    """Whether what we marked ourselves may be brought back: by a later instruction than the one that marked it."""
    seq = document.seq_of(content.share_id)
    return document.in_error_by_us and (seq is None or seq < content.seq or document.is_marked(mapping.MISFILED))


def _came_late(content: Content, own: Document) -> bool:
    """Whether our copy became current beside a later one: both found an empty record, and the earlier wrote last."""
    seq = own.seq_of(content.share_id)
    return own.current and seq is not None and seq <= content.seq


@dataclass(frozen=True, slots=True)
class _Filer:
    content: Content
    patient: str
    own: dict[str, Document]
    now: datetime
    rewrite: bool
    assign_ids: bool
    plan_type: Coding

    def reference(self, part: Part) -> str:
        """How another entry of the same transaction refers to this part's document."""
        held = self.own.get(str(part.key))
        return held.reference if held else _placeholder(part, "document")

    def entries(self, part: Part, relates_to: list[Resource]) -> list[Resource]:
        """What files this part; nothing when the record holds it as wanted."""
        held = self.own.get(str(part.key))
        if held and not self.rewrite and self._is_as_wanted(held):
            return []
        file, url = self._file(part, held)
        document = mapping.document_reference(
            self.content,
            part,
            patient=self.patient,
            binary_url=url,
            filed_at=self.now,
            relates_to=relates_to,
            plan_type=self.plan_type,
        )
        request = {"method": "PUT", "url": f"DocumentReference?identifier={mapping.DOCUMENT}|{part.key}"}
        if held:
            document = _over(held, document)
            request = _put(held)
        return [file, {"fullUrl": _placeholder(part, "document"), "resource": document, "request": request}]

    def _file(self, part: Part, held: Document | None) -> tuple[Resource, str]:
        """The entry for the Binary, and how the document refers to it."""
        placeholder = _placeholder(part, "file")
        binary_id = (_binary_id(held.url) if held else "") or (str(part.key) if self.assign_ids else "")
        url = f"Binary/{binary_id}" if binary_id else placeholder
        request = {"method": "PUT", "url": url} if binary_id else {"method": "POST", "url": "Binary"}
        resource = mapping.binary(part, self.patient, binary_id or None)
        return {"fullUrl": placeholder, "resource": resource, "request": request}, url

    def _is_as_wanted(self, held: Document) -> bool:
        return (
            held.current
            and held.resource.get("docStatus") == "final"
            and held.patient == self.patient
            and held.seq_of(self.content.share_id) == self.content.seq
            and held.identifier(mapping.RENDERING) == self.content.sha256
            and not held.withdrawn
            and bool(held.url)
        )


def _over(held: Document, document: Resource) -> Resource:
    """``document`` over the one that is there, keeping what the trust or its server added to it."""
    before = held.resource
    ours = {each["system"] for each in document["identifier"]}
    theirs = [each for each in before.get("identifier") or [] if each.get("system") not in ours]
    merged = before | document | {"identifier": document["identifier"] + theirs, "id": before["id"]}
    # When it was first filed and what it replaced then stay true.
    merged |= {name: before[name] for name in ("date", "relatesTo", "meta") if name in before}
    if "relatesTo" not in before:
        merged.pop("relatesTo", None)
    extensions = [each for each in before.get("extension") or [] if each.get("url") not in mapping.MARKS]
    merged.pop("extension", None)
    return merged | ({"extension": extensions} if extensions else {})


def _as_many_as_fit(groups: Sequence[list[Resource]]) -> list[Resource]:
    """The first group whole (the plan and what it supersedes), then more while there is room; the rest comes later."""
    entries: list[Resource] = []
    for group in groups:
        if entries and len(entries) + len(group) > MAX_ENTRIES:
            break
        entries += group
    return entries


def _transaction(entries: list[Resource]) -> Resource:
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _supersede(document: Document) -> Resource:
    return {"resource": document.resource | {"status": "superseded"}, "request": _put(document)}


def _mark_withdrawn(document: Document, withdrawal: Withdrawal, now: datetime) -> Resource:
    note = f"No longer updated: the council stopped sharing this plan on {_today(now)}"
    marked = _marked(document, mapping.WITHDRAWN, note, now)
    return {"resource": marked | _answering(document, withdrawal), "request": _put(document)}


def _mark_recalled(document: Document, recall: Recall, now: datetime) -> Resource:
    marked = _marked(
        document, mapping.RECALLED, f"Recalled by the council on {_today(now)}: it should never have been here", now
    )
    return {
        "resource": marked | _answering(document, recall) | {"status": "entered-in-error"},
        "request": _put(document),
    }


def _misfile(document: Document, now: datetime, remove_files: bool) -> list[Resource]:
    note = f"Filed under the wrong patient until {_today(now)}, when the child's identity was corrected"
    marked = _marked(document, mapping.MISFILED, note, now) | {"status": "entered-in-error"}
    return [{"resource": marked, "request": _put(document)}, *_deletions(document.urls if remove_files else [])]


def _marked(document: Document, mark: str, note: str, now: datetime) -> Resource:
    """The extension is for us, the note for the clinician who reads the record."""
    before = document.resource
    marked = before | {"extension": [*(before.get("extension") or []), {"url": mark, "valueDate": _today(now)}]}
    if document.is_notice:
        return marked | {"note": [*(before.get("note") or []), {"text": note}]}
    return marked | {"description": f"{note}. {before['description']}" if before.get("description") else note}


def _answering(document: Document, instruction: Withdrawal | Recall) -> Resource:
    """Its identifiers, with the instruction that put it into its present state."""
    before = document.resource.get("identifier") or []
    kept = [each for each in before if each.get("system") != mapping.INSTRUCTION]
    return {"identifier": [*kept, mapping.instruction(instruction.share_id, instruction.seq)]}


def _today(now: datetime) -> str:
    return now.astimezone(UTC).date().isoformat()


def _deletions(urls: Iterable[str]) -> list[Resource]:
    """Of files of this record alone: what refers elsewhere, or nowhere, could name another's file here."""
    ids = [url.removeprefix("Binary/") for url in urls if url.startswith("Binary/")]
    return [{"request": {"method": "DELETE", "url": f"Binary/{each}"}} for each in ids if each and "/" not in each]


def _flag_entries(content: Content, patient: str, found: Sequence[Resource]) -> list[Resource]:
    """What makes the patient's flag tell of this version. One that somebody lowered meanwhile stays so until the next."""
    wanted = mapping.flag(content, patient)
    flags = others_of_plan(found, "Flag", content.plan_id, content.recipient, content.share_id)
    held = next((each for each in flags if each.key == mapping.flag_key(content)), None)
    if held is None:
        request = {"method": "PUT", "url": f"Flag?identifier={mapping.DOCUMENT}|{mapping.flag_key(content)}"}
        return [{"resource": wanted, "request": request}]
    if held.seq_of(content.share_id) == content.seq and held.patient == patient:
        return []
    ours = {each["system"] for each in wanted["identifier"]}
    theirs = [each for each in held.resource.get("identifier") or [] if each.get("system") not in ours]
    merged = held.resource | wanted | {"identifier": wanted["identifier"] + theirs}
    return [{"resource": merged, "request": _put(held)}]


def _lower_flag(flag: Document, instruction: Withdrawal | Recall, now: datetime, status: str) -> Resource:
    period = (flag.resource.get("period") or {}) | {"end": _today(now)}
    lowered = flag.resource | _answering(flag, instruction) | {"status": status, "period": period}
    return {"resource": lowered, "request": _put(flag)}


def _put(document: Document) -> dict[str, str]:
    request = {"method": "PUT", "url": document.reference}
    version = (document.resource.get("meta") or {}).get("versionId")
    return request | ({"ifMatch": f'W/"{version}"'} if version else {})


def _related(code: str, reference: str) -> Resource:
    return {"code": code, "target": {"reference": reference}}


def _placeholder(part: Part, what: str) -> str:
    return f"urn:uuid:{uuid5(part.key, what)}"


def _binary_id(url: str) -> str:
    kind, _, binary_id = url.rpartition("/")
    return binary_id if kind == "Binary" or kind.endswith("/Binary") else ""
