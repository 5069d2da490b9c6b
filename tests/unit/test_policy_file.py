"""A policy file is judged whole: whatever could never apply, or contradicts itself, is refused with one sentence."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from schemas.policy import SharingPolicy, read_policy
from schemas.refusals import explain
from services.cli.main import app
from tests.support.services import REPOSITORY

APPROVAL = {"data_sharing_agreement": "DSA-1", "dpia": "DPIA-7", "from": "2025-04-01", "until": "2027-03-31"}
TRUSTS = {"involved": {"kinds": ["trust"]}}
CARER = {"of_council": {"kind": "virtual_school", "council": "looked_after_by"}}


def rule(name: str = "r1", **more: Any) -> dict[str, Any]:
    base = {"rule": name, "share_with": TRUSTS, "lawful_basis": "health care", "reason": "cares"}
    return base | more


def exclusion(name: str = "r2", **more: Any) -> dict[str, Any]:
    return rule(name, exclude=True, lawful_basis=None) | more


def refusal(*rules: dict[str, Any], approval: Any = APPROVAL) -> str:
    with pytest.raises(ValidationError) as caught:
        SharingPolicy.model_validate({"la_code": "332", "approval": approval, "rules": rules})
    (only,) = explain(caught.value.errors(include_input=False, include_url=False), frozenset({"rules", "when"}))
    return only.problem


def taken(*rules: dict[str, Any], approval: Any = APPROVAL) -> SharingPolicy:
    return SharingPolicy.model_validate({"la_code": "332", "approval": approval, "rules": rules})


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        (
            [rule(**{"from": "2026-02-01", "until": "2026-01-31"})],
            "rule r1 ends (until) before it begins (from), so it could never apply",
        ),
        (
            [rule(**{"from": "2027-04-01"})],
            "rule r1 could never apply: it and the approval are never in force on the same day",
        ),
        ([rule(when={"age": {"from": 12, "until": 11}})], "the age range is empty, so the rule could never apply"),
        ([rule(when={"age": {"from": 27}})], "nobody older than 26 has a plan, so the rule could never apply"),
        (
            [rule(when={"age": {"from": 12}, "phase": ["early_years", "primary"]})],
            "no child of this phase is of this age, so the rule could never apply",
        ),
        (
            [rule(share_with=CARER, when={"looked_after": "by_none"})],
            "rule r1 could never apply: it is for children whom no council looks after, and names the council that looks after "
            "the child",
        ),
        (
            [rule(when={"sen_type": ["ASD"]})],
            "the exchange does not know a child's type of SEN, so no condition can be put on it",
        ),
    ],
)
def test_a_rule_that_can_never_apply(rules: list[dict[str, Any]], problem: str) -> None:
    assert refusal(*rules) == problem


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (rule("r1"), rule("r2")),
        (rule("r1"), rule("r2", sections=["G"])),
        (rule("r1", sections=["G", "H1"]), rule("r2", sections=["G"])),
        (rule("r1"), rule("r2", **{"from": "2026-01-01", "until": "2026-12-31"})),
        (exclusion("r1"), exclusion("r2")),
    ],
)
def test_a_rule_that_another_one_makes_needless_in_either_order(first: dict[str, Any], second: dict[str, Any]) -> None:
    problem = "rule r2 adds nothing to rule r1: same conditions, same recipients"
    assert refusal(first, second) == problem
    if first | {"rule": ""} != second | {"rule": ""}:
        assert refusal(second, first) == problem


@pytest.mark.parametrize(
    "second",
    [
        rule("r2", lawful_basis="safeguarding"),  # another ground for the same share
        rule("r2", when={"detained": True}),
        rule("r2", share_with={"involved": {"kinds": ["trust"], "roles": ["advice"]}}),
    ],
)
def test_rules_that_differ_stand_beside_each_other(second: dict[str, Any]) -> None:
    assert [each.rule for each in taken(rule("r1"), second).rules] == ["r1", "r2"]


@pytest.mark.parametrize(
    ("share", "exclude"),
    [
        (rule(), exclusion()),
        (rule(when={"age": {"from": 5, "until": 10}}), exclusion(when={"age": {"from": 4}})),
        (rule(when={"looked_after": "by_this_council"}), exclusion(when={"looked_after": "by_any_council"})),
        (rule(when={"has_content": ["G"]}), exclusion(when={"has_content": ["G", "H1"]})),
        (rule(), exclusion(share_with={"involved": {"kinds": ["trust", "camhs"]}})),
        (rule(), exclusion(**{"from": "2026-01-01"})),
    ],
)
def test_a_share_that_an_exclusion_takes_away_whole(share: dict[str, Any], exclude: dict[str, Any]) -> None:
    problem = "rules r1 and r2 contradict each other: what one shares, the other excludes"
    assert refusal(share, exclude) == problem
    assert refusal(exclude, share) == problem


@pytest.mark.parametrize(
    ("share", "exclude"),
    [
        (rule(), exclusion(when={"detained": True})),
        (rule(when={"looked_after": "by_any_council"}), exclusion(when={"looked_after": "by_this_council"})),
        (rule(share_with={"involved": {"kinds": ["trust", "camhs"]}}), exclusion()),
        (rule(until="2025-12-31"), exclusion(**{"from": "2026-01-01"})),
    ],
)
def test_an_exclusion_narrower_than_the_share_is_an_exception(share: dict[str, Any], exclude: dict[str, Any]) -> None:
    assert [each.exclude for each in taken(share, exclude).rules] == [False, True]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"share_with": {"involved": {"kinds": ["hospital"]}}}, "it is none of the values known here"),
        ({"share_with": {"involved": {"kinds": ["parent"]}}}, "parent and young_person are no organisations"),
        ({"share_with": {"involved": {"kinds": []}}}, "the list is empty, so the rule could never apply"),
        ({"share_with": {}}, "share_with does not name exactly one thing"),
        ({"share_with": {**TRUSTS, **CARER}}, "share_with does not name exactly one thing"),
        ({"share_with": {"organisation": {"kind": "gp", "scheme": "ods", "value": "m87002"}}},
         "ODS code must be 3 to 8 upper-case letters and digits"),
        ({"share_with": {"organisation": {"kind": "parent", "scheme": "ods", "value": "M87002"}}},
         "a person cannot be named in a policy"),
        ({"sections": ["L"]}, "it is none of the values known here"),
        ({"lawful_basis": None}, "rule r1 names no lawful_basis"),
        ({"exclude": True, "sections": ["A"]}, "rule r1 excludes, and names sections"),
        ({"from": "2026-13-01"}, "it is not a date"),
        ({"rule": "All trusts"}, "it holds a character that is not allowed here"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit(changes: dict[str, Any], problem: str) -> None:
    assert refusal(rule(**changes)) == problem


def test_names_of_rules_are_their_own() -> None:
    assert refusal(rule("r1"), rule("r1", when={"detained": True})) == "two rules have the name r1"


def test_an_approval_that_ends_before_it_begins() -> None:
    assert refusal(approval=APPROVAL | {"until": "2025-03-31"}) == "the approval ends (until) before it begins (from)"


YAML = """
la_code: "332"
approval: {data_sharing_agreement: DSA-1, dpia: DPIA-7, from: 2025-04-01}
rules:
  - rule: trusts
    share_with: {involved: {kinds: [trust]}}
    sections: [A, G]
    lawful_basis: health care
    reason: cares
