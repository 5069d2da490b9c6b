"""The story of the worked example: what happens to Nia's plan, and the commands that say so."""

from dataclasses import dataclass
from datetime import date, timedelta

REFERENCE = "EXAMPLE-1"

INTRODUCTION = """\
# One plan, from its first issue to its end

Everybody here is invented. Every command is one that you can type; what stands below it is what the exchange answered, and
then who holds what, as `ehcp who` has it. The files are in
[`deploy/sandbox/worked_example/`](../deploy/sandbox/worked_example/), and this page is what the program there prints:

```
.venv/bin/ehcp up --detach --no-samples
.venv/bin/python -m deploy.sandbox.worked_example
```

Days are told by their distance from the day of the run (`today`); ids and times are left out. `waiting` is a parent's copy
that an officer is to post; `sent` is a message in an inbox that nobody has opened yet; `filed` is in the recipient's own
record, read back and compared.
"""


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    about: str
    commands: tuple[tuple[str, ...], ...]
    refused: tuple[str, ...] = ()
    """A command that the exchange does not take, before the others."""


def steps(today: date) -> list[Step]:
    def day(distance: int) -> str:
        return (today + timedelta(days=distance)).isoformat()

    by = ("--by", "officer-7")
    review = ("--review", "AR-1")
    return [
        Step(
            "The first plan",
            "The council's case system issues the plan. Law and sharing policy say who is to hold it: both parents, each for "
            "themselves, the school that it names, the commissioning body, the trust, and social care.",
            (("publish", "v1.json"),),
        ),
        Step(
            "The first parent's copy is posted",
            "What no machine can do, an officer does and records; that is the evidence of the share, "
            "whose id `ehcp who` shows.",
            (("sent", "SHARE-OF-F1", "--on", day(0), "--how", "post", "--by", "officer-7"),),
        ),
        Step(
            "Another school",
            "The family moved within the town. No new version is needed: the new school gets the current one at once. The "
            "old school's copy gets no more updates; it stays in its files, under its own retention.",
            (
                (
                    "record", "placement_changed", REFERENCE, "--changed-on", "2025-09-02", "--placements",
                    "@placements.json", *by,
                ),
            ),
        ),
        Step(
            "A review is scheduled",
            "Invitations go out as notices: shares of their own, through the same receipts and the same ledger. Whoever has no "
            "system that takes one gets it from an officer.",
            (("record", "review_scheduled", REFERENCE, *review, "--meeting-on", day(21), *by),),
        ),
        Step(
            "The review is held",
            "The family asked for an earlier day. The report goes to those whom regulation 20 names.",
            (
                ("record", "review_held", REFERENCE, *review, "--held-on", day(0), "--document", "review-report.pdf", *by),
            ),
        ),
        Step(
            "The council decides to amend",
            "",
            (("record", "review_decided", REFERENCE, *review, "--decision", "amend", "--decided-on", day(0), *by),),
        ),
        Step(
            "The amended plan",
            "Version 2 replaces version 1 wherever that is held. In the trust's record the old document is marked superseded.",
            (("publish", "v2.json"),),
        ),
        Step(
            "Another commissioning body",
            "The GP practice moved to another integrated care board (regulation 16). The new board is taken in from the "
            "national register first; it gets the current version, and the former one is withdrawn.",
            (
                ("directory", "import", "--ods", "eccg.csv", "--subscriber", "health"),
                (
                    "record", "commissioner_changed", REFERENCE, "--changed-on", day(0), "--commissioning-bodies", "ods:QZ9",
                    *by,
                ),
            ),
        ),
        Step(
            "Notice that the plan will cease",
            "A notice withdraws nothing: the plan is in force while the family may appeal, and everybody keeps their copy.",
            (
                (
                    "record", "cease_notice", REFERENCE, "--notified-on", day(0), "--ceases-on", day(70), "--appeal-until",
                    day(60), "--reason", "needs_met", *by,
                ),
            ),
        ),
        Step(
            "The plan ceases",
            "Not before its time: the first attempt is refused. Then the tribunal decides for the council. Copies are marked "
            "as ended where a system can do that, and stay under their holders' retention.",
            (
                (
                    "record", "cease", REFERENCE, "--ceased-on", day(0), "--reason", "needs_met", "--appeal-decided", *by,
                ),
                ("plan", REFERENCE),
            ),
            refused=("record", "cease", REFERENCE, "--ceased-on", day(0), "--reason", "needs_met", *by),
        ),
    ]  # fmt: skip
