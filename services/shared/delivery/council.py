"""What a subscriber asks the council: renderings by (share, ``seq``), and the list of its own shares. Verifies every hash."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
import orjson
from pydantic import ValidationError

from schemas.documents import File as FileOnTheWire
from schemas.documents import ReadAnswer, ReadOutcome, Rendering
from schemas.manifest import FileEntry, NotCanonicalError, has_section_hash, sha256
from services.shared.identity.client import TokenClient
from services.shared.json import dumps
from services.shared.record_systems.port import Content, File, Recipient

_NOT_PROMISED = "the document API answered something else than was asked"


class CouncilAwayError(Exception):
    """The document API does not answer, or not with what it promised. Try again later."""


class BadRenderingError(Exception):
    """What was read is not what the instruction names: a hash differs."""


class Council:
    def __init__(self, http: httpx2.AsyncClient, url: str, tokens: TokenClient) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._tokens = tokens

    async def read(self, wanted: Sequence[tuple[UUID, int]]) -> dict[UUID, ReadAnswer]:
        """The answers by share; a share that is missing did not fit and is to be asked for again."""
        body = dumps({"reads": [{"share_id": share, "seq": seq} for share, seq in wanted]})
        answer = await self._call("POST", "/v1/documents/read", content=body, json=True)
        answers: dict[UUID, ReadAnswer] = {}
        try:
            # Parsed first and then looked at: pydantic's own parser takes half as long again for text that is only handed on.
            for raw in (orjson.loads(line) for line in answer.content.split(b"\n") if line):
                try:
                    each = _whole(ReadAnswer.model_validate(raw), answers)
                except ValidationError:
                    # One answer that cannot be read is one share's trouble: told as given, without what was to be given.
                    each = ReadAnswer(share_id=raw["share_id"], seq=raw["seq"], outcome=ReadOutcome.OK)
                if each.outcome is not ReadOutcome.LATER:
                    answers[each.share_id] = each
        except (ValueError, TypeError, KeyError):
            raise CouncilAwayError(_NOT_PROMISED) from None
        if not answers:
            raise CouncilAwayError(_NOT_PROMISED)
        return answers

    async def shares(self, after: UUID | None, *, unanswered: bool) -> tuple[list[dict[str, Any]], UUID | None]:
        """A page of the list: rows of type and instruction, and where to go on."""
        query = f"?limit=1000&unanswered={str(unanswered).lower()}" + (f"&after={after}" if after else "")
        answer = await self._call("GET", f"/v1/shares{query}")
        try:
            page = orjson.loads(answer.content)
            return list(page["shares"]), UUID(page["next"]) if page["next"] else None
        except (ValueError, TypeError, KeyError):
            raise CouncilAwayError(_NOT_PROMISED) from None

    async def _call(self, method: str, path: str, *, content: bytes = b"", json: bool = False) -> httpx2.Response:
        try:
            headers = await self._tokens.headers()
            if json:
                headers["content-type"] = "application/json"
            answer = await self._http.request(method, self._url + path, content=content, headers=headers)
        except httpx2.HTTPError as error:
            raise CouncilAwayError(f"the document API cannot be reached ({type(error).__name__})") from None
        except Exception as error:
            raise CouncilAwayError(f"no token for the document API ({type(error).__name__})") from None
        if answer.status_code == 401:
            self._tokens.forget()
        if answer.status_code != 200:
            raise CouncilAwayError(f"the document API answered {answer.status_code}")
        return answer


def _whole(answer: ReadAnswer, earlier: Mapping[UUID, ReadAnswer]) -> ReadAnswer:
    """With the rendering that ``again`` speaks of; nobody else need know how it travelled."""
    again = answer.again
    if again is None or (first := earlier.get(again.share_id)) is None or first.rendering is None:
        return answer
    own = {"recipient": again.recipient, "changed_sections": again.changed_sections}
    return answer.model_copy(update={"rendering": first.rendering.model_copy(update=own), "again": None})


@dataclass(frozen=True, slots=True)
class Proved:
    """A rendering of which every part has the hash that its manifest says: the manifest's own hash, and the files opened."""

    sha256: str
    document: File | None
    attachments: tuple[File, ...]


def prove(rendering: Rendering) -> Proved:
    """Raises :class:`BadRenderingError`."""
    manifest, sections = rendering.manifest, rendering.sections.json
    try:
        sha = manifest.hash()
        if sections.keys() != manifest.sections.keys() or not all(
            has_section_hash(sections[letter], expected) for letter, expected in manifest.sections.items()
        ):
            raise BadRenderingError("a section's hash is not the manifest's")
        if (rendering.notice.hash() if rendering.notice else None) != manifest.notice:
            raise BadRenderingError("the notice's hash is not the manifest's")
    except NotCanonicalError:
        raise BadRenderingError("the rendering holds a value that has no canonical form") from None
    if (manifest.plan_id, manifest.version_id) != (rendering.plan_id, rendering.version_id):
        raise BadRenderingError("the manifest is of another version")
    document = _open(rendering.document, manifest.document) if rendering.document and manifest.document else None
    if (manifest.document is None) != (rendering.document is None) or len(manifest.attachments) != len(rendering.attachments):
        raise BadRenderingError("the files are not those of the manifest")
    attachments = tuple(_open(file, entry) for file, entry in zip(rendering.attachments, manifest.attachments, strict=True))
    return Proved(sha, document, attachments)


class Proofs:
    """:func:`prove` for the answers of one read: what came once for several recipients is looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Rendering, Proved]] = {}

    def __call__(self, rendering: Rendering) -> Proved:
        # The very objects that were read: `_whole` hands the same ones to each recipient. Kept, so that no id is used twice.
        known = self._known.get(id(rendering.sections))
        if known is None:
            known = self._known[id(rendering.sections)] = (rendering, prove(rendering))
        return known[1]


def content_of(
    rendering: Rendering, share_id: UUID, seq: int, expected: str, replaces: UUID | None,
    prove: Callable[[Rendering], Proved] = prove,
) -> Content:  # fmt: skip
    """Check every hash, and that it is the instruction's, then hand out plain bytes. Raises :class:`BadRenderingError`."""
    proved = prove(rendering)
    if proved.sha256 != expected:
        raise BadRenderingError("the rendering's hash is not the instruction's")
    who = rendering.recipient
    return Content(
        share_id=share_id, seq=seq, plan_id=rendering.plan_id, case_reference=rendering.case_reference,
        council=rendering.council,
        recipient=Recipient(who.kind, who.scheme, who.value, who.name, who.email, who.address),
        version_id=rendering.version_id, version=rendering.version, issued_on=rendering.issued_on, child=rendering.child,
        sections=rendering.sections, changed_sections=rendering.changed_sections, manifest=rendering.manifest,
        sha256=expected, document=proved.document, attachments=proved.attachments, replaces=replaces,
        notice=rendering.notice,
    )  # fmt: skip


def _open(file: FileOnTheWire, entry: FileEntry) -> File:
    try:
        data = base64.b64decode(file.data, validate=True)
    except ValueError:
        raise BadRenderingError("a file is not base64") from None
    if sha256(data) != entry.sha256:
        raise BadRenderingError("a file's hash is not the manifest's")
    return File(entry.name, entry.media_type, entry.sha256, data)
