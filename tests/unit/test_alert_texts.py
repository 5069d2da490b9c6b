"""What an alert says to people, and to whom a mail goes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.alerts import AlertKind, ClearedBecause
from schemas.base import RecipientKind
from services.notifier.alerts import digest_of, subject, text
from services.notifier.mail import AddressesError, MailServer, read_addresses
from services.notifier.messages import back_off
from services.notifier.store import Alert, Notice

MADE_AT = datetime(2026, 7, 6, 8, 0, tzinfo=UTC)
PLAN = UUID("0197d000-0000-7000-8000-000000000001")
MESSAGE = uuid4()


def alert(kind: AlertKind = AlertKind.MISSED, due: timedelta = timedelta(days=-3)) -> Alert:
    return Alert(uuid4(), kind, "332", PLAN, uuid4(), 1, RecipientKind.COMMISSIONING_BODY, "health", MADE_AT + due, MADE_AT)


def raised(one: Alert) -> Notice:
    return Notice(one, None)


def test_text_of_one_alert() -> None:
    digest = digest_of(MESSAGE, "332", "Dudley Metropolitan Borough Council", MADE_AT, [raised(alert())])
    assert subject(digest) == "EHC plans: 1 missed"
    assert text(digest, "https://ehcp.council.example/").splitlines() == [
        "Dudley Metropolitan Borough Council",
        "",
        "Missed: the newest version has not arrived by its due time",
        # 08:00 UTC is 09:00 in London in July.
        f"- plan {PLAN} to commissioning body through health; due 3 July 2026 09:00, 3 days late",
        f"  https://ehcp.council.example/plans/{PLAN}",
        "",
        "Links ask you to sign in. This message names no child.",
    ]


def test_digest_of_many() -> None:
    missed = [alert(due=timedelta(hours=-1)) for _ in range(140)]
    refused, came = alert(AlertKind.REFUSED, timedelta(days=1)), alert()
    notices = [*map(raised, missed), raised(refused), raised(came), Notice(came, ClearedBecause.SATISFIED)]
    digest = digest_of(MESSAGE, "332", "Dudley", MADE_AT, notices)
    assert subject(digest) == "EHC plans: 140 missed, 1 refused, 1 cleared"
    lines = text(digest, None).splitlines()
    assert "- and 40 more" in lines
    assert sum(line.startswith(f"- plan {PLAN}") for line in lines) == 102
    assert f"- plan {PLAN} to commissioning body through health (missed): it has arrived" in lines
    assert not any("late" in line for line in lines)


def test_a_recall_that_is_open_and_one_that_is_over() -> None:
    recall = UUID("0197d000-0000-7000-8000-00000000000a")

    def of_level(level: int, outstanding: dict[str, int], hours: int) -> Alert:
        return Alert(
            uuid4(), AlertKind.RECALL, "332", PLAN, None, None, None, None, MADE_AT + timedelta(hours=hours), MADE_AT, None,
            "UK GDPR art. 33(1), (5)", None, recall_id=recall, level=level, outstanding=outstanding,
        )  # fmt: skip

    over = Notice(of_level(1, {"health": 1}, 60), ClearedBecause.SATISFIED)
    open_ = [raised(of_level(2, {"health": 2, "school": 1}, 30)), raised(of_level(5, {"school": 1}, -1))]
    digest = digest_of(MESSAGE, "332", "Dudley", MADE_AT, [*open_, over])
    assert subject(digest) == "EHC plans: 2 recall, 1 cleared"
    lines = text(digest, None).splitlines()
    assert lines[2:5] == [
        "Recall: copies that must go are not proved to be gone",
        f"- plan {PLAN}, recall {recall}, level 2: 3 copies outstanding (health 2, school 1); report the breach by 7 July 2026 "
        "15:00 (UK GDPR art. 33(1), (5); 30 h left)",
        f"- plan {PLAN}, recall {recall}, level 5: 1 copy outstanding (school 1); report the breach by 6 July 2026 08:00 "
        "(UK GDPR art. 33(1), (5); the time has run out)",
    ]
    assert lines[7].endswith("(recall): all copies are proved to be gone")


def test_recipient_without_subscriber() -> None:
    nobody = Alert(
        uuid4(), AlertKind.UNDELIVERABLE, "332", PLAN, uuid4(), 1, RecipientKind.YOUNG_PERSON, None, MADE_AT, MADE_AT
    )
    lines = text(digest_of(MESSAGE, "332", "Dudley", MADE_AT, [raised(nobody)]), None)
    assert f"- plan {PLAN} to young person; due 6 July 2026 09:00\n" in lines


def of_plan(kind: AlertKind, due_at: datetime, clock: str | None = None, reference: str | None = None) -> Alert:
    return Alert(uuid4(), kind, "332", PLAN, None, None, None, None, due_at, MADE_AT, clock, reference, "R-7")


def test_alerts_of_a_plan() -> None:
    midnight = datetime(2026, 7, 3, 23, 0, tzinfo=UTC)  # the end of 3 July in London
    soon = of_plan(AlertKind.DUE_SOON, midnight + timedelta(days=7), "review_report", "SEND Regs 2014 regs 20, 21(7)")
    overdue = of_plan(AlertKind.OVERDUE, midnight, "review_report", "SEND Regs 2014 regs 20, 21(7)")
    gap = of_plan(AlertKind.SHARE_GAP, MADE_AT - timedelta(days=9))
    waits = of_plan(AlertKind.UNCONFIRMED, MADE_AT)
    settled = [raised(waits), Notice(waits, ClearedBecause.SETTLED)]
    digest = digest_of(MESSAGE, "332", "Dudley", MADE_AT, [raised(soon), raised(overdue), raised(gap), *settled])
    assert subject(digest) == "EHC plans: 1 due soon, 1 overdue, 1 share gap, 1 cleared"
    must = f"- plan {PLAN}: The report of the meeting is written and sent (SEND Regs 2014 regs 20, 21(7))"
    assert text(digest, None).splitlines()[1:-2] == [
        "",
        "Due soon: the law's time for it runs out",
        f"{must}; due 10 July 2026",
        "",
        "Overdue: the law's time for it has run out",
        f"{must}; due 3 July 2026, 3 days late",
        "",
        "Share gap: somebody involved in the plan has no share of it",
        f"- plan {PLAN}; since 27 June 2026",
        "",
        "Cleared",
        f"- plan {PLAN} (unconfirmed): it has been done, or is not to be done any more",
    ]


def of_council(kind: AlertKind, **said: Any) -> Alert:
    values: dict[str, Any] = {"plan_id": None, "subscriber": None} | said
    plan_id, subscriber = values.pop("plan_id"), values.pop("subscriber")
    return Alert(uuid4(), kind, "332", plan_id, None, None, None, subscriber, MADE_AT, MADE_AT, **values)


def test_alerts_of_a_council_and_of_its_subscribers() -> None:
    alerts = [
        of_council(AlertKind.DIFFERS, plan_id=PLAN, about="ceased_there"),
        of_council(AlertKind.NOT_HERE, count=3120),
        of_council(AlertKind.SILENT, subscriber="health"),
        of_council(AlertKind.STOPPED, subscriber="health", about="ehcp.shares.health.v1"),
        of_council(AlertKind.RECORDS_DIFFER, subscriber="health", about="missing_from_record"),
    ]
    digest = digest_of(MESSAGE, "332", "Dudley", MADE_AT, [raised(each) for each in alerts])
    assert subject(digest) == "EHC plans: 1 differs, 1 not here, 1 silent, 1 stopped, 1 records differ"
    lines = [line for line in text(digest, "https://ehcp.council.example").splitlines() if line.startswith((" ", "-"))]
    assert lines == [
        f"- plan {PLAN}: over there, in force here; since 6 July 2026",
        f"  https://ehcp.council.example/plans/{PLAN}",
        "- 3120 plans; since 6 July 2026",
        "- subscriber health; since 6 July 2026 09:00",
        "- subscriber health, topic ehcp.shares.health.v1; since 6 July 2026 09:00",
        "- subscriber health, missing from record; since 6 July 2026 09:00",
    ]


def test_a_clock_that_was_repealed_while_it_ran_is_told_by_its_name() -> None:
    repealed = of_plan(AlertKind.OVERDUE, MADE_AT, "review_by_owl", "old Act")
    assert f"- plan {PLAN}: review by owl (old Act); due 6 July 2026" in text(
        digest_of(MESSAGE, "332", "Dudley", MADE_AT, [raised(repealed)]), None
    )


@pytest.mark.parametrize(
    ("setting", "recipients"),
    [
        ("", {}),
        ("send@dudley.example", {None: ["send@dudley.example"]}),
        ("a@x.example, b@x.example", {None: ["a@x.example", "b@x.example"]}),
        ("332=a@x.example, 333=b@y.example,c@z.example",
         {"332": ["a@x.example"], "333": ["b@y.example"], None: ["c@z.example"]}),
    ],
)  # fmt: skip
def test_addresses(setting: str, recipients: dict[str | None, list[str]]) -> None:
    assert read_addresses(setting) == recipients


@pytest.mark.parametrize("setting", ["nobody", "33=a@x", "a@x; b@x", "a@x\nBcc: b@y", "332="])
def test_what_is_no_address_is_refused_at_start(setting: str) -> None:
    with pytest.raises(AddressesError):
        read_addresses(setting)


def test_a_password_never_goes_in_clear() -> None:
    assert MailServer("mail.example", 25).start_tls is None
    assert MailServer("mail.example", 587, username="ehcp").start_tls is True
    assert MailServer("mail.example", 587, "starttls").start_tls is True
    assert MailServer("mail.example", 465, "tls").start_tls is False


def test_back_off_grows_to_five_minutes_and_stays() -> None:
    assert [back_off(attempts) for attempts in (1, 2, 3, 8, 9, 10_000)] == [2, 4, 8, 256, 300, 300]
