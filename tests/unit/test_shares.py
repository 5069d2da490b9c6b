"""Who should hold a plan, on what grounds, and by when: by law, and by the sharing policy that the council approved."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from schemas.base import Channel, Grounds, RecipientKind
from schemas.identifiers import OrganisationCode
from schemas.plan import Circumstances, SectionLetter
from services.ehcp_publisher import shares
from services.ehcp_publisher.registry import Directory, Registry
from services.ehcp_publisher.shares import Decision, Facts, Wanted

PLAN = UUID("0192f000-0000-7000-8000-000000000001")
FIRST = "CFA 2014 s.40(5), SEND Regs 2014 reg 13(2)"
AMENDED = "SEND Regs 2014 reg 22(3)"
APPROVAL = {"data_sharing_agreement": "DSA-1", "dpia": "DPIA-7", "from": "2014-09-01"}
DPIA = "children's health · DSA-1; DPIA-7 · involved-trusts"


def recipient(kind: str, name: str, *codes: str, subscriber: str = "school", channel: str = "inbox") -> dict[str, Any]:
    """Codes as ``scheme:value``, or ``scheme:value:from:until`` where the dates matter."""
    split = [(code + "::").split(":") for code in codes]
    return {
        "kind": kind, "name": name, "subscriber": subscriber, "channel": channel,
        "codes": [{"scheme": s, "value": v, "from": f or "2020-01-01", "until": u or None} for s, v, f, u, *_ in split],
        "areas": ["332"],
    }  # fmt: skip


REGISTRY: dict[str, Any] = {
    "councils": [{"la_code": "332", "name": "Dudley", "ods_code": "408"}],
    "recipients": [
        recipient("school", "Primary", "urn:100001", "laestab:3320001"),
        recipient("school", "Secondary", "urn:100002"),
        recipient("college", "College", "ukprn:10000001"),
        recipient("early_years", "Nursery", "urn:100003"),
        recipient("commissioning_body", "Old ICB", "ods:QUX:2013-04-01:2022-06-30", subscriber="health"),
        recipient("commissioning_body", "ICB", "ods:QUA:2022-07-01:", subscriber="health"),
        recipient("trust", "Trust", "ods:RNA", subscriber="health", channel="fhir"),
        recipient("social_care", "Social care", "la:332", subscriber="social-care", channel="webhook"),
    ],
    "policies": [
        {
            "la_code": "332",
            "approval": APPROVAL,
            "rules": [
                {
                    "rule": "involved-trusts",
                    "share_with": {"involved": {"kinds": ["trust"]}},
                    "lawful_basis": "children's health",
                    "reason": "gives care to the child",
                }
            ],
        }
    ],
}
DIRECTORY = Directory(Registry.model_validate(REGISTRY))
PARENTS: list[dict[str, Any]] = [
    {"reference": "M1", "role": "parent", "name": "Ann Example"},
    {"reference": "F1", "role": "parent", "name": "Ben Example"},
]


def facts(first: bool = True, la_code: str = "332", born: str = "2012-03-04", **parts: Any) -> Facts:
    circumstances = Circumstances.model_validate(parts)
    return Facts(PLAN, la_code, circumstances, date.fromisoformat(born), date(2026, 2, 10), first, (SectionLetter.A,))


def decide(on: str = "2026-02-10", **parts: Any) -> tuple[Wanted, ...]:
    return shares.decide(facts(**parts), DIRECTORY, date.fromisoformat(on)).wanted


def code(text: str) -> dict[str, str]:
    scheme, _, value = text.partition(":")
    return {"scheme": scheme, "value": value}


def placed(setting: str, from_: str = "2026-02-10", until: str | None = None) -> dict[str, Any]:
    return {"setting": code(setting), "from": from_, "until": until}


def told(wanted: tuple[Wanted, ...]) -> dict[str, list[tuple[str, str]]]:
    """By name of the recipient: (kind of grounds, reference)."""
    assert len({each.recipient.recipient_id for each in wanted}) == len(wanted)
    return {each.recipient.name: [(g.grounds.value, g.reference) for g in each.grounds] for each in wanted}


def test_statutory_recipients_of_a_first_plan() -> None:
    wanted = decide(
        family=PARENTS,
        placements=[placed("urn:100001")],
        commissioning_bodies=[code("ods:QUA")],
    )
    assert told(wanted) == {
        "parent M1": [("statutory", FIRST)],
        "parent F1": [("statutory", FIRST)],
        "Primary": [("statutory", FIRST)],
        "ICB": [("statutory", FIRST)],
    }
    assert not any(each.unknown for each in wanted)


def test_rights_pass_to_the_young_person_at_the_end_of_compulsory_school_age() -> None:
    """Born on 4 March 2010: sixteen in March 2026, and the last Friday in June 2026 is the 26th."""
    family = [*PARENTS, {"reference": "Y1", "role": "young_person", "name": "Cy Example"}]
    assert told(decide(born="2010-03-04", on="2026-06-25", family=family)).keys() == {"parent M1", "parent F1"}
    assert told(decide(born="2010-03-04", on="2026-06-26", family=family)).keys() == {"young person Y1"}
    before = shares.decide(facts(born="2010-03-04", family=family), DIRECTORY, date(2026, 6, 25))
    assert before.next_on == date(2026, 6, 26)


def test_a_parent_who_acts_for_a_young_person_without_capacity_keeps_the_plan() -> None:
    family = [
        PARENTS[0] | {"acts_for_young_person": True}, PARENTS[1],
        {"reference": "Y1", "role": "young_person", "name": "Cy Example"},
    ]  # fmt: skip
    assert told(decide(born="2008-03-04", family=family)).keys() == {"young person Y1", "parent M1"}


def test_a_detained_childs_plan_goes_to_the_establishment_and_the_youth_offending_service() -> None:
    wanted = decide(detained_at=code("urn:100009"), commissioning_bodies=[code("ods:QUA")])
    detained = "SI 2015/62 reg 13(2)"
    assert told(wanted) == {
        "ICB": [("statutory", FIRST), ("statutory", detained)],
        "urn:100009 (not in the directory)": [("statutory", detained)],
        "la:332 (not in the directory)": [("statutory", detained)],
    }


def test_whoever_is_involved_and_gets_no_share_is_a_gap() -> None:
    involved = [
        {"role": "advice", "organisation": code("ods:RNA"), "profession": "Physiotherapist"},
        {"role": "advice", "organisation": code("la:332")},
        {"role": "provision", "organisation": code("ods:RXX")},
        {"role": "named_professional", "profession": "Community nurse", "name": "Jo Example"},
    ]
    gaps = shares.decide(facts(involved=involved), DIRECTORY, date(2026, 2, 10)).gaps
    assert [(gap.who, gap.reason) for gap in gaps] == [
        ("advice: social_care la:332", "no rule of the sharing policy covers it"),
        ("provision: ods:RXX", "it is not in the directory"),
        ("named professional 1", "no organisation is recorded"),
    ]


def test_both_virtual_schools_of_a_looked_after_child_are_gaps_where_no_rule_covers_them() -> None:
    gaps = shares.decide(facts(looked_after_by="332", resident_in="333"), DIRECTORY, date(2026, 2, 10)).gaps
    assert {gap.who for gap in gaps} == {"virtual school of 332", "virtual school of 333"}


def test_an_organisation_of_another_area_waits_for_a_second_person() -> None:
    other = recipient("school", "Elsewhere", "urn:100005") | {"areas": ["931"]}
    directory = Directory(Registry.model_validate(REGISTRY | {"recipients": [*REGISTRY["recipients"], other]}))
    around, on = facts(placements=[placed("urn:100005"), placed("urn:100001")]), date(2026, 2, 10)
    decided = shares.decide(around, directory, on)
    assert told(decided.wanted).keys() == {"Primary"}
    (unusual,) = decided.unconfirmed
    assert (unusual.recipient.name, unusual.reason) == ("Elsewhere", "it serves other areas than 332: 931")
    recipient_id = unusual.recipient.recipient_id
    confirmed = shares.decide(replace(around, confirmed={recipient_id: True}), directory, on)
    assert told(confirmed.wanted).keys() == {"Primary", "Elsewhere"}
    refused = shares.decide(replace(around, confirmed={recipient_id: False}), directory, on)
    assert told(refused.wanted).keys() == {"Primary"}
    assert refused.unconfirmed == ()


def waits(directory: Directory, around: Facts) -> list[tuple[str, bool]]:
    return [(each.recipient.name, each.once) for each in shares.decide(around, directory, date(2026, 2, 10)).unconfirmed]


def test_an_organisation_that_only_the_plan_names_waits_the_first_time_that_the_council_shares_with_it() -> None:
    """It is not known to serve the area, so its code may be a typing error; a policy's rule of a kind does not name it."""
    everywhere = [each | {"areas": []} for each in REGISTRY["recipients"]]
    named = {
        "rule": "the-service", "share_with": {"organisation": {"kind": "social_care", **code("la:332")}}, "lawful_basis": "x",
        "reason": "x",
    }  # fmt: skip
    (policy,) = REGISTRY["policies"]
    policies = [policy | {"rules": [*policy["rules"], named]}]
    directory = Directory(Registry.model_validate(REGISTRY | {"recipients": everywhere, "policies": policies}))
    trust = [{"role": "advice", "organisation": code("ods:RNA")}]
    around = facts(involved=trust, placements=[placed("urn:100001")], commissioning_bodies=[code("ods:QUA")])
    decided = shares.decide(around, directory, date(2026, 2, 10))
    assert told(decided.wanted).keys() == {"Primary", "ICB", "Social care"}, "by law, and by name in the policy"
    assert [each.reason for each in decided.unconfirmed] == ["council 332 has not shared with it before, and no law names it"]
    assert waits(directory, around) == [("Trust", True)]
    assert decided.gaps == (), "it waits, and is no gap"
    college = Decision(
        uuid4(),
        share=True,
        code=OrganisationCode.model_validate(code("ukprn:10000001")),
        lawful_basis="consent",
        reason="asked",
        until=None,
    )
    assert waits(directory, replace(facts(), decisions=(college,))) == [("College", True)]
    (unusual,) = decided.unconfirmed
    recipient_id = unusual.recipient.recipient_id
    assert waits(directory, replace(around, confirmed={recipient_id: True})) == []
    directory.familiar["332"] = {recipient_id}
    assert waits(directory, around) == []
    refused = shares.decide(replace(around, confirmed={recipient_id: False}), directory, date(2026, 2, 10))
    assert "Trust" not in told(refused.wanted), "for this plan it was refused before it became familiar"


