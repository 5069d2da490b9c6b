"""Writes the JSON Schemas in ``schemas/json/`` from the models: ``python -m schemas.generate``, ``--check`` in ``make check``.

The models are the contract; the files are for those who write a case system or a subscriber in another language. A JSON
Schema cannot say everything that a model checks (check digits, two dates that contradict each other): what passes it may
still be refused, what it refuses is always refused.
"""

import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas import published
from schemas.alerts import AlertCleared, AlertRaised, CouncilAlertCleared, CouncilAlertRaised
from schemas.breach import BreachPack
from schemas.directory import DirectoryRecipient
from schemas.documents import ReadAnswer, ReadRequest, ShareState
from schemas.events import (
    PlanAmended,
    PlanFinalised,
    PlanHappened,
    PlanRecalled,
    PlanTransferred,
    ReviewDecided,
    ReviewHappened,
    ShareRecalled,
    ShareReleased,
    ShareRequested,
    ShareWithdrawn,
)
from schemas.evidence import RemovedRecord, SentRecord
from schemas.heartbeats import Heartbeat
from schemas.holdings import Holding, HoldingsRequested
from schemas.lifecycle import EventLine
from schemas.manifest import Manifest
from schemas.plan import PlanSubmission, VersionLine, VersionSubmission
from schemas.policy import SharingPolicy
from schemas.receipts import Receipt

FOLDER = Path(__file__).parent / "json"

SENT_BY_COUNCILS: dict[str, type[BaseModel]] = {
    "plan-submission": PlanSubmission,
    "version-submission": VersionSubmission,
    "version-line": VersionLine,
    "event-line": EventLine,
    "sent-record": SentRecord,
    "removed-record": RemovedRecord,
    "directory-recipient": DirectoryRecipient,
    "sharing-policy": SharingPolicy,
}
"""Closed: an unknown field is refused."""

SENT_BY_THE_EXCHANGE: dict[str, type[BaseModel]] = {
    "plan-finalised": PlanFinalised,
    "plan-amended": PlanAmended,
    "plan-happened": PlanHappened,
    "plan-transferred": PlanTransferred,
    "plan-recalled": PlanRecalled,
    "review-happened": ReviewHappened,
    "review-decided": ReviewDecided,
    "share-requested": ShareRequested,
    "share-withdrawn": ShareWithdrawn,
    "share-recalled": ShareRecalled,
    "share-released": ShareReleased,
    "holdings-requested": HoldingsRequested,
    "receipt": Receipt,
    "holding": Holding,
    "heartbeat": Heartbeat,
    "alert-raised": AlertRaised,
    "alert-cleared": AlertCleared,
    "council-alert-raised": CouncilAlertRaised,
    "council-alert-cleared": CouncilAlertCleared,
    "manifest": Manifest,
    "read-request": ReadRequest,
    "read-answer": ReadAnswer,
    "share-state": ShareState,
    "breach-pack": BreachPack,
}
"""Open: a reader ignores what it does not know, so that a minor version may add fields."""

MODELS = SENT_BY_COUNCILS | SENT_BY_THE_EXCHANGE
_MAJOR = re.compile(r"(?P<base>.+)-v(?P<major>[0-9]+)")


def without_closing(schema: Any) -> Any:
    """The same schema for a reader, who does not refuse unknown fields even in parts that a council may not add to."""
    if isinstance(schema, dict):
        return {
            key: without_closing(value)
            for key, value in schema.items()
            if not (key == "additionalProperties" and value is False)
        }
    if isinstance(schema, list):
        return [without_closing(part) for part in schema]
    return schema


def make_schema(name: str) -> dict[str, Any]:
    """``name`` may end in a major version, as in ``plan-amended-v2``; without one it is the first."""
    base, major = (found["base"], found["major"]) if (found := _MAJOR.fullmatch(name)) else (name, "1")
    schema = MODELS[name].model_json_schema(by_alias=True)
    if name in SENT_BY_THE_EXCHANGE:
        schema = without_closing(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ehcp:schema:{base}:{major}",
        **schema,
    }


def make_files() -> dict[Path, str]:
    return {FOLDER / f"{name}.schema.json": published.as_text(make_schema(name)) for name in MODELS}


def main(arguments: list[str]) -> int:
    return published.run("schemas.generate", make_files(), arguments, FOLDER)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