"""


def test_yaml_and_json_say_the_same() -> None:
    policy = read_policy(YAML)
    assert [(each.rule, each.sections) for each in policy.rules] == [("trusts", ("A", "G"))]
    assert read_policy(policy.model_dump_json(by_alias=True)) == policy


def test_the_example_of_the_docs_is_in_order() -> None:
    page = (REPOSITORY / "docs" / "sharing-policy.md").read_text("utf-8")
    policy = read_policy(page.partition("```yaml\n")[2].partition("```")[0])
    assert len(policy.rules) == 5
    assert [policy.off(day) for day in (date(2026, 3, 31), date(2026, 4, 1), date(2028, 4, 1))] == [
        "the approval is in force only from 2026-04-01", None, "the approval ended on 2028-03-31",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (YAML + "rules: []\n", "it is neither YAML nor JSON at line 2: a key comes twice in the mapping at line 2"),
        ("la_code: [", "it is neither YAML nor JSON at line 1: expected the node content, but found '<stream end>'"),
        ("\t{", "it is neither YAML nor JSON at line 1: found character '\\t' that cannot start any token"),
    ],
)
def test_a_file_that_cannot_be_read(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="neither") as caught:
        read_policy(text)
    assert str(caught.value) == problem


def test_what_is_wrong_with_the_whole_file_is_said_in_words(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("hello: 1\n")
    judged = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert judged.exit_code == 1
    assert "the whole file: it has a field that the contract does not know" in judged.output


@pytest.mark.parametrize("text", ["", "- 1", "just text"])
def test_a_file_that_is_no_policy(text: str) -> None:
    with pytest.raises(ValidationError):
        read_policy(text)
