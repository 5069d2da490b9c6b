"""What a council's sharing policy gives for one plan, and what it says of every rule that gives nothing."""

from datetime import date
from typing import Any

import pytest

from schemas.plan import Circumstances, SectionLetter
from schemas.policy import SharingPolicy
from services.ehcp_publisher import policy
from services.ehcp_publisher.registry import Directory, Registry

ON = date(2026, 2, 10)
BORN = date(2015, 5, 6)
Letters = frozenset[SectionLetter] | None
ALL = frozenset(SectionLetter)


def code(text: str) -> dict[str, str]:
    scheme, _, value = text.partition(":")
    return {"scheme": scheme, "value": value}


def recipient(kind: str, name: str, *codes: str, **more: Any) -> dict[str, Any]:
    """Codes as ``scheme:value``, or ``scheme:value:from:until`` where the dates matter."""
    split = [(code + "::").split(":") for code in codes]
    return {
        "kind": kind, "name": name, "subscriber": "health", "channel": "inbox",
        "codes": [{"scheme": s, "value": v, "from": f or "2020-01-01", "until": u or None} for s, v, f, u, *_ in split],
    } | more  # fmt: skip


DIRECTORY = Directory(
    Registry.model_validate(
        {
            "councils": [{"la_code": "332", "name": "Dudley", "ods_code": "408"}],
            "recipients": [
                recipient("trust", "Trust", "ods:RNA"),
                recipient("camhs", "CAMHS of the trust", "ods:RNA"),
                recipient("therapies", "Therapies", "ods:RTH"),
                recipient("gp", "Old practice", "ods:M87001:2020-01-01:2025-03-31", successors=[code("ods:M87002")]),
                recipient("gp", "Practice", "ods:M87002"),
                recipient("social_care", "Social care", "la:332"),
                recipient("virtual_school", "Virtual school of Dudley", "la:332"),
                recipient("virtual_school", "Virtual school of Sandwell", "la:333", subscriber=None),
            ],
        }
    )
)  # fmt: skip

APPROVAL = {"data_sharing_agreement": "DSA-1", "dpia": "DPIA-7", "from": "2025-04-01", "until": "2027-03-31"}


def rule(name: str = "r1", **more: Any) -> dict[str, Any]:
    base = {"rule": name, "share_with": {"involved": {"kinds": ["trust"]}}, "lawful_basis": "health care", "reason": "cares"}
    return base | more


def read(*rules: dict[str, Any], approval: Any = APPROVAL) -> SharingPolicy:
    return SharingPolicy.model_validate({"la_code": "332", "approval": approval, "rules": rules})


def involved(organisation: str, role: str = "provision", *sections: str, kind: str | None = None) -> dict[str, Any]:
    return {"role": role, "kind": kind, "organisation": code(organisation), "sections": sections}


def shared(
    made: SharingPolicy, *, born: date | None = BORN, letters: Letters = ALL, on: date = ON, **around: Any
) -> list[tuple[str, str, str]]:
    """(recipient, rule, sections) of each share; what explaining says of the same plan must agree."""
    circumstances = Circumstances.model_validate(around)
    shares = policy.evaluate(made, circumstances, born, letters, DIRECTORY, on)
    explained = policy.explain(made, circumstances, born, letters, DIRECTORY, on)
    told = {(each.name, one.rule) for one in explained for each in one.recipients if each.shared}
    assert told == {(share.recipient.name, share.rule) for share in shares}
    return [(share.recipient.name, share.rule, "".join(share.sections) if share.sections else "whole") for share in shares]


def why_not(
    made: SharingPolicy, *, born: date | None = BORN, letters: Letters = ALL, on: date = ON, **around: Any
) -> tuple[str, ...]:
    """Of the first rule."""
    return policy.explain(made, Circumstances.model_validate(around), born, letters, DIRECTORY, on)[0].why_not


TRUST = [involved("ods:RNA", "provision", "G")]


def test_shares_with_who_is_involved_of_the_kinds_it_names() -> None:
    made = read(rule(share_with={"involved": {"kinds": ["trust", "therapies"]}}))
    people = [*TRUST, involved("ods:RTH", "advice", "K"), involved("la:332", "advice", "K"), involved("ods:ZZZ", "advice", "K")]
    assert shared(made, involved=people) == [("Trust", "r1", "whole"), ("Therapies", "r1", "whole")]


def test_a_recipient_named_twice_is_shared_with_once() -> None:
    assert shared(read(rule()), involved=[*TRUST, involved("ods:RNA", "advice", "K")]) == [("Trust", "r1", "whole")]


