"""What is written into a record, given what it holds: one current plan, nothing twice, nobody else's entry touched.

The record here is a dictionary that carries out transactions as R4 says; the same rules run against a real server in
`tests/contract/test_fhir.py`.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme
from services.health_subscriber import filing, mapping
from services.health_subscriber.filing import AsWanted, Document, Stop, Write
from services.shared.record_systems.port import Content, Recall, Recipient, Withdrawal
from tests.support.contents import RNA, content

NOW = datetime(2026, 3, 12, 15, 30, tzinfo=UTC)
PATIENT = "Patient/p1"
PLAN, SHARE = uuid4(), uuid4()
RXK = Recipient(RecipientKind.TRUST, CodeScheme.ODS, "RXK", "Another trust that keeps the same record")

Resource = dict[str, Any]


class ChangedError(Exception):
    pass


@dataclass
class Record:
    """R4 semantics in a dictionary: conditional update, If-Match, references to entries of the same transaction."""

    resources: dict[str, Resource] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def documents(self) -> list[Resource]:
        return [copy.deepcopy(each) for name, each in self.resources.items() if name.startswith("DocumentReference/")]

    def files(self) -> list[str]:
        return [name for name in self.resources if name.startswith("Binary/")]

    def current(self) -> list[Document]:
        return [each for each in map(Document, self.documents()) if each.current]

    def current_plans(self) -> list[Document]:
        return [each for each in self.current() if each.is_plan]

    def post(self, bundle: Resource) -> None:
        targets: dict[str, str] = {}
        for entry in bundle["entry"]:
            targets[entry.get("fullUrl", "")] = self._target(entry)
        for entry in bundle["entry"]:
            wanted = entry["request"].get("ifMatch")
            if wanted and wanted != f'W/"{self.resources[self._target(entry)]["meta"]["versionId"]}"':
                raise ChangedError
        targets.pop("", None)
        for entry in bundle["entry"]:
            name = targets.get(entry.get("fullUrl", "")) or self._target(entry)
            resource = _with_references(copy.deepcopy(entry["resource"]), targets)
            before = self.resources.get(name, {"meta": {"versionId": "0"}})
            resource["id"] = name.split("/")[1]
            resource["meta"] = resource.get("meta", {}) | {"versionId": str(int(before["meta"]["versionId"]) + 1)}
            self.resources[name] = resource

    def _target(self, entry: Resource) -> str:
        url = entry["request"]["url"]
        if "identifier=" in url:
            system, value = url.split("identifier=")[1].split("|")
            same = {"system": system, "value": value}
            names = [
                name
                for name, each in self.resources.items()
                if name.startswith("DocumentReference/") and same in each.get("identifier", [])
            ]
            assert len(names) < 2
            return names[0] if names else f"DocumentReference/{next(self._ids)}"
        return url if "/" in url else f"{url}/{next(self._ids)}"


def _with_references(value: Any, targets: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _with_references(each, targets) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_references(each, targets) for each in value]
    return targets.get(value, value) if isinstance(value, str) else value


def version(number: int, seq: int, **more: Any) -> Content:
    given: dict[str, Any] = {
        "plan_id": PLAN,
        "share_id": SHARE,
        "version_id": UUID(int=number),
        "version": number,
        "seq": seq,
        "document": b"%PDF " + str(number).encode(),
    }
    return content(**given | more)


def file_it(record: Record, wanted: Content, patient: str = PATIENT, **more: Any) -> AsWanted | Stop:
    """As the adapter does: ask and post until nothing is left to do."""
    for _ in range(20):
        step = filing.to_hold(wanted, patient, record.documents(), now=NOW, **more)
        if not isinstance(step, Write):
            return step
        assert len(step.bundle["entry"]) <= filing.MAX_ENTRIES
        record.post(step.bundle)
        assert len(record.current_plans()) == 1, "between two transactions too there is exactly one current plan"
    pytest.fail("it never comes to an end")


def held_version(record: Record) -> str:
    [plan] = record.current_plans()
    return plan.identifier(mapping.VERSION)


def test_the_first_version_is_one_file_and_one_entry() -> None:
    record = Record()

    done = file_it(record, version(1, seq=1))

    [plan] = record.current()
    assert isinstance(done, AsWanted)
    assert done.record == plan.reference
    assert record.files() == [plan.url]
    assert "relatesTo" not in plan.resource


def test_the_next_version_replaces_it_in_one_transaction() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [first] = record.current()

    step = filing.to_hold(version(2, seq=2), PATIENT, record.documents(), now=NOW)

    assert isinstance(step, Write)
    assert [entry["request"]["method"] for entry in step.bundle["entry"]] == ["PUT", "PUT", "PUT"]
    assert step.bundle["entry"][2]["request"] == {"method": "PUT", "url": first.reference, "ifMatch": 'W/"1"'}
    record.post(step.bundle)
    [second] = record.current()
    assert second.identifier(mapping.VERSION) == str(UUID(int=2))
    assert second.resource["relatesTo"] == [{"code": "replaces", "target": {"reference": first.reference}}]
    assert record.resources[first.reference]["status"] == "superseded"


def test_the_same_again_writes_nothing() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    before = copy.deepcopy(record.resources)

    step = filing.to_hold(version(1, seq=1), PATIENT, record.documents(), now=NOW)

    assert isinstance(step, AsWanted)
    assert record.resources == before


def test_an_earlier_instruction_changes_nothing() -> None:
    record = Record()
    file_it(record, version(2, seq=2))
    before = copy.deepcopy(record.resources)

    assert file_it(record, version(1, seq=1)) is Stop.NEWER_HELD
    assert record.resources == before


def test_an_earlier_instruction_that_wrote_last_takes_back_its_own_copy() -> None:
    record = Record()
    late = filing.to_hold(version(1, seq=1), PATIENT, record.documents(), now=NOW)
    file_it(record, version(2, seq=2))
    assert isinstance(late, Write)
    record.post(late.bundle)  # decided on an empty record, so nothing fenced it
    assert len(record.current_plans()) == 2

    assert file_it(record, version(1, seq=1)) is Stop.NEWER_HELD
    assert held_version(record) == str(UUID(int=2))


def test_two_that_decide_on_the_same_state_cannot_both_win() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    second = filing.to_hold(version(2, seq=2), PATIENT, record.documents(), now=NOW)
    third = filing.to_hold(version(3, seq=3), PATIENT, record.documents(), now=NOW)
    assert isinstance(second, Write)
    assert isinstance(third, Write)

    record.post(third.bundle)
    with pytest.raises(ChangedError):
        record.post(second.bundle)

    assert file_it(record, version(2, seq=2)) is Stop.NEWER_HELD
    assert held_version(record) == str(UUID(int=3))


def test_another_text_under_the_same_number_is_refused() -> None:
    record = Record()
    file_it(record, version(1, seq=4))

    assert file_it(record, version(2, seq=4)) is Stop.OTHER_TEXT_HELD


def test_other_sections_of_the_same_version_replace_the_rendering_and_may_come_back() -> None:
    record = Record()
    whole, some = version(1, seq=1), version(1, seq=2, sections={})
    assert whole.sha256 != some.sha256
    file_it(record, whole)
    file_it(record, some)

    file_it(record, replace(whole, seq=3))

    [plan] = record.current()
    assert plan.identifier(mapping.RENDERING) == whole.sha256
    assert plan.seq == 3
    assert len(record.documents()) == 2


def test_what_someone_marked_in_error_is_not_brought_back() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [plan] = record.current()
    record.resources[plan.reference]["status"] = "entered-in-error"

    step = filing.to_hold(version(1, seq=1), PATIENT, record.documents(), now=NOW)

    assert step is Stop.ENTERED_IN_ERROR


def test_a_former_version_marked_in_error_stays_so_and_is_not_replaced() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [first] = record.current()
    record.resources[first.reference]["status"] = "entered-in-error"

    file_it(record, version(2, seq=2))

    [second] = record.current()
    assert record.resources[first.reference]["status"] == "entered-in-error"
    assert "relatesTo" not in second.resource


def test_other_recipients_and_other_plans_in_the_same_record_are_left_alone() -> None:
    record = Record()
    theirs = version(1, seq=9, recipient=RXK, share_id=uuid4())
    other_plan = version(5, seq=9, plan_id=uuid4(), share_id=uuid4())
    for each in (theirs, other_plan):
        step = filing.to_hold(each, PATIENT, record.documents(), now=NOW)
        assert isinstance(step, Write)
        record.post(step.bundle)
    before = copy.deepcopy(record.resources)

    step = filing.to_hold(version(1, seq=1), PATIENT, record.documents(), now=NOW)

    assert isinstance(step, Write)
    record.post(step.bundle)
    assert len(record.current_plans()) == 3
    assert {name: record.resources[name] for name in before} == before


def test_a_share_that_began_anew_supersedes_the_copy_of_the_ended_one() -> None:
    record = Record()
    file_it(record, version(3, seq=7))

    file_it(record, version(4, seq=1, share_id=uuid4()))

    assert held_version(record) == str(UUID(int=4))


def test_a_recipient_whose_code_changed_keeps_one_current_plan() -> None:
    record = Record()
    file_it(record, version(1, seq=1))

    file_it(record, version(2, seq=2, recipient=replace(RNA, value="RNB")))

    assert held_version(record) == str(UUID(int=2))


def test_attachments_are_filed_and_superseded_with_their_plan() -> None:
    record = Record()
    file_it(record, version(1, seq=1, attachments=[("a.pdf", b"a1"), ("b.pdf", b"b1")]))
    [plan] = record.current_plans()
    appended = [each for each in record.current() if not each.is_plan]
    assert [each.resource["relatesTo"] for each in appended] == [
        [{"code": "appends", "target": {"reference": plan.reference}}]
    ] * 2

    done = file_it(record, version(2, seq=2, attachments=[("a.pdf", b"a2")]))

    assert isinstance(done, AsWanted)
    assert [part.data for _, part in done.files] == [b"%PDF 2", b"a2"]
    assert len(record.current()) == 2
    assert len(record.documents()) == 5


def test_many_attachments_go_in_several_transactions_and_all_arrive() -> None:
    record = Record()
    many = [(f"{n}.pdf", f"advice {n}".encode()) for n in range(20)]

    done = file_it(record, version(1, seq=1, attachments=many))

    assert isinstance(done, AsWanted)
    assert len(done.files) == 21
    assert len(record.current()) == 21
    assert len(filing.held_parts([Document(each) for each in record.documents()])) == 21


def test_a_plan_with_an_attachment_missing_is_not_held() -> None:
    record = Record()
    file_it(record, version(1, seq=1, attachments=[("a.pdf", b"a1")]))
    [appended] = [each for each in record.current() if not each.is_plan]

    del record.resources[appended.reference]

    assert filing.held_parts([Document(each) for each in record.documents()]) == []


def test_doubles_that_a_server_let_in_are_reduced_to_one() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [plan] = record.current()
    record.resources["DocumentReference/double"] = copy.deepcopy(plan.resource) | {"id": "double"}

    file_it(record, version(1, seq=1))

    assert len(record.current()) == 1


def test_a_copy_under_another_patient_is_entered_in_error_there_and_said() -> None:
    record = Record()
    file_it(record, version(1, seq=1), patient="Patient/wrong")

    done = file_it(record, version(2, seq=2))

    assert isinstance(done, AsWanted)
    assert done.warning == filing.OTHER_PATIENT
    [plan] = record.current()
    assert plan.patient == PATIENT
    assert "relatesTo" not in plan.resource


def test_what_the_trust_added_to_our_entry_stays() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [plan] = record.current()
    label = [{"coding": [{"code": "R"}]}]
    local = {"system": "https://trust.example/documents", "value": "D-77"}
    record.resources[plan.reference] |= {"securityLabel": label, "status": "superseded"}
    record.resources[plan.reference]["identifier"].append(local)

    file_it(record, version(1, seq=1))

    [plan] = record.current()
    assert plan.resource["securityLabel"] == label
    assert local in plan.resource["identifier"]
    assert plan.resource["date"] == "2026-03-12T15:30:00.000+00:00"


def test_a_damaged_file_is_written_again_at_the_same_place() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [plan] = record.current()

    step = filing.to_hold(version(1, seq=1), PATIENT, record.documents(), now=NOW, rewrite=True)

    assert isinstance(step, Write)
    assert [entry["request"]["url"] for entry in step.bundle["entry"]] == [plan.url, plan.reference]


def test_a_server_that_gives_ids_itself_is_asked_to() -> None:
    record = Record()

    step = filing.to_hold(version(1, seq=1), PATIENT, [], now=NOW, assign_ids=False)

    assert isinstance(step, Write)
    file, document = step.bundle["entry"]
    assert file["request"] == {"method": "POST", "url": "Binary"}
    assert "id" not in file["resource"]
    assert document["resource"]["content"][0]["attachment"]["url"] == file["fullUrl"]
    record.post(step.bundle)
    assert isinstance(file_it(record, version(1, seq=1), assign_ids=False), AsWanted)
    assert len(record.files()) == 1


def test_nothing_to_file_is_said() -> None:
    assert filing.to_hold(content(sections={}), PATIENT, [], now=NOW) is Stop.NOTHING_TO_FILE


def test_a_withdrawn_copy_stays_current_and_says_so() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    wish = Withdrawal(SHARE, 2, PLAN, RNA)

    step = filing.to_withdraw(wish, record.documents(), now=NOW)
    assert isinstance(step, Write)
    record.post(step.bundle)

    [plan] = record.current()
    assert plan.withdrawn
    assert str(plan.resource["description"]).startswith(
        "No longer updated: the council stopped sharing this plan on 2026-03-12. Education, Health and Care plan"
    )
    assert filing.to_withdraw(wish, record.documents(), now=NOW) == AsWanted(plan.reference)
    assert filing.to_hold(version(1, seq=1), PATIENT, record.documents(), now=NOW) is Stop.NEWER_HELD


def test_a_plan_shared_again_loses_the_mark() -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    step = filing.to_withdraw(Withdrawal(SHARE, 2, PLAN, RNA), record.documents(), now=NOW)
    assert isinstance(step, Write)
    record.post(step.bundle)

    file_it(record, version(1, seq=3))

    [plan] = record.current()
    assert not plan.withdrawn
    assert str(plan.resource["description"]).startswith("Education, Health and Care plan issued")


def test_a_withdrawal_that_comes_late_marks_nothing() -> None:
    record = Record()
    file_it(record, version(2, seq=3))

    assert filing.to_withdraw(Withdrawal(SHARE, 2, PLAN, RNA), record.documents(), now=NOW) is Stop.NEWER_HELD


def test_a_withdrawal_of_what_was_never_filed_is_done() -> None:
    assert filing.to_withdraw(Withdrawal(SHARE, 2, PLAN, RNA), [], now=NOW) == AsWanted("")


@pytest.mark.parametrize(
    "url", ["https://elsewhere.example/fhir/Binary/1", "Binary/", "Binary", "", "Binary/1/../2", "Patient/1"]
)
def test_a_recall_deletes_no_file_that_is_not_plainly_of_this_record(url: str) -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [plan] = record.current()
    plan.resource["content"][0]["attachment"]["url"] = url
    record.resources[plan.reference] = plan.resource
    recall = Recall(SHARE, 2, PLAN, RNA, (UUID(int=1),))

    step = filing.to_recall(recall, record.documents(), now=NOW, remove_files=True, still_there=[url])

    assert isinstance(step, Write)
    assert [entry["request"]["method"] for entry in step.bundle["entry"]] == ["PUT"]


SPOILT: list[Callable[[Resource], Any]] = [
    lambda d: d.pop("identifier"),
    lambda d: d.update(identifier=[{"system": mapping.PLAN}]),
    lambda d: d.pop("content"),
    lambda d: d.pop("subject"),
    lambda d: d.pop("meta"),
    lambda d: d["identifier"].append({"system": mapping.INSTRUCTION, "value": "nonsense"}),
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_an_entry_that_somebody_spoilt_stops_nothing(spoil: Callable[[Resource], Any]) -> None:
    record = Record()
    file_it(record, version(1, seq=1))
    [plan] = record.current()
    found = [copy.deepcopy(plan.resource)]
    spoil(found[0])

    step = filing.to_hold(version(2, seq=2), PATIENT, found, now=NOW)

    assert isinstance(step, Write)