def test_what_is_owed_by_law_does_not_wait_for_being_familiar() -> None:
    around = facts(placements=[placed("ukprn:10000001")])
    everywhere = [each | {"areas": []} for each in REGISTRY["recipients"]]
    directory = Directory(Registry.model_validate(REGISTRY | {"recipients": everywhere}))
    assert waits(directory, around) == []


def test_a_decision_shares_with_somebody_until_its_last_day_or_keeps_the_plan_from_somebody() -> None:
    gp = Decision(uuid4(), share=True, code=OrganisationCode.model_validate(code("ods:RNA")),
                  lawful_basis="consent", reason="asked by the family",
                  until=date(2026, 3, 1))  # fmt: skip
    around = replace(facts(), decisions=(gp,))
    assert told(shares.decide(around, DIRECTORY, date(2026, 3, 1)).wanted) == {"Trust": [("decision", "consent")]}
    assert shares.decide(around, DIRECTORY, date(2026, 3, 2)).wanted == ()
    assert shares.decide(around, DIRECTORY, date(2026, 2, 10)).next_on == date(2026, 3, 2)
    (school,) = decide(placements=[placed("urn:100001")])
    kept = Decision(
        school.recipient.recipient_id, share=False, code=None, lawful_basis="recall", reason="wrong recipient", until=None
    )
    around = replace(facts(placements=[placed("urn:100001")]), decisions=(kept,))
    assert shares.decide(around, DIRECTORY, date(2026, 2, 10)).wanted == ()
    until = replace(around, decisions=(replace(kept, until=date(2026, 3, 1)),))
    assert shares.decide(until, DIRECTORY, date(2026, 3, 1)).wanted == ()
    assert told(shares.decide(until, DIRECTORY, date(2026, 3, 2)).wanted).keys() == {"Primary"}


