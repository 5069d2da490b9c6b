"""CloudEvents 1.0 in Kafka binary mode: attributes as ``ce_…`` headers, the data as the value.

Written out rather than built through the SDK's event object: a header dictionary is all the binding asks for, and the outbox
stores exactly that. A contract test reads what we write with the CloudEvents SDK.
"""

from datetime import UTC, datetime
from uuid import UUID

from services.shared.ids import new_id

SENT_AGAIN = "ce_sentagain"
"""An extension: the id of the sending again, on instructions that a person at the council asked for once more."""


def headers(
    type_: str, source: str, time: datetime, *, event_id: UUID | None = None, content_type: str = "application/json"
) -> dict[str, str]:
    """``event_id`` is given where a retry must carry the same one."""
    return {
        "ce_specversion": "1.0",
        "ce_id": str(event_id or new_id()),
        "ce_type": type_,
        "ce_source": source,
        "ce_time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "content-type": content_type,
    }