def test_a_share_says_its_basis_reason_approval_and_dates() -> None:
    made = read(rule(**{"from": "2025-09-01", "until": "2028-08-31"}))
    (share,) = policy.evaluate(made, Circumstances.model_validate({"involved": TRUST}), BORN, ALL, DIRECTORY, ON)
    assert (share.lawful_basis, share.reason, share.approval) == ("health care", "cares", "DSA-1; DPIA-7")
    assert share.reference == "health care · DSA-1; DPIA-7 · r1"
    assert (share.from_, share.until) == (date(2025, 9, 1), date(2027, 3, 31))  # the later beginning, the earlier end


@pytest.mark.parametrize(
    ("approval", "why"),
    [
        (None, "the policy names no approval"),
        ({"dpia": "DPIA-7", "from": "2025-04-01"}, "the approval names no data sharing agreement"),
        (
            {"data_sharing_agreement": "DSA-1", "from": "2025-04-01"},
            "the approval names no data protection impact assessment (dpia)",
        ),
        (APPROVAL | {"from": "2026-02-11"}, "the approval is in force only from 2026-02-11"),
        (APPROVAL | {"until": "2026-02-09"}, "the approval ended on 2026-02-09"),
    ],
)
def test_without_an_approval_in_force_nothing_is_shared_and_it_says_so(approval: Any, why: str) -> None:
    made = read(rule(), approval=approval)
    assert shared(made, involved=TRUST) == []
    assert made.off(ON) == why
    assert why_not(made, involved=TRUST) == (why,)


@pytest.mark.parametrize(("on", "count"), [("2025-04-01", 1), ("2027-03-31", 1), ("2025-03-31", 0), ("2027-04-01", 0)])
def test_first_and_last_day_of_the_approval_count(on: str, count: int) -> None:
    assert len(shared(read(rule()), involved=TRUST, on=date.fromisoformat(on))) == count


@pytest.mark.parametrize(
    ("when", "around", "why"),
    [
        ({"has_content": ["G", "H1"]}, {"letters": frozenset({SectionLetter.G})}, None),
        ({"has_content": ["G", "H1"]}, {"letters": frozenset({SectionLetter.F})}, "the plan has nothing in section G or H1"),
        ({"has_content": ["G"]}, {"letters": None}, "the version is a document without separate sections"),
        ({"age": {"from": 10}}, {}, None),
        ({"age": {"until": 10}}, {}, None),
        ({"age": {"from": 11}}, {}, "the child is not 11 to 26 years old"),
        ({"age": {"from": 11}}, {"born": date(2015, 2, 10)}, None),  # the birthday itself
        ({"age": {"until": 10}}, {"born": None}, "the child's age is not known"),
        ({"phase": ["primary"]}, {}, None),
        ({"phase": ["secondary", "post_16"]}, {}, "the child is not in secondary or post_16"),
        ({"phase": ["primary"]}, {"born": None}, "the child's phase of education is not known"),
        ({"looked_after": "by_this_council"}, {"looked_after_by": "332"}, None),
        ({"looked_after": "by_this_council"}, {"looked_after_by": "333"}, "this council does not look after the child"),
        ({"looked_after": "by_another_council"}, {"looked_after_by": "333"}, None),
        ({"looked_after": "by_another_council"}, {}, "no other council looks after the child"),
        ({"looked_after": "by_any_council"}, {"looked_after_by": "333"}, None),
        ({"looked_after": "by_none"}, {}, None),
        ({"looked_after": "by_none"}, {"looked_after_by": "332"}, "a council looks after the child"),
        ({"resident": "here"}, {}, None),
        ({"resident": "here"}, {"resident_in": "332"}, None),
        ({"resident": "elsewhere"}, {"resident_in": "333"}, None),
        ({"resident": "elsewhere"}, {}, "the child lives in this council's area"),
        ({"detained": True}, {"detained_at": {"scheme": "urn", "value": "999999"}}, None),
        ({"detained": True}, {}, "the child is not detained"),
        ({"detained": False}, {}, None),
        ({"involved": {"kinds": ["social_care"]}}, {}, "nobody of this kind, role and section is involved"),
        ({"involved": {"kinds": ["trust"], "roles": ["provision"], "sections": ["G"]}}, {}, None),
        ({"involved": {"kinds": ["trust"], "roles": ["advice"]}}, {}, "nobody of this kind, role and section is involved"),
        ({"involved": {"kinds": ["trust"], "sections": ["H1"]}}, {}, "nobody of this kind, role and section is involved"),
    ],
)
def test_each_condition(when: dict[str, Any], around: dict[str, Any], why: str | None) -> None:
    made = read(rule(when=when))
    assert shared(made, **{"involved": TRUST, **around}) == ([("Trust", "r1", "whole")] if why is None else [])
    assert why_not(made, **{"involved": TRUST, **around}) == (() if why is None else (why,))