def test_what_the_law_owes_and_a_person_holds_back_is_a_gap() -> None:
    """A school that was once a wrong recipient may be the child's by now; nobody would miss it otherwise."""
    family = [{"reference": "M1", "role": "parent", "name": "Ann Example"}]
    around = facts(placements=[placed("urn:100001")], family=family)
    kept = tuple(
        Decision(
            each.recipient.recipient_id, share=False, code=None, lawful_basis="recall", reason="wrong_recipient", until=None
        )
        for each in shares.decide(around, DIRECTORY, date(2026, 2, 10)).wanted
    )
    decided = shares.decide(replace(around, decisions=kept), DIRECTORY, date(2026, 2, 10))
    why = "a person keeps it from the plan"
    assert [(gap.who, gap.reason) for gap in decided.gaps] == [
        ("owed by law: parent", why), ("owed by law: school urn:100001", why),
    ]  # fmt: skip
    not_owed = replace(facts(), decisions=kept)
    assert shares.decide(not_owed, DIRECTORY, date(2026, 2, 10)).gaps == ()


def test_a_person_is_a_recipient_of_its_own_within_one_plan_and_carries_no_name() -> None:
    (wanted,) = decide(family=[{"reference": "M1", "role": "parent", "name": "Ann Example"}])
    assert wanted.recipient.recipient_id == uuid5(PLAN, "M1")
    assert (wanted.recipient.scheme, wanted.recipient.value) == ("recipient", str(uuid5(PLAN, "M1")))
    assert (wanted.recipient.subscriber, wanted.recipient.channel) == ("family", "manual")
    assert "Ann" not in wanted.recipient.name
    assert wanted.member is not None
    assert wanted.member.name == "Ann Example"


