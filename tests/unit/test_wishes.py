"""From what was decided to instructions: ``seq`` rises only where a wish differs; what must go is asked for until proved."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from schemas.base import Channel, Grounds, RecipientKind
from schemas.identifiers import CodeScheme
from schemas.notices import NoticeKind
from schemas.plan import SectionLetter
from services.ehcp_publisher import wishes
from services.ehcp_publisher.registry import Known
from services.ehcp_publisher.shares import Ground, Wanted
from services.ehcp_publisher.store import ALL_SECTIONS, Share, Wish
from services.ehcp_publisher.wishes import Asking, Current, Made, RenderingNeededError, Thing

A, B, C = SectionLetter.A, SectionLetter.B, SectionLetter.C
PLAN, AT = uuid4(), datetime(2026, 6, 15, 9, 30, tzinfo=UTC)
ASKING = Asking(PLAN, "332", 1, AT, timedelta(minutes=1))
SCHOOL = Known(uuid4(), RecipientKind.SCHOOL, CodeScheme.URN, "100001", "School", "school", Channel.INBOX)
TRUST = Known(uuid4(), RecipientKind.TRUST, CodeScheme.ODS, "RNA", "Trust", "health", Channel.FHIR)
GROUND = (Ground(Grounds.STATUTORY, "law", "named", date(2026, 2, 10)),)
OLD, NEW = uuid4(), uuid4()
WHOLE = Thing(NEW, uuid4(), "ab" * 32, 2, date(2026, 3, 2), (A, B, C))
PART = Thing(NEW, uuid4(), "cd" * 32, 2, date(2026, 3, 2), (A, B))
NOW = Current({ALL_SECTIONS: WHOLE, "A B": PART}, (C,))


def wanted(known: Known = SCHOOL, sections: tuple[SectionLetter, ...] | None = None) -> Wanted:
    return Wanted(known, GROUND, sections=sections)


def stands(known: Known = SCHOOL, **changes: Any) -> Share:
    """What stands: the current version, whole, said once."""
    share = Share(
        uuid4(), PLAN, known.recipient_id, 1, "hold", known, "332", known.subscriber, NEW, None, WHOLE.rendering_id, 1, (),
        satisfied=False,
    )  # fmt: skip
    return replace(share, **changes)


def make(want: list[Wanted], standing: list[Share], remove: dict[UUID, tuple[UUID, ...]] | None = None) -> list[Wish]:
    return wishes.make(ASKING, want, standing, NOW, remove or {}).wishes


def said(wish: Wish) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(wish.data)
    assert (data["seq"], data["share_id"]) == (wish.seq, str(wish.share_id))
    return data


def test_a_new_share_is_said_with_all_that_it_holds() -> None:
    (wish,) = make([wanted()], [])
    assert (wish.seq, wish.action, wish.subscriber, wish.grounds) == (1, "hold", "school", GROUND)
    data = said(wish)
    assert (data["version_id"], data["sections"], data["changed_sections"]) == (str(NEW), ["A", "B", "C"], ["A", "B", "C"])
    assert (data["remove"], data["notice"], data["dataref"]) == ([], None, "/v1/documents/read")
    assert wish.check_at == AT + timedelta(minutes=1)


def test_what_stands_is_not_said_again() -> None:
    made = wishes.make(ASKING, [wanted()], [stands(seq=7)], NOW)
    assert made.wishes == []
    assert [(each["seq"], each["recipient"]) for each in made.answers] == [(7, "School")]


@pytest.mark.parametrize(
    "changes",
    [
        {"version_id": OLD}, {"rendering_id": uuid4()}, {"action": "withdraw"}, {"action": "recall"}, {"subscriber": "other"},
        {"subscriber": None}, {"identity_revision": 2}, {"la_code": "333"}, {"removing": (OLD,), "version_id": OLD},
    ],
)  # fmt: skip
def test_every_difference_is_said_once_under_the_next_seq(changes: dict[str, Any]) -> None:
    (wish,) = make([wanted()], [stands(seq=7, **changes)])
    assert (wish.seq, wish.action, wish.version_id, wish.la_code) == (8, "hold", NEW, "332")
    again = stands(seq=wish.seq, share_id=wish.share_id, removing=wish.removing)
    assert make([wanted()], [again]) == []


@pytest.mark.parametrize(
    ("share", "sections", "changed"),
    [
        (stands(version_id=OLD), None, ["C"]),
        (stands(version_id=OLD), (A, B), []),
        (stands(action="withdraw", version_id=OLD), None, ["A", "B", "C"]),
        (stands(action="recall", version_id=OLD), (A, B), ["A", "B"]),
        (stands(la_code="333"), None, []),
    ],
)
def test_what_is_new_to_this_recipient(share: Share, sections: tuple[SectionLetter, ...] | None, changed: list[str]) -> None:
    (wish,) = make([wanted(sections=sections)], [share])
    assert said(wish)["changed_sections"] == changed


def test_a_part_that_is_not_rendered_is_asked_for_before_anything_is_said() -> None:
    with pytest.raises(RenderingNeededError) as needed:
        make([wanted(), wanted(TRUST, (A, C))], [])
    assert needed.value.sections == {"A C"}


def test_who_is_not_wanted_is_withdrawn_once_where_the_last_instruction_went() -> None:
    moved = replace(SCHOOL, subscriber="another")
    (wish,) = make([], [stands(moved, subscriber="school")])
    assert (wish.action, wish.seq, wish.subscriber, said(wish)["remove"]) == ("withdraw", 2, "school", [])
    assert make([], [stands(seq=2, action="withdraw")]) == []


# --- what must go ---


def test_a_recalled_version_goes_and_the_current_one_takes_its_place() -> None:
    share = stands(version_id=OLD)
    (wish,) = make([wanted()], [share], {share.share_id: (OLD,)})
    assert (wish.action, wish.version_id, wish.removing, said(wish)["remove"]) == ("hold", NEW, (OLD,), [str(OLD)])


def test_it_is_asked_for_with_every_wish_until_it_is_proved() -> None:
    asked = stands(seq=2, removing=(OLD,))
    assert make([wanted()], [asked]) == []
    newer = replace(asked, version_id=uuid4())
    assert make([wanted()], [newer])[0].removing == (OLD,)
    proved = replace(newer, satisfied=True)
    assert make([wanted()], [proved])[0].removing == ()
    assert make([wanted()], [replace(asked, satisfied=True)]) == [], "a removal that is proved is nothing new to say"


def test_it_goes_from_who_is_not_wanted_any_more_too() -> None:
    for action in ("hold", "withdraw"):
        share = stands(version_id=OLD, action=action)
        (wish,) = make([], [share], {share.share_id: (OLD,)})
        assert (wish.action, wish.type, wish.removing) == ("recall", "ehcp.share.recalled.v1", (OLD,))


def test_a_recall_that_stands_is_not_said_again_unless_it_is_ordered_again_after_its_proof() -> None:
    share = stands(action="recall", removing=(OLD,), seq=2)
    assert make([], [share]) == []
    assert make([], [share], {share.share_id: (OLD,)}) == []
    proved = replace(share, satisfied=True)
    assert make([], [proved]) == []
    (wish,) = make([], [proved], {share.share_id: (OLD,)})
    assert (wish.seq, wish.removing) == (3, (OLD,))


def test_more_is_recalled_while_the_first_is_not_proved() -> None:
    share = stands(action="recall", removing=(OLD,), seq=2)
    (wish,) = make([], [share], {share.share_id: (NEW,)})
    assert (wish.action, wish.seq, wish.removing) == ("recall", 3, (OLD, NEW))


def test_a_recall_is_said_in_the_new_councils_name() -> None:
    share = stands(action="recall", removing=(OLD,), seq=2, la_code="333")
    (wish,) = make([], [share])
    assert (wish.la_code, wish.seq, wish.removing) == ("332", 3, (OLD,))


def test_nobody_is_to_hold_and_remove_one_version() -> None:
    share = stands(action="recall", removing=(OLD, NEW), seq=2)
    (wish,) = make([wanted()], [share])
    assert (wish.action, wish.version_id, wish.removing) == ("hold", NEW, (OLD,))


def test_without_a_current_version_nobody_holds_anything() -> None:
    share, other = stands(version_id=OLD), stands(TRUST, version_id=OLD)
    made = wishes.make(ASKING, [wanted()], [share, other], None, {share.share_id: (OLD,)})
    assert sorted(wish.action for wish in made.wishes) == ["recall", "withdraw"]
    assert made.answers == []


# --- notices ---


def test_a_notice_is_a_share_of_its_own_for_everyone_who_must_know() -> None:
    notice = Thing(uuid4(), uuid4(), "ef" * 32, 1, date(2026, 6, 1), notice=NoticeKind.CEASE_NOTICE)
    made: Made = wishes.tell(ASKING, [wanted(), wanted(TRUST)], notice)
    assert [(wish.seq, wish.action, wish.version_id, wish.notice_id) for wish in made.wishes] == [
        (1, "hold", None, notice.thing_id)
    ] * 2
    data = said(made.wishes[0])
    assert (data["notice"], data["version_id"], data["version"]) == ("cease_notice", str(notice.thing_id), 1)
    assert made.wishes[0].due_at > made.wishes[1].due_at, "people have five working days, a system one"


def test_who_has_the_recipient_again_is_asked_for_what_it_still_owes_and_nobody_else_is() -> None:
    share = stands(owed={"school": (OLD,), "health": (uuid4(),)}, satisfied=True)
    (wish,) = make([wanted()], [share])
    assert (wish.seq, wish.action, wish.removing) == (2, "hold", (OLD,))
    assert make([wanted()], [replace(share, removing=(OLD,), satisfied=False)]) == [], "it is asked for already"
    assert make([wanted()], [replace(share, owed={"school": (NEW,)})]) == [], "what it is to hold it need not remove"
    (gone,) = make([], [share])
    assert (gone.action, gone.removing) == ("recall", (OLD,))
