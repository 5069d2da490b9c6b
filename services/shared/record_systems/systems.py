"""Which record system serves which recipient: a subscriber's ``EHCP_RECORD_SYSTEMS_FILE``, read once at start.

A *lane* is one record system: the dispatcher has one batch in flight per lane, so that trouble stays with its cause.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from schemas.base import Closed
from schemas.events import RecipientCode
from schemas.identifiers import RecipientName
from services.shared.record_systems.port import RecordSystem

AT_ONCE_SECONDS = 5


class RecordSystemsFileError(Exception):
    """One sentence that says where the file is wrong."""


class SystemSettings(Closed):
    """One record system. ``recipients`` is ``"*"`` for everyone that no other entry names."""

    name: str
    kind: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
    """What the subscriber has an adapter for (``fhir``, ``webhook``, ``inbox``, one of its own …), or ``manual``."""
    recipients: tuple[RecipientName, ...] | Literal["*"]
    url: str | None = None
    secret: str | None = None
    allow_private: bool = False
    token: str | None = None
    per_minute: Annotated[int, Field(ge=1)] | None = None
    """Deliveries that it takes in a minute, on average: so that a first load does not crowd out its own users."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What only this kind has; its builder checks them (:func:`options_of`)."""


class _File(Closed):
    record_systems: tuple[SystemSettings, ...]


Builder = Callable[[SystemSettings], RecordSystem]


class Systems:
    def __init__(self, entries: tuple[SystemSettings, ...], builders: dict[str, Builder]) -> None:
        """``builders`` makes an adapter by kind; ``manual`` needs none, since nothing is sent by itself."""
        self._lanes: dict[str, str] = {}
        """By recipient, as ``ods:RNA`` or ``camhs/ods:RNA``."""
        self._everyone: str | None = None
        self._manual = {entry.name for entry in entries if entry.kind == "manual"}
        self._systems: dict[str, RecordSystem] = {}
        self._per_minute = {entry.name: entry.per_minute for entry in entries if entry.per_minute}
        for entry in entries:
            if entry.kind != "manual":
                if entry.kind not in builders:
                    raise RecordSystemsFileError(f"{entry.name}: this subscriber has no record system of kind {entry.kind}")
                self._systems[entry.name] = builders[entry.kind](entry)
            if entry.recipients == "*":
                self._everyone = entry.name
            else:
                for name in map(str, entry.recipients):
                    if (other := self._lanes.setdefault(name, entry.name)) != entry.name:
                        raise RecordSystemsFileError(f"{name} is named by {other} and by {entry.name}: one of them must go")

    def lane(self, recipient: RecipientCode) -> str | None:
        return self.lane_of(str(recipient))

    def lane_of(self, recipient: str) -> str | None:
        """``recipient`` as ``ods:RNA`` or ``camhs/ods:RNA``."""
        return self._lanes.get(recipient, self._everyone)

    def names(self, recipient: str) -> bool:
        """Whether an entry names this recipient, and not just everyone else."""
        return recipient in self._lanes

    def is_manual(self, lane: str) -> bool:
        return lane in self._manual

    def system(self, lane: str) -> RecordSystem | None:
        return self._systems.get(lane)

    def per_minute(self, lane: str) -> int | None:
        """How many deliveries this record system takes in a minute; None where as many as it can."""
        return self._per_minute.get(lane)

    def seconds_each(self, lane: str) -> float:
        """How long one delivery takes up this record system; 0 where it takes as many as it can."""
        per_minute = self.per_minute(lane)
        return 60.0 / per_minute if per_minute else 0.0

    def at_once(self, most: int) -> dict[str, int]:
        """Of those with a measure: how many of ``most`` they take at once, about what they take in some seconds."""
        return {lane: min(most, max(1, many * AT_ONCE_SECONDS // 60)) for lane, many in self._per_minute.items()}

    def lanes(self) -> list[str]:
        """Those that have a record system; what people do by hand cannot be asked."""
        return list(self._systems)

    async def close(self) -> None:
        for system in self._systems.values():
            await system.close()


OptionsModel = TypeVar("OptionsModel", bound=Closed)


def options_of(entry: SystemSettings, model: type[OptionsModel]) -> OptionsModel:
    """``options`` of an entry as its kind's own model. Raises :class:`RecordSystemsFileError`."""
    try:
        return model.model_validate(entry.options)
    except ValidationError as error:
        raise RecordSystemsFileError(f"{entry.name}: wrong at options/{_first(error)}") from None


def read_systems(file: Path, builders: dict[str, Builder]) -> Systems:
    try:
        return Systems(_File.model_validate_json(file.read_bytes()).record_systems, builders)
    except OSError as error:
        raise RecordSystemsFileError(f"EHCP_RECORD_SYSTEMS_FILE cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise RecordSystemsFileError(f"wrong at {_first(error)}") from None


def _first(error: ValidationError) -> str:
    first: Any = error.errors(include_input=False)[0]
    return f"{'/'.join(map(str, first['loc']))}: {first['msg']}"