def test_all_conditions_must_be_true_and_all_that_are_not_are_said() -> None:
    made = read(rule(when={"detained": True, "looked_after": "by_any_council", "age": {"from": 10}}))
    assert why_not(made, involved=TRUST) == ("no council looks after the child", "the child is not detained")


@pytest.mark.parametrize(
    ("born", "on", "phase"),
    [
        # Born on 31 August 2021: reception from 1 September 2025, year 7 from 2032, year 12 from 2037.
        ("2021-08-31", "2025-08-31", "early_years"),
        ("2021-08-31", "2025-09-01", "primary"),
        ("2021-08-31", "2032-08-31", "primary"),
        ("2021-08-31", "2032-09-01", "secondary"),
        ("2021-08-31", "2037-08-31", "secondary"),
        ("2021-08-31", "2037-09-01", "post_16"),
        # A day younger: a year later.
        ("2021-09-01", "2026-08-31", "early_years"),
        ("2021-09-01", "2026-09-01", "primary"),
    ],
)
def test_the_phase_follows_from_the_date_of_birth(born: str, on: str, phase: str) -> None:
    assert policy.phase_on(date.fromisoformat(born), date.fromisoformat(on)) == phase


def test_a_person_involved_without_a_code_fulfils_a_condition_and_is_no_recipient() -> None:
    person = [{"role": "advice", "kind": "camhs", "name": "Dr Example"}]
    gp = {"organisation": {"kind": "gp", "scheme": "ods", "value": "M87002"}}
    assert shared(read(rule(when={"involved": {"kinds": ["camhs"]}}, share_with=gp)), involved=person) == [
        ("Practice", "r1", "whole")
    ]
    assert shared(read(rule(share_with={"involved": {"kinds": ["camhs"]}})), involved=person) == []


def test_what_is_said_of_a_trusts_camhs_is_not_said_of_the_trust() -> None:
    camhs = [involved("ods:RNA", "advice", "K", kind="camhs")]
    assert shared(read(rule()), involved=camhs) == []
    assert shared(read(rule(share_with={"involved": {"kinds": ["trust", "camhs"]}})), involved=camhs) == [
        ("CAMHS of the trust", "r1", "whole")
    ]


def test_the_virtual_schools_of_both_councils() -> None:
    made = read(
        rule("carer", share_with={"of_council": {"kind": "virtual_school", "council": "looked_after_by"}}),
        rule("home", share_with={"of_council": {"kind": "virtual_school", "council": "resident_in"}}),
    )
    assert shared(made, looked_after_by="333") == [
        ("Virtual school of Sandwell", "carer", "whole"), ("Virtual school of Dudley", "home", "whole"),
    ]  # fmt: skip
    assert shared(made, looked_after_by="332", resident_in="333") == [
        ("Virtual school of Dudley", "carer", "whole"), ("Virtual school of Sandwell", "home", "whole"),
    ]  # fmt: skip
    assert shared(made, resident_in="999") == []
    explained = policy.explain(made, Circumstances(resident_in="999"), BORN, ALL, DIRECTORY, ON)
    assert [(each.code, each.why) for each in explained[1].recipients] == [("la:999", "la:999 is not in the directory")]


def test_a_share_that_nobody_can_deliver_is_said_to_be_one() -> None:
    made = read(rule(share_with={"of_council": {"kind": "virtual_school", "council": "looked_after_by"}}))
    (explained,) = policy.explain(made, Circumstances(looked_after_by="333"), BORN, ALL, DIRECTORY, ON)
    assert explained.recipients[0].why == "shared, but nobody delivers to it: it has no subscriber"


def test_two_rules_that_give_different_sections_give_both() -> None:
    made = read(
        rule("health", sections=["G", "C"]), rule("views", when={"age": {"from": 5}}, sections=["A"]),
    )  # fmt: skip
    assert shared(made, involved=TRUST) == [("Trust", "health", "ACG"), ("Trust", "views", "ACG")]


def test_the_whole_and_some_sections_is_the_whole() -> None:
    made = read(rule("some", sections=["G"]), rule("all", when={"age": {"from": 5}}))
    assert shared(made, involved=TRUST) == [("Trust", "some", "whole"), ("Trust", "all", "whole")]