def test_both_schools_of_a_phase_transfer_hold_the_plan() -> None:
    """A plan finalised in February names September's school."""
    wanted = decide(placements=[placed("urn:100001", "2019-09-02", "2026-07-21"), placed("urn:100002", "2026-09-01")])
    assert told(wanted) == {"Primary": [("statutory", FIRST)], "Secondary": [("statutory", FIRST)]}
    grounds = {each.recipient.name: each.grounds[0] for each in wanted}
    assert (grounds["Primary"].from_, grounds["Primary"].until) == (date(2019, 9, 2), date(2026, 7, 21))
    assert (grounds["Secondary"].from_, grounds["Secondary"].until) == (date(2026, 9, 1), None)


def test_a_placement_that_has_ended_gives_no_grounds_but_its_last_day_does() -> None:
    assert decide(placements=[placed("urn:100001", "2019-09-02", "2026-02-09")]) == ()
    assert len(decide(placements=[placed("urn:100001", "2019-09-02", "2026-02-10")])) == 1


def test_a_type_of_setting_alone_is_nobody() -> None:
    assert decide(placements=[{"setting_type": "special school", "from": "2026-09-01"}]) == ()


def test_an_amended_plan_goes_to_the_same_under_its_own_regulation() -> None:
    wanted = decide(
        first=False,
        family=[{"reference": "M1", "role": "parent", "name": "Ann Example"}],
        placements=[placed("urn:100001"), placed("ukprn:10000001", "2026-09-01")],
        commissioning_bodies=[code("ods:QUA")],
    )
    assert told(wanted) == {
        "parent M1": [("statutory", AMENDED)],
        "Primary": [("statutory", AMENDED)],
        "College": [("statutory", AMENDED)],
        "ICB": [("statutory", AMENDED)],
    }


def test_early_years_keep_the_grounds_of_the_first_plan_since_reg_22_does_not_mention_them() -> None:
    for first in (True, False):
        wanted = decide(first=first, placements=[placed("urn:100003")])
        assert told(wanted) == {"Nursery": [("statutory", "SEND Regs 2014 reg 13(2)")]}


def test_several_commissioning_bodies_and_only_codes_that_hold_on_the_day() -> None:
    both = decide(commissioning_bodies=[code("ods:QUA"), code("ods:QUX")])
    assert [(each.recipient.name, each.unknown) for each in both] == [
        ("ICB", False), ("ods:QUX (not in the directory)", True),
    ]  # fmt: skip
    then = decide(on="2022-06-30", commissioning_bodies=[code("ods:QUX")])
    assert [(each.recipient.name, each.unknown) for each in then] == [("Old ICB", False)]


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"placements": [placed("urn:999999")]}, RecipientKind.SCHOOL),
        ({"commissioning_bodies": [code("ods:XXX")]}, RecipientKind.COMMISSIONING_BODY),
        # A trust's code where a commissioning body is asked for is not that body.
        ({"commissioning_bodies": [code("ods:RNA")]}, RecipientKind.COMMISSIONING_BODY),
    ],
)
def test_an_unknown_code_is_kept_as_a_share_that_nobody_can_deliver(parts: dict[str, Any], kind: RecipientKind) -> None:
    """A duty does not lapse because of a wrong code."""
    (wanted,) = decide(**parts)
    assert wanted.unknown
    assert (wanted.recipient.kind, wanted.recipient.subscriber) == (kind, None)
    assert wanted.grounds[0].grounds is Grounds.STATUTORY
    assert decide(**parts)[0].recipient == wanted.recipient, "the same code is the same recipient each time"


