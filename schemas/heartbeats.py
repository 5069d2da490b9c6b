"""A heartbeat: a subscriber says that it is alive, on its own receipts topic, where nobody else may write.

Not signed, and proof of nothing but life: what a recipient holds is said by receipts alone.
"""

from pydantic import AwareDatetime

from schemas.base import Open


class Heartbeat(Open):
    """The subscriber is alive."""

    subscriber: str
    at: AwareDatetime