def test_no_part_of_a_document_without_sections_is_shared() -> None:
    """Nobody could say where section G ends, so "section G" would be everything."""
    made = read(rule(sections=["G"]))
    assert shared(made, involved=TRUST, letters=None) == []
    assert why_not(made, involved=TRUST, letters=None) == (
        "it gives some sections only, and the version is a document without separate sections",
    )
    assert shared(read(rule()), involved=TRUST, letters=None) == [("Trust", "r1", "whole")]


def test_sections_without_content_are_no_share() -> None:
    made = read(rule(sections=["H1", "H2"]))
    assert why_not(made, involved=TRUST, letters=frozenset({SectionLetter.G})) == (
        "it gives only section H1 or H2, in which the plan has nothing",
    )


def test_an_exclusion_keeps_everyone_out_that_it_names_where_it_applies() -> None:
    made = read(
        rule("trusts"),
        rule("detained", when={"detained": True}, exclude=True, lawful_basis=None),
    )
    detained: dict[str, Any] = {"involved": TRUST, "detained_at": {"scheme": "urn", "value": "999999"}}
    assert shared(made, involved=TRUST) == [("Trust", "trusts", "whole")]
    assert shared(made, **detained) == []
    trusts, excluded = policy.explain(made, Circumstances.model_validate(detained), BORN, ALL, DIRECTORY, ON)
    assert [each.why for each in trusts.recipients] == ["excluded by rule detained"]
    assert [each.why for each in excluded.recipients] == ["excluded by this rule; what the law gives stays"]


@pytest.mark.parametrize(
    ("organisation", "kind", "why"),
    [
        ("ods:ZZZ", "gp", "ods:ZZZ is not in the directory"),
        ("ods:M87001", "gp", "ods:M87001 was valid only until 2025-03-31; its successor is ods:M87002"),
        ("ods:RNA", "gp", "ods:RNA is in the directory as camhs and trust, not as gp"),
    ],
)
def test_a_code_that_leads_to_nobody_is_explained(organisation: str, kind: str, why: str) -> None:
    made = read(rule(share_with={"involved": {"kinds": [kind]}}))
    people = [involved(organisation, kind=kind)]
    assert shared(made, involved=people) == []
    (explained,) = policy.explain(made, Circumstances.model_validate({"involved": people}), BORN, ALL, DIRECTORY, ON)
    assert [(each.code, each.name, each.shared, each.why) for each in explained.recipients] == [
        (organisation, None, False, why)
    ]


def test_organisations_that_a_policy_names_in_vain_are_found() -> None:
    def named(organisation: str, **more: Any) -> dict[str, Any]:
        name = organisation.lower().replace(":", "-")
        return rule(name, share_with={"organisation": {"kind": "gp", **code(organisation)}}, **more)

    made = read(
        named("ods:M87002"), named("ods:M87001"), named("ods:ZZZ"),
        named("ods:YYY", **{"from": "2025-04-01", "until": "2025-12-31"}),  # over: nobody asks for it any more
    )  # fmt: skip
    assert [(place, why) for place, _, why in policy.unknown_organisations(made, DIRECTORY, ON)] == [
        (1, "ods:M87001 was valid only until 2025-03-31; its successor is ods:M87002"),
        (2, "ods:ZZZ is not in the directory"),
    ]


def test_the_next_day_on_which_the_date_alone_may_change_something() -> None:
    days = [date(2026, 2, 10)]
    made = read(
        rule("young", when={"age": {"until": 10}}),
        rule("phase", when={"phase": ["primary"]}, sections=["A"]),
        rule("later", share_with={"involved": {"kinds": ["therapies"]}}, **{"from": "2026-03-01", "until": "2026-04-30"}),
    )
    while (day := policy.next_change(made, BORN, days[-1])) is not None:
        days.append(day)
    assert [str(day) for day in days[1:]] == [
        "2026-03-01",  # the rule begins
        "2026-05-01",  # and has ended
        "2026-05-06",  # the eleventh birthday
        "2026-09-01",  # year 7
        "2027-04-01",  # the approval has ended
        "2031-09-01",  # year 12
    ]


def test_a_leap_day_child_is_a_year_older_on_1_march() -> None:
    born = date(2016, 2, 29)
    made = read(rule(when={"age": {"until": 10}}))
    assert policy.next_change(made, born, date(2027, 1, 1)) == date(2027, 3, 1)
    assert (policy.age_on(born, date(2027, 2, 28)), policy.age_on(born, date(2027, 3, 1))) == (10, 11)
