"""Files plans into a clinical record over FHIR R4.

For each plan: find the patient, read what the record holds of the plan, post the one transaction that makes it right, and
read again until nothing is left to do; then read the files back and compare their SHA-256. The record itself is the
memory: a repeat, a crash half-way or an answer that was lost end in the same state, with one current plan and no double.
What to write is decided in :mod:`services.health_subscriber.filing`; outcomes go to the dispatcher, which signs them.
"""

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

import httpx2

from services.health_subscriber import filing, mapping
from services.health_subscriber.fhir_client import (
    Answer,
    ChangedMeanwhileError,
    FhirClient,
    FhirError,
    FileRead,
    Found,
    ReadFile,
    Resource,
    Search,
)
from services.health_subscriber.filing import AsWanted, Document, Stop, Write
from services.health_subscriber.mapping import Coding, Part
from services.health_subscriber.matching import NHS_NUMBER, Doubt, Patient, match_patient
from services.shared.clock import Clock, utc_now
from services.shared.record_systems.port import (
    Content,
    Filed,
    Held,
    Outcome,
    Recipient,
    RecordAwayError,
    Refused,
    Retry,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings

_STEPS = 12
"""More than any real plan takes (one, and one more for every few attachments)."""
_BUDGET_SECONDS = 70.0
"""For one batch, below the dispatcher's deadline: what is done by then is reported, the rest is tried again later."""
_PLANS_IN_A_SEARCH = 25

_NEVER_RIGHT = Retry("the record does not keep what it confirmed")
_OUT_OF_TIME = Retry("the record is too slow for the whole batch")
_DAMAGED = Retry("a file read back from the record is not the one that was filed")
_NOBODY = Patient("")


class BearerToken(httpx2.Auth):
    """A fixed access token, as given by the record's operator."""

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = self._value
        yield request


def build_fhir(settings: SystemSettings) -> "FhirRecord":
    """From an entry of the record systems file: ``{"kind": "fhir", "url": ..., "token": ...}``."""
    if not settings.url:
        raise RecordSystemsFileError(f"{settings.name}: a FHIR record needs its url")
    try:
        return FhirRecord(settings.url, auth=BearerToken(settings.token) if settings.token else None)
    except ValueError as error:
        raise RecordSystemsFileError(f"{settings.name}: {error}") from None


@dataclass(slots=True)
class _Delivery:
    """The state of one content on its way through the steps."""

    content: Content
    patient: Patient = _NOBODY
    found: list[Resource] = field(default_factory=list)
    expected: dict[str, Part] = field(default_factory=dict)
    """Files that the last step wrote: read back together with the entries."""
    files: dict[str, bytes | None] = field(default_factory=dict)
    rewrite: bool = False
    rewritten: bool = False
    outcome: Outcome | None = None


class FhirRecord:
    """One trust's record: the ``RecordSystem`` of ``kind: fhir``. ``url`` is the server's FHIR base address."""

    def __init__(
        self,
        url: str,
        *,
        auth: httpx2.Auth | None = None,
        timeout: float = 15.0,
        concurrency: int = 8,
        budget: float = _BUDGET_SECONDS,
        plan_type: Coding = mapping.PLAN_TYPE,
        clock: Clock = utc_now,
    ) -> None:
        self._client = FhirClient(url, auth=auth, timeout=timeout, concurrency=concurrency, clock=clock)
        self._concurrency = concurrency
        self._budget = budget
        self._plan_type = plan_type
        self._clock = clock

    async def close(self) -> None:
        await self._client.close()

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        until = time.monotonic() + self._budget
        deliveries = [_Delivery(content) for content in batch]
        for delivery in deliveries:
            if delivery.content.child.nhs_number is None:
                delivery.outcome = Refused(Doubt.NO_NHS_NUMBER.value)
        for _ in range(_STEPS):
            if not (pending := [each for each in deliveries if each.outcome is None]):
                break
            await self._look(pending)
            await self._step([each for each in pending if each.outcome is None], until)
        return [each.outcome or _NEVER_RIGHT for each in deliveries]

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        until = time.monotonic() + self._budget
        outcomes: dict[int, WithdrawOutcome] = {}
        for _ in range(_STEPS):
            if not (pending := [n for n in range(len(batch)) if n not in outcomes]):
                break
            answers = await self._client.read([_documents_of(batch[n].plan_id) for n in pending])
            writes: dict[int, Resource] = {}
            for n, answer in zip(pending, answers, strict=True):
                if not isinstance(answer, Found):
                    outcomes[n] = _trouble(answer)
                    continue
                match filing.to_withdraw(batch[n], answer.resources, now=self._clock()):
                    case Stop() as stop:
                        outcomes[n] = Refused(stop.value)
                    case AsWanted(record=record):
                        outcomes[n] = Withdrawn(record)
                    case Write(bundle=bundle):
                        writes[n] = bundle
            errors = await self._post(list(writes.values()), until)
            outcomes |= {n: error for n, error in zip(writes, errors, strict=True) if error}
        return [outcomes.get(n, _NEVER_RIGHT) for n in range(len(batch))]

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        """Plans whose entry is current and whose files are all there, unchanged.

        Raises RecordAwayError when the record cannot be read: silence is not absence.
        """
        groups = [plans[n : n + _PLANS_IN_A_SEARCH] for n in range(0, len(plans), _PLANS_IN_A_SEARCH)]
        found: list[Resource] = []
        for answer in await self._client.read([_documents_of(*group) for group in groups]):
            if not isinstance(answer, Found):
                raise RecordAwayError(_trouble(answer).reason)
            found += answer.resources
        held = {plan: filing.held_parts(filing.of_plan(found, plan, recipient, share_id=None)) for plan in plans}
        documents = [(plan, document) for plan, parts in held.items() for document in parts]
        damaged: set[UUID] = set()
        files = await self._client.read([_file_of(document) for _, document in documents])
        for (plan, document), file in zip(documents, files, strict=True):
            if not isinstance(file, FileRead):
                raise RecordAwayError(_trouble(file).reason)
            if not _is_whole(document, file.data):
                damaged.add(plan)
        plans_held = {plan: _held(parts[0]) for plan, parts in held.items() if parts and plan not in damaged}
        return {plan: version for plan, version in plans_held.items() if version is not None}

    async def _look(self, pending: Sequence[_Delivery]) -> None:
        """Read what each needs to decide: the patient (once), the plan's documents, and the files just written."""
        wanted: list[tuple[_Delivery, Search | ReadFile]] = []
        for delivery in pending:
            if delivery.patient is _NOBODY:
                wanted.append((delivery, _patient_of(delivery.content)))
            wanted.append((delivery, _documents_of(delivery.content.plan_id)))
            wanted += [(delivery, _part_at(url, part)) for url, part in delivery.expected.items()]
        answers = await self._client.read([read for _, read in wanted])
        for (delivery, read), answer in zip(wanted, answers, strict=True):
            match read, answer:
                case Search(type="Patient"), Found(resources=found):
                    match match_patient(delivery.content.child, found):
                        case Patient() as patient:
                            delivery.patient = patient
                        case Doubt() as doubt:
                            delivery.outcome = Refused(doubt.value)
                case Search(), Found(resources=found):
                    delivery.found = found
                case ReadFile(url=url), FileRead(data=data):
                    delivery.files[url] = data
                case _:
                    delivery.outcome = _trouble(answer)

    async def _step(self, pending: Sequence[_Delivery], until: float) -> None:
        if not pending:
            return
        capabilities = await self._client.capabilities()  # known by now: `_look` asked for it
        writing: list[tuple[_Delivery, Resource]] = []
        proving: list[tuple[_Delivery, AsWanted]] = []
        for delivery in pending:
            step = filing.to_hold(
                delivery.content,
                f"Patient/{delivery.patient.id}",
                delivery.found,
                now=self._clock(),
                rewrite=delivery.rewrite,
                assign_ids=capabilities.assign_binary_ids,
                plan_type=self._plan_type,
            )
            match step:
                case Stop():
                    delivery.outcome = Refused(step.value)
                case AsWanted():
                    proving.append((delivery, step))
                case Write(bundle=bundle):
                    writing.append((delivery, bundle))
        errors = await self._post([bundle for _, bundle in writing], until)
        for (delivery, bundle), error in zip(writing, errors, strict=True):
            delivery.outcome = error
            delivery.expected = _files_in(bundle, mapping.parts(delivery.content))
            delivery.files = {}
            delivery.rewrite = False
        await self._prove(proving)

    async def _post(self, bundles: Sequence[Resource], until: float) -> list[Retry | Refused | None]:
        """Post each by itself; None when it was taken, or met a change and has to be decided again.

        When the server is away, or time is up, the rest is not tried: each would only wait for its own time-out.
        """
        away: Retry | Refused | None = None
        turn = asyncio.Semaphore(self._concurrency)

        async def post(bundle: Resource) -> Retry | Refused | None:
            nonlocal away
            async with turn:
                if away or time.monotonic() > until:
                    return away or _OUT_OF_TIME
                try:
                    await self._client.transaction(bundle)
                except ChangedMeanwhileError:
                    return None
                except FhirError as error:
                    if error.unreachable:
                        away = error.outcome
                    return error.outcome
                return None

        return list(await asyncio.gather(*(post(bundle) for bundle in bundles)))

    async def _prove(self, proving: Sequence[tuple[_Delivery, AsWanted]]) -> None:
        """Compare every file with what was to be filed, after reading those that the last look did not."""
        missing = [
            (delivery, _part_at(url, part))
            for delivery, held in proving
            for url, part in held.files
            if url not in delivery.files
        ]
        answers = await self._client.read([read for _, read in missing])
        for (delivery, read), answer in zip(missing, answers, strict=True):
            if isinstance(answer, FileRead):
                delivery.files[read.url] = answer.data
            else:
                delivery.outcome = _trouble(answer)
        for delivery, held in proving:
            if delivery.outcome is not None:
                continue
            if all(_same(delivery.files[url], part) for url, part in held.files):
                delivery.outcome = _filed(delivery, held)
            elif delivery.rewritten:
                delivery.outcome = _DAMAGED
            else:
                delivery.rewrite = delivery.rewritten = True


def _filed(delivery: _Delivery, held: AsWanted) -> Filed:
    warnings = [warning for warning in (delivery.patient.warning, held.warning) if warning]
    return Filed(held.record, delivery.content.sha256, "; ".join(warnings) or None)


def _trouble(answer: Answer) -> Retry | Refused:
    return answer.outcome if isinstance(answer, FhirError) else Retry("the record answered something else than was asked")


def _held(plan: Document) -> Held | None:
    try:
        version = UUID(plan.identifier(mapping.VERSION))
    except ValueError:
        return None  # somebody edited our identifiers: what this entry is cannot be said any more
    return Held(version, plan.identifier(mapping.RENDERING), plan.reference)


def _part_at(url: str, part: Part) -> ReadFile:
    return ReadFile(url, part.media_type, len(part.data))


def _patient_of(content: Content) -> Search:
    return Search("Patient", (("identifier", f"{NHS_NUMBER}|{content.child.nhs_number}"),))


def _documents_of(*plans: UUID) -> Search:
    identifiers = ",".join(f"{mapping.PLAN}|{plan}" for plan in plans)
    return Search("DocumentReference", (("identifier", identifiers), ("_count", "200")))


def _file_of(document: Document) -> ReadFile:
    size = document.attachment.get("size")
    media_type = document.attachment.get("contentType")
    return ReadFile(document.url, str(media_type or "*/*"), size if isinstance(size, int) else 0)


def _files_in(bundle: Resource, parts: Sequence[Part]) -> dict[str, Part]:
    """The files whose address is known before the answer comes: those that we gave an id."""
    keys = {str(part.key): part for part in parts}
    written: dict[str, Part] = {}
    for entry in bundle["entry"]:
        resource, url = entry["resource"], entry["request"]["url"]
        if resource["resourceType"] == "DocumentReference":
            document = Document(resource)
            if document.key in keys and document.url.startswith("Binary/"):
                written[document.url] = keys[document.key]
        elif url.startswith("Binary/") and resource["id"] in keys:
            written[url] = keys[resource["id"]]
    return written


def _same(data: bytes | None, part: Part) -> bool:
    return data is not None and sha256(data).hexdigest() == part.sha256


def _is_whole(document: Document, data: bytes | None) -> bool:
    """Against what the entry says of its file; the rendering's own SHA-256 was compared when it was filed."""
    return data is not None and mapping.sha1_base64(data) == document.attachment.get("hash")
