"""The case system's plans beside the exchange's, and how many could be delivered today."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.comparison import DifferenceKind as Kind
from schemas.lifecycle import CeaseReason
from services.cli.exchange import Row
from services.cli.importing.comparing import compare, only_here, settings_on, told
from services.cli.importing.faults import Findings
from services.cli.importing.known import KnownPlans
from services.cli.importing.opening import Asked, opened
from services.cli.importing.plans import Ceased, ExtractPlan, Lack
from services.cli.importing.profiles import load_profile
from services.cli.importing.readiness import Listed, Readiness, lacks_here
from services.cli.importing.tables import Ref
from services.cli.machine.errors import MachineError

TODAY = date(2026, 11, 22)
NAMED = {"scheme": "urn", "value": "993202", "from": "2025-09-01", "until": None}
CEASED = Ceased(date(2026, 8, 31), CeaseReason.NEEDS_MET)


def there(**changes: Any) -> ExtractPlan:
    values: dict[str, Any] = {
        "la_code": "332", "case_reference": "EHC-1", "source": Ref("plans", "EHC-1", "", 0, 0, 2),
        "settings": frozenset({"urn:993202"}),
    }  # fmt: skip
    return ExtractPlan(**(values | changes))


def here(**changes: Any) -> Row:
    return {
        "plan_id": "0192", "la_code": "332", "case_reference": "EHC-1", "state": "live", "restricted": False,
        "current": {"version_id": "0193", "version": 2, "issued_on": "2026-02-10", "document": True}, "settings": [NAMED],
        "has_nhs_number": True, "shares": 4, "deliverable": 3, "gaps": 0,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("case_system", "exchange", "kinds"),
    [
        (there(), here(), []),
        (there(), here(state="ceasing"), []),
        (there(), None, [Kind.NEVER_SHARED]),
        (there(), here(shares=0), [Kind.NEVER_SHARED]),
        (there(ceased=CEASED, over=True), here(), [Kind.CEASED_THERE]),
        (there(over=True), here(state="ceasing"), [Kind.CEASED_THERE]),
        (there(ceased=CEASED, over=True), here(state="ceased"), []),
        (there(ceased=CEASED, over=True), None, []),
        (there(), here(state="ceased"), [Kind.CEASED_HERE]),
        (there(), here(state="transferred"), [Kind.CEASED_HERE]),
        (there(settings=frozenset({"urn:993206"})), here(), [Kind.SETTING_DIFFERS]),
        (there(settings=frozenset()), here(), [Kind.SETTING_DIFFERS]),
        (there(settings=frozenset(), lacks=frozenset({Lack.CORRECTION})), here(), []),
        (there(last_review=date(2026, 2, 11), amended=True), here(), [Kind.REVIEW_NEWER]),
        (there(last_review=date(2026, 2, 10), amended=True), here(), []),
        (there(last_review=date(2026, 2, 11), amended=False), here(), []),
        (there(last_review=date(2026, 2, 11), amended=True), here(current=None), [Kind.REVIEW_NEWER]),
    ],
)  # fmt: skip
def test_differences_both_ways(case_system: ExtractPlan, exchange: Row | None, kinds: list[Kind]) -> None:
    assert [each.kind for each in compare(case_system, exchange, TODAY)] == kinds


def test_a_difference_says_both_sides_in_codes_and_dates() -> None:
    (found,) = compare(there(settings=frozenset({"urn:993206", "ukprn:10993201"})), here(), TODAY)
    assert found.as_row() == {
        "kind": "setting_differs", "la_code": "332", "case_reference": "EHC-1", "plan_id": "0192",
        "there": "ukprn:10993201 urn:993206", "here": "urn:993202",
    }  # fmt: skip
    (found,) = compare(there(ceased=CEASED, over=True), here(), TODAY)
    assert (found.there, found.here) == ("ceased 2026-08-31 (needs_met)", "live")


def test_a_plan_that_went_to_another_council_is_over_here_and_not_unknown() -> None:
    known = KnownPlans()
    known.add_transferred({"la_code": "332", "case_reference": "EHC-1", "until": "2026-10-01"})
    since = known.transferred_on("332", "ehc-1")
    (found,) = compare(there(), None, TODAY, since)
    assert (found.kind, found.there, found.here) == (Kind.CEASED_HERE, "in force", "with another council since 2026-10-01")
    (unknown,) = compare(there(case_reference="EHC-2"), None, TODAY, known.transferred_on("332", "EHC-2"))
    assert told([found, unknown], 2, 0) == {"plans": 2, "rows_refused": 0, "not_here": 1, "differences": {}}
    assert list(compare(there(over=True), None, TODAY, since)) == []


def test_plans_that_only_the_exchange_has() -> None:
    found = only_here(here())
    assert found is not None
    assert found.kind is Kind.UNKNOWN_THERE
    assert only_here(here(state="ceased")) is None


def test_only_the_settings_of_the_day_count() -> None:
    named = [
        NAMED | {"until": "2026-11-22"}, NAMED | {"value": "993206", "from": "2026-11-23"},
        NAMED | {"value": "993207", "until": "2026-11-21"},
    ]  # fmt: skip
    assert settings_on(here(settings=named), TODAY) == {"urn:993202"}


def test_plans_that_nobody_looked_for_are_left() -> None:
    known = KnownPlans()
    for reference in ("EHC-2", "EHC-1", "EHC-3"):
        known.add(here(case_reference=reference))
    known.add(here(case_reference="EHC-1", la_code="333"))
    found = known.find("332", "ehc-2")
    assert found is not None
    assert found["plan_id"] == "0192"
    assert known.find("332", "EHC-9") is None
    assert [(plan["la_code"], plan["case_reference"]) for plan in known.unseen()] == [
        ("332", "EHC-1"), ("332", "EHC-3"), ("333", "EHC-1"),
    ]  # fmt: skip


def test_how_many_could_be_delivered_and_what_the_others_lack() -> None:
    counted = Readiness()
    counted.take("EHC-1", lacks_here(here()))
    counted.take("EHC-2", lacks_here(here(has_nhs_number=False, shares=2, deliverable=0)))
    counted.take("EHC-3", lacks_here(here(gaps=2)), 2)
    counted.take("EHC-4", there(lacks=frozenset({Lack.DOCUMENT, Lack.NHS_NUMBER})).lacks)
    assert orjson.loads(orjson.dumps(counted.as_row())) == {
        "plans": 4, "ready": 2, "share_ready": 0.5, "with_share_gaps": 1,
        "lacking": {"document": 1, "nhs_number": 2, "recipient": 1},
        "not_ready": [
            {"case_reference": "EHC-2", "lacks": ["nhs_number", "recipient"]},
            {"case_reference": "EHC-4", "lacks": ["document", "nhs_number"]},
        ],
    }  # fmt: skip


async def _directory(code: str) -> AsyncIterator[Row]:
    """urn:993202 is a school that closed and opened again, ods:XYZ nobody delivers to, ods:DOWN does not answer."""
    if code == "ods:DOWN":
        raise MachineError("It does not answer.")
    spans: dict[str, list[tuple[str, str | None]]]
    spans = {"urn:993202": [("2010-09-01", "2020-08-31"), ("2025-09-01", None)], "urn:993990": [("2010-09-01", "2025-08-31")]}
    spans["ods:XYZ"] = [("2020-01-01", None)]
    for first, last in spans.get(code, ()):
        listed = {"scheme": code[:3], "value": code[4:], "from": first, "until": last}
        yield {"codes": [listed], "subscriber": None if code == "ods:XYZ" else "school"}


@pytest.mark.parametrize(
    ("named", "family", "lacks"),
    [
        (["urn:993990", "urn:993202"], False, []),
        (["urn:993990", "ods:XYZ", "ods:NONE"], False, ["recipient"]),
        (["urn:993990"], True, []),
        (["urn:993990", "ods:DOWN"], False, []),
    ],
)
@pytest.mark.asyncio
async def test_a_code_that_leads_to_nobody_is_nobody_to_send_a_plan_to(
    named: list[str], family: bool, lacks: list[str]
) -> None:
    listed = Listed(_directory, TODAY)
    assert sorted(await listed.lacks(there(named=frozenset(named), family=family))) == lacks
    assert listed.why_not == ("It does not answer." if "ods:DOWN" in named else None)


def test_the_sample_return_differs_from_the_sample_plans_where_it_says_so() -> None:
    sandbox = Path(__file__).parents[2] / "deploy" / "sandbox"
    known = KnownPlans()
    for folder in (sandbox / "plans" / "332").iterdir():
        newest = max(folder.glob("v*.json"), key=lambda file: int(file.stem[1:]))
        version = orjson.loads(newest.read_bytes())["version"]
        settings = [each["setting"] | each for each in version["placements"] if "setting" in each]
        known.add(here(case_reference=folder.name, settings=settings, current={"issued_on": version["issued_on"]}))
    profile = load_profile(str(sandbox / "extracts" / "profile.yaml"), sandbox)
    found = {}
    with opened(Asked(sandbox / "extracts" / "sen2", profile, TODAY), Findings()) as extract:
        for plan in extract.plans():
            for each in compare(plan, known.find(plan.la_code, plan.case_reference), TODAY):
                found[each.case_reference] = each.kind.value
    assert found == {
        "DUD-2018-0066": "ceased_there", "DUD-2022-0047": "setting_differs", "DUD-2023-0128": "review_newer",
        "DUD-2026-0101": "never_shared", "DUD-2026-0102": "never_shared",
    }  # fmt: skip
    assert [plan["case_reference"] for plan in known.unseen()] == ["DUD-2026-0071"]
