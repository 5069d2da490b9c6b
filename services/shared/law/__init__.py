"""The law that the exchange follows, as rows with dates and references (``rules.yaml``), and what follows from dates alone.

:func:`clock` and :func:`recipients_for` answer from the rows. Beside them ``due`` joins clocks that run together, ``ages``
knows what follows from a date of birth, and ``counting`` how days are counted.
"""

from services.shared.law.rules import (
    PLANS_SINCE,
    Clock,
    RecipientRule,
    UnknownRuleError,
    Who,
    clock,
    clocks,
    in_force,
    recipients_for,
)

__all__ = ["PLANS_SINCE", "Clock", "RecipientRule", "UnknownRuleError", "Who", "clock", "clocks", "in_force", "recipients_for"]
