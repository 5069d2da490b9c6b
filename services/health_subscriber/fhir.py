"""Files plans into a clinical record over FHIR R4.

For each plan: find the patient, read what the record holds of the plan, post the one transaction that makes it right, and
read again until nothing is left to do; then read the files back and compare their SHA-256. The record itself is the
memory: a repeat, a crash half-way or an answer that was lost end in the same state, with one current plan and no double.
What to write is decided in :mod:`services.health_subscriber.filing` and, for notices, in
:mod:`services.health_subscriber.notices`; outcomes go to the dispatcher, which signs them.
"""

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

import httpx2
import structlog

from schemas.base import Closed
from services.health_subscriber import filing, mapping, notices
from services.health_subscriber.fhir_client import (
    ASK_AGAIN,
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
from services.health_subscriber.fhir_sign_in import SignedSignIn, SignIn
from services.health_subscriber.filing import AsWanted, Document, Stop, Write
from services.health_subscriber.mapping import Coding, Part
from services.health_subscriber.matching import NHS_NUMBER, Doubt, Patient, match_patient
from services.shared.clock import Clock, utc_now
from services.shared.record_systems.port import (
    Content,
    Filed,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    RecordAwayError,
    Refused,
    Removed,
    Retry,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings, options_of

_STEPS = 12
"""More than any real plan takes (one, and one more for every few attachments)."""
_BUDGET_SECONDS = 70.0
"""For one batch, below the dispatcher's deadline: what is done by then is reported, the rest is tried again later."""
_PLANS_IN_A_SEARCH = 25

log = structlog.get_logger()

_ASK_UNFIT_SECONDS = 60.0
_NEVER_RIGHT = Retry("the record does not keep what it confirmed")
_OUT_OF_TIME = Retry("the record is too slow for the whole batch")
_DAMAGED = Retry("a file read back from the record is not the one that was filed")
_STILL_THERE = Retry("a recalled file can still be read in the record")
_NOBODY = Patient("")


class BearerToken(httpx2.Auth):
    """A fixed access token, as given by the record's operator."""

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = self._value
        yield request


class Options(Closed):
    """What an entry of ``kind: fhir`` may say under ``options``. Everything is off that a trust has not agreed to."""

    flag: bool = False
    """Show on the patient's banner that there is a plan (an R4 Flag)."""
    remove_files: bool = False
    """Delete the files of a recalled version too. Without it they stay in the record, entered in error."""
    plan_type: Coding | None = None
    """How the trust codes such a document; default is a code of the exchange's own."""
    sign_in: SignIn | None = None
    """OAuth 2.0 client credentials with a signed JWT, in place of ``token``."""


def build_fhir(settings: SystemSettings) -> "FhirRecord":
    """From an entry of the record systems file: ``{"kind": "fhir", "url": ..., "token": ..., "options": {...}}``."""
    if not settings.url:
        raise RecordSystemsFileError(f"{settings.name}: a FHIR record needs its url")
    options = options_of(settings, Options)
    auth = BearerToken(settings.token) if settings.token else None
    try:
        return FhirRecord(
            settings.url,
            auth=SignedSignIn(options.sign_in) if options.sign_in else auth,
            plan_type=options.plan_type or mapping.PLAN_TYPE,
            remove_files=options.remove_files,
            flag=options.flag,
        )
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
        remove_files: bool = False,
        flag: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        self._client = FhirClient(url, auth=auth, timeout=timeout, concurrency=concurrency, clock=clock)
        self._concurrency = concurrency
        self._budget = budget
        self._plan_type = plan_type
        self._remove_files = remove_files
        self._flag = flag
        self._clock = clock

    async def close(self) -> None:
        await self._client.close()

    @property
    def unfit(self) -> str | None:
        """Why nothing can be filed there just now, without anything personal."""
        return self._client.unfit

    async def watch(self) -> None:
        """Ask the server what it can do: at the start, whether or not something is to be delivered, and then every day; more
        often while the answer will not do. A fault of one record must not end the process that serves the others."""
        while True:
            try:
                await self._client.ask()
            except FhirError:
                pass  # said by `unfit`
            except Exception:
                log.exception("fhir_server_not_asked")
            await asyncio.sleep(_ASK_UNFIT_SECONDS if self.unfit else ASK_AGAIN.total_seconds())

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
            writes: dict[int, Resource] = {}
            for n, found in zip(pending, await self._found([self._traces_of(batch[n]) for n in pending]), strict=True):
                if not isinstance(found, list):
                    outcomes[n] = found
                    continue
                match filing.to_withdraw(batch[n], found, now=self._clock()):
                    case Stop() as stop:
                        outcomes[n] = Refused(stop.value)
                    case AsWanted(record=record):
                        outcomes[n] = Withdrawn(record)
                    case Write(bundle=bundle):
                        writes[n] = bundle
            errors = await self._post(list(writes.values()), until)
            outcomes |= {n: error for n, error in zip(writes, errors, strict=True) if error}
        return [outcomes.get(n, _NEVER_RIGHT) for n in range(len(batch))]

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        until = time.monotonic() + self._budget
        outcomes: dict[int, RecallOutcome] = {}
        still_there: dict[int, list[str]] = {}
        for _ in range(_STEPS):
            if not (pending := [n for n in range(len(batch)) if n not in outcomes]):
                break
            writes: dict[int, Resource] = {}
            removed: dict[int, AsWanted] = {}
            for n, found in zip(pending, await self._found([self._traces_of(batch[n]) for n in pending]), strict=True):
                if not isinstance(found, list):
                    outcomes[n] = found
                    continue
                left = still_there.pop(n, [])
                match filing.to_recall(batch[n], found, now=self._clock(), remove_files=self._remove_files, still_there=left):
                    case Stop() as stop:
                        outcomes[n] = Refused(stop.value)
                    case AsWanted() as done:
                        removed[n] = done
                    case Write(bundle=bundle):
                        writes[n] = bundle
            errors = await self._post(list(writes.values()), until)
            outcomes |= {n: error for n, error in zip(writes, errors, strict=True) if error}
            for n, gone in (await self._gone(removed)).items():
                if isinstance(gone, list):
                    still_there[n] = gone
                else:
                    outcomes[n] = gone
        return [outcomes.get(n, _STILL_THERE if n in still_there else _NEVER_RIGHT) for n in range(len(batch))]

    async def _gone(self, removed: dict[int, AsWanted]) -> dict[int, Removed | Retry | Refused | list[str]]:
        """By reading back: the proof, what went wrong, or the files that are there although they should be gone."""
        wanted = [(n, ReadFile(url, "*/*", 0)) for n, done in removed.items() for url in done.absent]
        answers = await self._client.read([read for _, read in wanted])
        gone: dict[int, Removed | Retry | Refused | list[str]] = {n: Removed(self._proof(done)) for n, done in removed.items()}
        for (n, read), answer in zip(wanted, answers, strict=True):
            if not isinstance(answer, FileRead):
                gone[n] = _trouble(answer)
            elif answer.data is not None and isinstance(before := gone[n], Removed | list):
                gone[n] = [*(before if isinstance(before, list) else []), read.url]
        return gone

    def _proof(self, done: AsWanted) -> str:
        if not done.marked:
            return "no entry of it is in the record"
        files = f"{len(done.absent)} files gone" if self._remove_files else "files kept, out of sight, as the trust's rules say"
        return f"entered in error: {done.record}; {files}"

    def _traces_of(self, ended: Withdrawal | Recall) -> list[Search]:
        """Where what a share or a version left in the record is found."""
        searches = [_documents_of(ended.plan_id)]
        if isinstance(ended, Recall):
            searches.append(_of("Communication", mapping.VERSION, *ended.versions))
            type_, _, id_ = (ended.record or "").partition("/")
            if type_ in ("DocumentReference", "Communication") and id_:
                searches.append(Search(type_, (("_id", id_),)))
        else:
            searches.append(_of("Communication", mapping.SHARE, ended.share_id))
        return [*searches, *([_of("Flag", mapping.PLAN, ended.plan_id)] if self._flag else [])]

    async def _found(self, searches: Sequence[Sequence[Search]]) -> list[list[Resource] | Retry | Refused]:
        """For each group of searches everything that they found, or what went wrong with one of them."""
        answers = iter(await self._client.read([search for group in searches for search in group]))
        found: list[list[Resource] | Retry | Refused] = []
        for group in searches:
            of_group = [next(answers) for _ in group]
            wrong = next((_trouble(answer) for answer in of_group if not isinstance(answer, Found)), None)
            resources = [each for answer in of_group if isinstance(answer, Found) for each in answer.resources]
            # Two searches may offer the same one, and a transaction may name it once.
            found.append(wrong or list({(each.get("resourceType"), each.get("id")): each for each in resources}.values()))
        return found

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        """Plans whose entry is current, with whether their files are all there, unchanged.

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
        plans_held = {plan: _held(parts[0], intact=plan not in damaged) for plan, parts in held.items() if parts}
        return {plan: version for plan, version in plans_held.items() if version is not None}

    async def holds_notices(self, recipient: Recipient, notices: Sequence[UUID]) -> dict[UUID, Held]:
        """Notices that are filed and not in error, with whether their files are all there. Raises RecordAwayError."""
        groups = [notices[n : n + _PLANS_IN_A_SEARCH] for n in range(0, len(notices), _PLANS_IN_A_SEARCH)]
        found: list[Resource] = []
        for answer in await self._client.read([_of("Communication", mapping.VERSION, *group) for group in groups]):
            if not isinstance(answer, Found):
                raise RecordAwayError(_trouble(answer).reason)
            found += answer.resources
        filed = [each for each in map(Document, found) if each.is_notice and each.current]
        filed = [each for each in filed if each.identifier(mapping.RECIPIENT) == str(recipient)]
        files = [(each, attached) for each in filed for attached in each.attached]
        answers = await self._client.read([_attached_file(attached) for _, attached in files])
        damaged: set[str] = set()
        for (each, attached), answer in zip(files, answers, strict=True):
            if not isinstance(answer, FileRead):
                raise RecordAwayError(_trouble(answer).reason)
            if answer.data is None or mapping.sha1_base64(answer.data) != attached.get("hash"):
                damaged.add(each.reference)
        held = [_held(each, intact=each.reference not in damaged) for each in filed]
        return {each.version_id: each for each in held if each is not None}

    async def _look(self, pending: Sequence[_Delivery]) -> None:
        """Read what each needs to decide: the patient (once), the plan's documents, and the files just written."""
        wanted: list[tuple[_Delivery, Search | ReadFile]] = []
        for delivery in pending:
            if delivery.patient is _NOBODY:
                wanted.append((delivery, _patient_of(delivery.content)))
            delivery.found = []
            wanted += [(delivery, search) for search in self._searches(delivery.content)]
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
                    delivery.found += found
                case ReadFile(url=url), FileRead(data=data):
                    delivery.files[url] = data
                case _:
                    delivery.outcome = _trouble(answer)

    def _searches(self, content: Content) -> list[Search]:
        searches = [_documents_of(content.plan_id)]
        if content.notice:
            searches.append(_of("Communication", mapping.VERSION, content.version_id))
        elif self._flag:
            searches.append(_of("Flag", mapping.PLAN, content.plan_id))
        return searches

    async def _step(self, pending: Sequence[_Delivery], until: float) -> None:
        if not pending:
            return
        capabilities = self._client.known  # `_look` asked for it
        writing: list[tuple[_Delivery, Resource]] = []
        proving: list[tuple[_Delivery, AsWanted]] = []
        for delivery in pending:
            step = self._next(delivery, assign_ids=capabilities.assign_binary_ids)
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
            delivery.expected = _files_in(bundle, _parts(delivery.content))
            delivery.files = {}
            delivery.rewrite = False
        await self._prove(proving)

    def _next(self, delivery: _Delivery, *, assign_ids: bool) -> Write | AsWanted | Stop:
        content, patient, found = delivery.content, f"Patient/{delivery.patient.id}", delivery.found
        if content.notice:
            return notices.to_hold(
                content, content.notice, patient, found,
                now=self._clock(), rewrite=delivery.rewrite, assign_ids=assign_ids,
            )  # fmt: skip
        return filing.to_hold(
            content, patient, found,
            now=self._clock(), rewrite=delivery.rewrite, assign_ids=assign_ids, plan_type=self._plan_type,
            same_person=delivery.patient.formerly, remove_files=self._remove_files, flag=self._flag,
        )  # fmt: skip

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


def _parts(content: Content) -> tuple[Part, ...]:
    return notices.parts(content) if content.notice else mapping.parts(content)


def _held(plan: Document, *, intact: bool) -> Held | None:
    try:
        version = UUID(plan.identifier(mapping.VERSION))
    except ValueError:
        return None  # somebody edited our identifiers: what this entry is cannot be said any more
    rendering = plan.identifier(mapping.RENDERING)
    return Held(version, rendering, plan.reference, withdrawn=plan.withdrawn, intact=intact)


def _part_at(url: str, part: Part) -> ReadFile:
    return ReadFile(url, part.media_type, len(part.data))


def _patient_of(content: Content) -> Search:
    return Search("Patient", (("identifier", f"{NHS_NUMBER}|{content.child.nhs_number}"),))


def _documents_of(*plans: UUID) -> Search:
    return _of("DocumentReference", mapping.PLAN, *plans)


def _of(type_: str, system: str, *ids: UUID) -> Search:
    return Search(type_, (("identifier", ",".join(f"{system}|{each}" for each in ids)), ("_count", "200")))


def _file_of(document: Document) -> ReadFile:
    return _attached_file(document.attachment)


def _attached_file(attached: Resource) -> ReadFile:
    size, media_type = attached.get("size"), attached.get("contentType")
    return ReadFile(str(attached.get("url") or ""), str(media_type or "*/*"), size if isinstance(size, int) else 0)


def _files_in(bundle: Resource, parts: Sequence[Part]) -> dict[str, Part]:
    """The files whose address is known before the answer comes: those that we gave an id."""
    keys = {str(part.key): part for part in parts}
    written: dict[str, Part] = {}
    for entry in bundle["entry"]:
        resource, url = entry.get("resource"), entry["request"]["url"]
        if resource is None:
            continue
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