def test_policy_shares_with_the_kinds_it_names_among_those_involved() -> None:
    wanted = decide(
        involved=[
            {"role": "advice", "organisation": code("ods:RNA"), "sections": ["K"]},
            {"role": "provision", "organisation": code("ods:RNA"), "sections": ["G"]},
            {"role": "advice", "organisation": code("la:332")},
            {"role": "named_professional", "name": "Dr Nobody"},
            {"role": "advice", "organisation": code("ods:ZZZ")},
        ]
    )
    assert told(wanted) == {"Trust": [("policy", DPIA)]}
    assert wanted[0].grounds[0].reason == "gives care to the child"


def test_another_councils_policy_does_not_count() -> None:
    assert decide(la_code="333", involved=[{"role": "advice", "organisation": code("ods:RNA")}]) == ()


def test_one_recipient_with_several_grounds_is_one_share() -> None:
    policies = [
        {
            "la_code": "332",
            "approval": APPROVAL,
            "rules": [
                {
                    "rule": "schools",
                    "share_with": {"involved": {"kinds": ["school"]}},
                    "lawful_basis": "education",
                    "reason": "teaches the child",
                }
            ],
        }
    ]
    directory = Directory(Registry.model_validate(REGISTRY | {"policies": policies}))
    around = facts(placements=[placed("urn:100001")], involved=[{"role": "advice", "organisation": code("urn:100001")}])
    wanted = shares.decide(around, directory, date(2026, 2, 10)).wanted
    assert told(wanted) == {"Primary": [("statutory", FIRST), ("policy", "education · DSA-1; DPIA-7 · schools")]}


def test_a_school_is_one_recipient_with_one_code_whichever_of_its_codes_a_version_names() -> None:
    """Its subscriber knows it by one address: an inbox of its own under a second code would be read by nobody."""
    (by_urn,) = decide(placements=[placed("urn:100001")])
    (by_laestab,) = decide(placements=[placed("laestab:3320001")])
    assert by_laestab.recipient == by_urn.recipient
    assert (by_urn.recipient.scheme, by_urn.recipient.value) == ("urn", "100001")
    assert told(decide(placements=[placed("urn:100001"), placed("laestab:3320001")])) == {"Primary": [("statutory", FIRST)]}


FRIDAY = datetime(2026, 2, 13, 16, 30, tzinfo=UTC)


@pytest.mark.parametrize("channel", [Channel.FHIR, Channel.WEBHOOK])
def test_a_system_has_one_day_at_any_time(channel: Channel) -> None:
    assert shares.due_at(channel, FRIDAY) == datetime(2026, 2, 14, 16, 30, tzinfo=UTC)


@pytest.mark.parametrize("channel", [Channel.INBOX, Channel.MANUAL])
@pytest.mark.parametrize(
    ("requested", "due"),
    [
        (datetime(2026, 2, 9, 9, 0, tzinfo=UTC), datetime(2026, 2, 16, 9, 0, tzinfo=UTC)),  # Monday to Monday
        (FRIDAY, datetime(2026, 2, 20, 16, 30, tzinfo=UTC)),  # Friday to Friday
        (datetime(2026, 2, 14, 12, 0, tzinfo=UTC), datetime(2026, 2, 20, 12, 0, tzinfo=UTC)),  # Saturday to Friday
        (datetime(2026, 2, 15, 12, 0, tzinfo=UTC), datetime(2026, 2, 20, 12, 0, tzinfo=UTC)),  # Sunday to Friday
        (datetime(2026, 2, 11, 12, 0, tzinfo=UTC), datetime(2026, 2, 18, 12, 0, tzinfo=UTC)),  # Wednesday, over one weekend
    ],
)
def test_people_have_five_working_days(channel: Channel, requested: datetime, due: datetime) -> None:
    assert shares.due_at(channel, requested) == due
