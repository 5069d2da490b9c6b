"""Recalls and breach packs: the publisher's own recall, receipts as subscribers sign them, the pack as a council gets it."""

import io
import zipfile
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import pytest_asyncio
from joserfc.jwk import OKPKey
from typer.testing import CliRunner

from schemas.base import RecipientKind
from schemas.breach import BreachPack
from schemas.identifiers import CodeScheme
from schemas.receipts import Status
from services.cli import breach_pack
from services.cli.main import app
from services.ehcp_publisher import store_events
from services.ehcp_publisher.registry import organisation_id
from services.shared.identity.receipts import ReceiptError
from services.shared.identity.receipts import verify as verify_receipt
from services.shared.identity.signed_documents import SignedDocumentError, verify
from services.shared.postgres.pool import council_transaction
from tests.integration.test_publisher_deciding import put, school
from tests.integration.test_publisher_handover import BY_HEALTH, BY_SCHOOL, register
from tests.support.audit import AuditAtHand, audit_at_hand
from tests.support.lives import ANOTHER, ICB_NAME, PARENT, PRIMARY_NAME, TRUST_NAME, Life, begin, unique, yesterday
from tests.support.publisher import CHILD, PRIMARY, PublisherAtHand, part, pdf_document, placed, problem, publisher_at_hand
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

EVERYONE = {PARENT, PRIMARY_NAME, ICB_NAME, TRUST_NAME}
BY = {PARENT: "family", PRIMARY_NAME: "school", ICB_NAME: "health", TRUST_NAME: "health"}
DESTROYED = "destroyed on 2026-11-20, recorded by Health records office"


@pytest_asyncio.fixture(loop_scope="session")
async def audit(postgres_server: RunningPostgres) -> AsyncIterator[AuditAtHand]:
    async with publisher_at_hand(postgres_server) as publisher, audit_at_hand(publisher) as at_hand:
        yield at_hand


async def filed(audit: AuditAtHand, life: Life, name: str, status: Status = Status.FILED, **more: Any) -> None:
    share = (await life.shares())[name]
    said = {"version_id": share["version_id"], "sha256": share["sha256"], "record": f"Record/{name}"} | more
    await audit.said(BY[name], share["share_id"], share["seq"], status, **said)


async def removed(audit: AuditAtHand, life: Life, name: str, **more: Any) -> None:
    share = (await life.shares())[name]
    what = {"version_id": share["removing"][0], "record": DESTROYED, "removed": share["removing"]} | more
    await audit.said(BY[name], share["share_id"], share["seq"], Status.RECALLED, **what)


async def recall(life: Life, reason: str = "wrong_child", hours_ago: int = 30, **more: Any) -> None:
    aware_at = (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat()
    await life.record("recall", **({"version_id": life.version_id, "reason": reason, "aware_at": aware_at} | more))


def from_(pack: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["recipient"]: each for each in pack["recipients"]}


async def test_the_pack_says_who_got_it_who_opened_it_who_removed_it_and_who_did_not(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await life.read("subscriber-health", TRUST_NAME)
    await filed(audit, life, TRUST_NAME)
    await life.read("subscriber-school", PRIMARY_NAME)
    await filed(audit, life, PRIMARY_NAME, Status.SENT, record="inbox/1")
    await filed(audit, life, PRIMARY_NAME, Status.OPENED, record="inbox/1", opened_by="school-office")
    again = {"reason": "acknowledged by A. Patel", "opened_by": "school-office"}  # of what is open already
    await filed(audit, life, PRIMARY_NAME, Status.OPENED, record="inbox/1", **again)
    await filed(audit, life, PRIMARY_NAME, Status.OPENED, record="inbox/1")
    await recall(life)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    assert (listed["copies"], listed["outstanding"], listed["hours_since_aware"]) == (4, 4, 30)
    await removed(audit, life, TRUST_NAME)
    await audit.said("school", (await life.shares())[PRIMARY_NAME]["share_id"], 2, Status.FAILED, reason="away")

    signed = await audit.breach_pack(listed["recall_id"])
    pack = signed["document"]
    BreachPack.model_validate(pack)
    assert pack["recall"] | {"outstanding": 3} == pack["recall"]
    aware = datetime.fromisoformat(pack["recall"]["aware_at"])
    assert datetime.fromisoformat(pack["recall"]["report_by"]) == aware + timedelta(hours=72)
    assert (pack["law"], pack["minutes_since_aware"] // 60, pack["minutes_left"] // 60) == ("UK GDPR art. 33(1), (5)", 30, 41)
    assert from_(pack).keys() == EVERYONE

    trust, school, parent = (from_(pack)[name] for name in (TRUST_NAME, PRIMARY_NAME, PARENT))
    assert (trust["code"], trust["subscriber"], trust["former"]) == ("ods:RNA", "health", False)
    [copy] = trust["copies"]
    assert (copy["version_id"], copy["version"], copy["whole"]) == (life.version_id, 1, True)
    assert [each["by"] for each in copy["fetched"]] == ["subscriber-health"]
    assert (copy["held_as"], copy["record"], copy["opened"]) == ("filed", f"Record/{TRUST_NAME}", [])
    assert (trust["removal"]["state"], trust["removal"]["proof"], trust["removal"]["seq"]) == ("removed", DESTROYED, 2)
    [opened] = school["copies"][0]["opened"]
    assert opened["by"] == "school-office"
    assert (school["removal"]["state"], school["removal"]["last_said"], school["removal"]["reason"]) == (
        "outstanding", "failed", "away",
    )  # fmt: skip
    assert (parent["copies"][0]["fetched"], parent["copies"][0]["held_since"], parent["receipts"]) == ([], None, [])
    assert (parent["removal"]["state"], parent["removal"]["last_said"]) == ("outstanding", None)
    text = orjson.dumps(signed).decode()
    for personal in (CHILD["family_name"], CHILD["given_names"], "Ann Hartley", life.sent["child"]["nhs_number"]):
        assert str(personal) not in text


async def test_everything_in_it_is_verified_offline_and_a_changed_byte_is_not(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await filed(audit, life, TRUST_NAME)
    await recall(life)
    await removed(audit, life, TRUST_NAME)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    file = orjson.dumps(await audit.breach_pack(listed["recall_id"]))
    found = verify(file, OKPKey.import_key(audit.document_key.as_dict(private=False)))
    assert found.kind == "breach-pack"
    receipts = from_(found.document)[TRUST_NAME]["receipts"]
    assert [(each["status"], each["signature"]) for each in receipts] == [("filed", "good"), ("recalled", "good")]
    key = OKPKey.import_key(found.document["keys"]["health"])
    said = verify_receipt(receipts[1]["signed"].encode(), key)
    assert (said.status, said.record, [str(each) for each in said.removed]) == (Status.RECALLED, DESTROYED, [life.version_id])
    with pytest.raises(SignedDocumentError, match="changed after it was signed"):
        verify(file.replace(b"Health records office", b"Health records Office"), audit.document_key)
    forged = receipts[1]["signed"][:-9] + ("A" if receipts[1]["signed"][-9] != "A" else "B") + receipts[1]["signed"][-8:]
    with pytest.raises(ReceiptError):
        verify_receipt(forged.encode(), key)


async def test_what_a_pack_says_is_checked_against_the_receipts_in_it_whoever_signed_it(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await filed(audit, life, TRUST_NAME)
    await filed(audit, life, PRIMARY_NAME, Status.OPENED, opened_by="account-7")
    await recall(life)
    await removed(audit, life, TRUST_NAME)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    good = (await audit.breach_pack(listed["recall_id"]))["document"]
    assert breach_pack.check_receipts(good) == breach_pack.Checked(good=3, other_key=0)

    def claims_removal(pack: dict[str, Any]) -> None:
        from_(pack)[PRIMARY_NAME]["removal"].update(state="removed", at=pack["made_at"])
        pack["recall"]["outstanding"] -= 1

    changes: tuple[Callable[[dict[str, Any]], object], ...] = (
        claims_removal,
        lambda pack: from_(pack)[TRUST_NAME]["removal"].update(at=pack["recall"]["aware_at"]),
        lambda pack: from_(pack)[TRUST_NAME]["receipts"].pop(),
        lambda pack: from_(pack)[PRIMARY_NAME]["copies"][0].update(opened=[]),
        lambda pack: from_(pack)[PRIMARY_NAME]["copies"][0]["opened"][0].update(by="account-8"),
        lambda pack: pack["recipients"].pop(),
        lambda pack: pack["recall"].update(outstanding=0),
    )
    for number, change in enumerate(changes):
        pack = deepcopy(good)
        change(pack)
        with pytest.raises(SignedDocumentError):
            raise AssertionError(f"change {number}: {breach_pack.check_receipts(pack)}")


async def test_the_first_receipt_that_proves_a_removal_is_in_the_pack_though_more_failures_followed(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await filed(audit, life, TRUST_NAME)
    await recall(life)
    share = (await life.shares())[TRUST_NAME]
    said = {"reason": "away", "version_id": share["version_id"], "removed": share["removing"], "removal": "entered in error"}
    for _ in range(3):
        await audit.said("health", share["share_id"], share["seq"], Status.FAILED, **said)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = (await audit.breach_pack(listed["recall_id"]))["document"]
    removal = from_(pack)[TRUST_NAME]["removal"]
    assert (removal["state"], removal["proof"]) == ("removed", "entered in error")
    assert removal["at"] is not None
    assert breach_pack.check_receipts(pack).good == 3  # the filing, the proof, the newest failure


async def test_what_a_receipt_says_was_removed_counts_and_not_its_status_alone(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    for name in (TRUST_NAME, ICB_NAME):
        await filed(audit, life, name)
    await recall(life)
    await removed(audit, life, TRUST_NAME, removed=[], remaining=[life.version_id])
    await removed(audit, life, ICB_NAME, removed=[str(uuid4())])
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = (await audit.breach_pack(listed["recall_id"]))["document"]
    assert (listed["outstanding"], {each["removal"]["state"] for each in pack["recipients"]}) == (4, {"outstanding"})
    for name in (TRUST_NAME, ICB_NAME):  # offline neither
        claimed = deepcopy(pack)
        of_it = from_(claimed)[name]
        of_it["removal"].update(state="removed", at=of_it["receipts"][-1]["at"])
        claimed["recall"]["outstanding"] = 3
        with pytest.raises(SignedDocumentError, match="not what its receipts say"):
            breach_pack.check_receipts(claimed)
    await removed(audit, life, TRUST_NAME)
    await removed(audit, life, ICB_NAME, removed=[])  # a subscriber of before: it names neither
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    assert listed["outstanding"] == 2
    assert breach_pack.check_receipts((await audit.breach_pack(listed["recall_id"]))["document"]).good == 6


async def test_its_archive_is_verified_by_the_command_and_no_file_of_it_can_be_changed(
    audit: AuditAtHand, tmp_path: Path
) -> None:
    life = await begin(audit.publisher)
    await filed(audit, life, TRUST_NAME, record="=cmd|' /C calc'!A0")
    await recall(life)
    await removed(audit, life, TRUST_NAME, record="=removed by all")
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    signed = (await audit.get(f"/v1/recalls/{listed['recall_id']}")).content
    good, key = tmp_path / "pack.zip", tmp_path / "council.jwk"
    good.write_bytes(breach_pack.archive(signed))
    key.write_bytes(orjson.dumps(audit.document_key.as_dict(private=False)))

    def verified(file: Path) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["verify", str(file), "--key", str(key)])
        return done.exit_code, done.output

    code, said = verified(good)
    assert code == 0
    assert "Good: nothing in this breach pack was changed since it was signed.\nReceipts in it: 2, each signed" in said
    with zipfile.ZipFile(good) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert len([name for name in files if name.startswith("receipts/health/")]) == 2
    assert "'=removed by all" in files["recipients.csv"].decode(), "no formula in a spreadsheet"
    for name, data in files.items():
        bad = tmp_path / "bad.zip"
        with zipfile.ZipFile(bad, "w") as archive:
            for other, unchanged in files.items():
                changed = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
                archive.writestr(other, changed if other == name else unchanged)
        assert verified(bad)[0] == 1, name
    # A second file of the same name, which another program would show in place of the right one.
    bad.write_bytes(good.read_bytes())
    with zipfile.ZipFile(bad, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("recipients.csv", files["recipients.csv"])
    assert verified(bad)[0] == 1


async def test_when_all_have_answered_nothing_is_outstanding(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    wrong = await life.amend()
    await recall(life, version_id=wrong["version_id"])
    for name in EVERYONE - {TRUST_NAME}:
        await filed(audit, life, name)  # the version before, which is wanted again once the wrong one is gone
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}&outstanding=true")
    assert listed["outstanding"] == 1
    await filed(audit, life, TRUST_NAME)
    assert await audit.recalls(f"?plan_id={life.plan_id}&outstanding=true") == []
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    assert (listed["copies"], listed["outstanding"], listed["version"]) == (4, 0, 2)


async def test_a_recipient_that_moved_to_another_subscriber_is_asked_through_both(audit: AuditAtHand) -> None:
    publisher = audit.publisher
    life = await begin(publisher)
    share_id = (await life.shares())[TRUST_NAME]["share_id"]
    await life.read("subscriber-health", TRUST_NAME)
    await filed(audit, life, TRUST_NAME)
    await register(publisher, BY_SCHOOL)
    try:
        share = (await life.shares())[TRUST_NAME]
        what = {"version_id": share["version_id"], "sha256": share["sha256"]}
        await audit.said("school", share_id, 2, Status.OPENED, **what, record="inbox/1")
        await publisher.resend.sweep()  # health is told to let go
        await recall(life)
        said = [(row["topic"], row["type"], row["data"]["seq"]) for row in await publisher.outbox(share_id)]
        assert said[-3:] == [
            ("ehcp.shares.health.v1", "ehcp.share.released.v1", 2), ("ehcp.shares.school.v1", "ehcp.share.recalled.v1", 3),
            ("ehcp.shares.health.v1", "ehcp.share.recalled.v1", 3),
        ]  # fmt: skip
        open_ = [
            row for row in await publisher.list_all("subscriber-health", unanswered=True) if row["share_id"] == str(share_id)
        ]
        assert [(row["type"], row["instruction"]["remove"]) for row in open_] == [("ehcp.share.recalled.v1", [life.version_id])]

        await audit.said(
            "school", share_id, 3, Status.RECALLED, version_id=share["version_id"], record="removed from the inbox"
        )
        [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
        assert (listed["copies"], listed["outstanding"]) == (5, 4)
        await audit.said("health", share_id, 3, Status.RECALLED, version_id=share["version_id"], record="1 entry removed")
        pack = (await audit.breach_pack(listed["recall_id"]))["document"]
        both = {each["subscriber"]: each for each in pack["recipients"] if each["recipient"] == TRUST_NAME}
        assert {name: (each["former"], each["removal"]["state"]) for name, each in both.items()} == {
            "health": (True, "removed"), "school": (False, "removed"),
        }  # fmt: skip
        assert both["health"]["removal"]["proof"] == "1 entry removed"
        assert [len(both[name]["copies"][0]["fetched"]) for name in ("health", "school")] == [1, 0]
        listed_to_health = await publisher.list_all("subscriber-health", unanswered=True)
        assert str(share_id) not in {row["share_id"] for row in listed_to_health}
    finally:
        await register(publisher, BY_SCHOOL | {"subscriber": "health", "channel": "fhir"})


async def test_a_recipient_that_moves_while_a_removal_is_outstanding_owes_it_still(audit: AuditAtHand) -> None:
    publisher = audit.publisher
    life = await begin(publisher)
    wrong = await life.amend()
    await recall(life, version_id=wrong["version_id"])
    share_id = (await life.shares())[TRUST_NAME]["share_id"]
    await register(publisher, BY_SCHOOL)
    try:
        share = (await life.shares())[TRUST_NAME]
        assert (share["subscriber"], share["seq"], share["removing"]) == ("school", 4, [share["removing"][0]])
        what = {"version_id": share["version_id"], "sha256": share["sha256"]}
        await audit.said("school", share_id, 4, Status.OPENED, **what, record="inbox/1")
        await publisher.resend.sweep()
        last = (await publisher.outbox(share_id))[-1]
        assert (last["topic"], last["type"]) == ("ehcp.shares.health.v1", "ehcp.share.recalled.v1")
        assert last["data"]["remove"] == [wrong["version_id"]]
        [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
        assert listed["outstanding"] == 4
        await audit.said("health", share_id, 4, Status.RECALLED, record="1 entry removed")
        [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
        assert listed["outstanding"] == 3
    finally:
        await register(publisher, BY_SCHOOL | {"subscriber": "health", "channel": "fhir"})


async def test_a_recipient_that_comes_back_while_a_removal_is_outstanding_is_asked_again(audit: AuditAtHand) -> None:
    publisher = audit.publisher
    life = await begin(publisher)
    wrong = await life.amend()
    await recall(life, version_id=wrong["version_id"])
    share_id = (await life.shares())[TRUST_NAME]["share_id"]
    await register(publisher, BY_SCHOOL)
    try:
        share = (await life.shares())[TRUST_NAME]
        what = {"version_id": share["version_id"], "sha256": share["sha256"], "record": "inbox/1"}
        await audit.said("school", share_id, 4, Status.OPENED, **what, removed=share["removing"])
        await publisher.resend.sweep()  # health is told to remove it, and says nothing
    finally:
        await register(publisher, BY_HEALTH)
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], said["seq"], said["remove"]) == ("requested", 5, [wrong["version_id"]])
    # A decision that changes nothing raises nothing.
    await decide_again(publisher)
    assert (await life.shares())[TRUST_NAME]["seq"] == 5
    await filed(audit, life, TRUST_NAME, removed=[wrong["version_id"]])
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = (await audit.breach_pack(listed["recall_id"]))["document"]
    assert {each["removal"]["state"] for each in pack["recipients"] if each["recipient"] == TRUST_NAME} == {"removed"}
    await decide_again(publisher)
    assert (await life.shares())[TRUST_NAME]["seq"] == 5, "what is proved is asked no more"


async def test_what_was_given_after_all_is_not_asked_for_when_a_newer_version_comes(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await recall(life, "wrong_recipient", shares=[str((await life.shares())[TRUST_NAME]["share_id"])])
    trust: dict[str, Any] = {
        "organisation": {"scheme": "ods", "value": "RNA"},
        "lawful_basis": "direct care",
        "reason": "It treats the child.",
    }
    await life.record("decide", share=True, **trust)
    await filed(audit, life, TRUST_NAME)
    newer = await life.amend()
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], said["version_id"], said["remove"]) == ("requested", newer["version_id"], [])


async def decide_again(publisher: PublisherAtHand) -> None:
    """All plans, as each night."""
    async with council_transaction(publisher.pool, {"332"}) as connection:
        await store_events.queue_plans(connection, "test", "332")
    while await publisher.redeciding.step():
        pass


async def test_the_pack_shows_who_got_it_from_the_council_that_had_the_plan_before(audit: AuditAtHand, tmp_path: Path) -> None:
    life = await begin(audit.publisher)
    await filed(audit, life, TRUST_NAME)
    await filed(audit, life, PRIMARY_NAME, Status.OPENED, opened_by="account-7")
    old_name = life.sent["case_reference"]
    await life.record("transfer", to_la_code="333", moved_on=yesterday(), aware_on=yesterday())
    life.client = "case-system-333"
    await filed(audit, life, ICB_NAME)
    await recall(life)
    await removed(audit, life, TRUST_NAME)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}", "case-system-333")
    signed = await audit.breach_pack(listed["recall_id"], "case-system-333")
    pack = signed["document"]
    trust, school, icb = (from_(pack)[name] for name in (TRUST_NAME, PRIMARY_NAME, ICB_NAME))
    assert (trust["copies"][0]["held_as"], trust["removal"]["state"]) == ("filed", "removed")
    assert [each["by"] for each in school["copies"][0]["opened"]] == ["account-7"]
    assert [(each["status"], each["la_code"]) for each in trust["receipts"]] == [("filed", "332"), ("recalled", "333")]
    assert {each["copies"][0]["shared_by"] for each in (trust, school, icb)} == {"332"}
    [before] = pack["earlier_councils"]
    assert (before["la_code"], before["case_reference"], before["receipts"]) == ("332", old_name, 2)
    assert breach_pack.check_receipts(pack).good == 4
    file = tmp_path / "pack.json"
    file.write_bytes(orjson.dumps(signed))
    assert verify(file.read_bytes(), audit.document_key).kind == "breach-pack"
    # Each council's rights stay: the former one sees no recall of the plan, and its ledger says what was shown of its time.
    assert await audit.recalls(f"?plan_id={life.plan_id}", "case-system-332") == []
    rows = await audit.publisher.owner.fetch(
        "SELECT la_code, actor, details->>'for' AS for_, details->>'receipts' AS receipts FROM audit.pending"
        " WHERE plan_id = $1 AND act = 'breach_pack_read' ORDER BY la_code", UUID(life.plan_id),
    )  # fmt: skip
    assert [tuple(row) for row in rows] == [
        ("332", "case-system-333", "333", "2"), ("333", "case-system-333", None, None),
    ]  # fmt: skip


async def test_what_only_a_council_elsewhere_can_say_is_in_the_pack(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await life.record("taken_over", from_la_code="305", transferred_on=yesterday(3))
    await life.record("transfer", to_la_code="301", moved_on=yesterday(), aware_on=yesterday())
    await recall(life)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = (await audit.breach_pack(listed["recall_id"]))["document"]
    assert pack["to_be_asked"] == [
        f"The plan came from a council outside this exchange on {yesterday(3)}: that one must say who has it.",
        f"The plan went to a council outside this exchange on {yesterday()}: that one must say who has it.",
    ]


async def test_receipts_are_verified_offline_also_with_a_key_that_was_replaced_since(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await filed(audit, life, TRUST_NAME)
    await recall(life)
    await removed(audit, life, TRUST_NAME)
    former, audit.keys["health"] = audit.keys["health"], OKPKey.generate_key("Ed25519")
    await audit.publisher.owner.execute(
        "UPDATE publisher.subscriber SET receipt_key = $1 WHERE subscriber = 'health'",
        audit.keys["health"].as_dict(private=False),
    )
    await removed(audit, life, ICB_NAME)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    signed = await audit.breach_pack(listed["recall_id"])
    pack = signed["document"]
    assert breach_pack.check_receipts(pack) == breach_pack.Checked(good=3, other_key=0)
    now, before = pack["receipt_keys"]
    assert [each["key"] for each in (now, before)] == [
        audit.keys["health"].as_dict(private=False), former.as_dict(private=False),
    ]  # fmt: skip
    assert (now["valid_until"], now["valid_from"]) == (None, before["valid_until"])
    trust = from_(pack)[TRUST_NAME]["receipts"]
    assert {each["key"] for each in trust} == {before["fingerprint"]}
    with zipfile.ZipFile(io.BytesIO(breach_pack.archive(orjson.dumps(signed)))) as archive:
        kept = {orjson.loads(archive.read(name))["x"] for name in archive.namelist() if name.startswith("keys/health")}
    assert kept == {key.as_dict(private=False)["x"] for key in (former, audit.keys["health"])}
    # A key that did not hold when the receipt came verifies nothing: it may be in the wrong hands since.
    trust[0]["received_at"] = (datetime.fromisoformat(before["valid_until"]) + timedelta(hours=1)).isoformat()
    with pytest.raises(SignedDocumentError, match="not signed by health"):
        breach_pack.check_receipts(pack)


async def test_one_whose_share_was_withdrawn_long_ago_is_asked_too_and_one_that_only_fetched(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await filed(audit, life, TRUST_NAME)
    await life.read("subscriber-health", ICB_NAME)  # and never a receipt
    await life.record("involved_changed", involved=[], changed_on="2026-02-20")
    share = (await life.shares())[TRUST_NAME]
    assert share["action"] == "withdraw"
    await audit.said("health", share["share_id"], 2, Status.WITHDRAWN)
    await life.amend("2026-03-02", unique(), involved=[])
    await recall(life)
    assert (await life.shares())[TRUST_NAME]["action"] == "recall"
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = from_((await audit.breach_pack(listed["recall_id"]))["document"])
    assert pack.keys() == EVERYONE
    assert (pack[TRUST_NAME]["removal"]["state"], pack[TRUST_NAME]["copies"][0]["held_as"]) == ("outstanding", "filed")
    assert (len(pack[ICB_NAME]["copies"][0]["fetched"]), pack[ICB_NAME]["copies"][0]["held_as"]) == (1, None)
    await filed(audit, life, ICB_NAME)  # its new version, for the same demand
    await removed(audit, life, TRUST_NAME)
    pack = from_((await audit.breach_pack(listed["recall_id"]))["document"])
    assert {name: each["removal"]["state"] for name, each in pack.items()} == {
        PARENT: "outstanding", PRIMARY_NAME: "outstanding", ICB_NAME: "removed", TRUST_NAME: "removed",
    }  # fmt: skip


async def test_two_officers_recall_the_same_and_it_is_one_breach_with_one_clock(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await recall(life, hours_ago=10)
    await removed(audit, life, TRUST_NAME)
    await recall(life, hours_ago=30, by="officer-2")
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    assert (listed["copies"], listed["hours_since_aware"], listed["recorded_by"]) == (4, 30, "officer-1")
    assert [(each["by"], each["recorded_at"] <= listed["recorded_at"]) for each in listed["words"]] == [
        ("officer-1", True), ("officer-2", False),
    ]  # fmt: skip
    assert min(each["aware_at"] for each in listed["words"]) == listed["aware_at"]
    aware = datetime.fromisoformat(listed["aware_at"])
    assert datetime.fromisoformat(listed["report_by"]) == aware + timedelta(hours=72)
    # It is asked for anew, and what was proved before does not count for that.
    assert listed["outstanding"] == 4
    for name in EVERYONE:
        await removed(audit, life, name)
    await recall(life, hours_ago=5)  # the first one again, who says when anew: no clock runs later for that
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    assert (listed["hours_since_aware"], len(listed["words"])) == (30, 3)
    pack = (await audit.breach_pack(listed["recall_id"]))["document"]
    assert pack["recall"]["words"] == listed["words"]
    assert len({each["share_id"] for each in pack["recipients"]}) == 4
    # Wrong recipients are breaches of their own, but not one of them twice.
    shares = await life.shares()
    one, other = str(shares[TRUST_NAME]["share_id"]), str(shares[ICB_NAME]["share_id"])
    for which in ([one], [other], [one, other]):
        await recall(life, "wrong_recipient", shares=which)
    found = await audit.recalls(f"?plan_id={life.plan_id}")
    assert [(each["reason"], each["copies"], len(each["words"])) for each in found] == [
        ("wrong_child", 4, 3), ("wrong_recipient", 2, 2), ("wrong_recipient", 1, 1),
    ]  # fmt: skip


async def test_a_notice_that_went_to_the_wrong_recipient_is_recalled_from_that_one(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    report = part("document", pdf_document("Report"), "report.pdf", "application/pdf")
    answer = await life.upload("review_held", report, review="R1", held_on="2026-11-02")
    notice_id = answer.json()["notice_id"]
    rows = await audit.publisher.owner.fetch(
        "SELECT s.share_id, r.name FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)"
        " WHERE s.notice_id = $1", notice_id,
    )  # fmt: skip
    told = {row["name"]: row["share_id"] for row in rows}
    plan_share = str((await life.shares())[PARENT]["share_id"])
    wrong = {"version_id": notice_id, "reason": "wrong_recipient", "aware_at": "2026-11-02T09:00:00Z"}
    await life.refused(422, "unknown-share", "recall", shares=[plan_share], **wrong)
    await recall(life, "wrong_recipient", version_id=notice_id, shares=[str(told[PARENT])])
    said = (await audit.publisher.outbox(told[PARENT]))[-1]
    assert (said["type"], said["data"]["remove"]) == ("ehcp.share.recalled.v1", [notice_id])
    assert (await life.shares())[PARENT]["action"] == "hold", "the plan itself is theirs"
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    assert (listed["notice"], listed["copies"]) == ("review_report", 1)
    [only] = (await audit.breach_pack(listed["recall_id"]))["document"]["recipients"]
    assert (only["recipient"], only["copies"][0]["notice"]) == (PARENT, "review_report")
    # One of the wrong child goes from everybody who was told.
    await recall(life, version_id=notice_id)
    actions = await audit.publisher.owner.fetch("SELECT action FROM publisher.share WHERE notice_id = $1", notice_id)
    assert {row["action"] for row in actions} == {"recall"}


async def test_a_recalled_report_reaches_everybody_who_got_it_and_nobody_is_told_of_it_later(audit: AuditAtHand) -> None:
    publisher = audit.publisher
    await put(publisher, school("800057", "Outlying School", areas=["931"]))
    life = await begin(publisher, placements=[placed(PRIMARY), placed("urn:800057")])
    report = part("document", pdf_document("Report of another child"), "report.pdf", "application/pdf")
    notice_id = (await life.upload("review_held", report, review="R1", held_on="2026-11-02")).json()["notice_id"]
    rows = await publisher.owner.fetch(
        "SELECT s.share_id, r.name FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)"
        " WHERE s.notice_id = $1", notice_id,
    )  # fmt: skip
    told = {row["name"]: row["share_id"] for row in rows}
    assert {PARENT, PRIMARY_NAME} <= told.keys()
    await publisher.read("subscriber-family", (told[PARENT], 1))  # and no receipt yet: it counts as not arrived
    await audit.said("school", told[PRIMARY_NAME], 1, Status.OPENED, version_id=notice_id, record="inbox/1", opened_by="senco")
    # The parent is of the family no more: the notice is taken back from them, who have read it.
    await life.record("family_changed", family=[{"reference": "F9", "role": "parent", "name": "Ben"}], changed_on="2026-11-03")
    taken_back = (await publisher.outbox(told[PARENT]))[-1]
    assert taken_back["type"] == "ehcp.share.withdrawn.v1"
    await recall(life, version_id=notice_id)
    for name, share_id in told.items():
        said = (await publisher.outbox(share_id))[-1]
        assert (said["type"], said["data"]["remove"]) == ("ehcp.share.recalled.v1", [notice_id]), name
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = from_((await audit.breach_pack(listed["recall_id"]))["document"])
    assert pack.keys() == told.keys()
    assert listed["outstanding"] == len(told)
    assert [each["by"] for each in pack[PARENT]["copies"][0]["fetched"]] == ["subscriber-family"]
    assert [each["by"] for each in pack[PRIMARY_NAME]["copies"][0]["opened"]] == ["senco"]
    # Who waited for a second person's confirmation when it went out is not told now.
    recipient = str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "800057"))
    await life.record("confirm", recipient_id=recipient, share=True, by=ANOTHER)
    assert "Outlying School" in await life.held()
    assert "review_report" not in await life.told()


async def test_a_wrong_recipient_of_the_plan_loses_its_notices_too(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    await recall(life, "wrong_recipient", shares=[str((await life.shares())[PARENT]["share_id"])])
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = (await audit.breach_pack(listed["recall_id"]))["document"]
    assert {(each["recipient"], each["copies"][0]["notice"]) for each in pack["recipients"]} == {
        (PARENT, None), (PARENT, "review_invitation"),
    }  # fmt: skip


async def test_who_may_read_it_and_every_look_is_an_act(audit: AuditAtHand) -> None:
    life = await begin(audit.publisher)
    await recall(life)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}", "case-system-332")
    recall_id = listed["recall_id"]
    await audit.breach_pack(recall_id, "case-system-332")
    assert await audit.recalls(f"?plan_id={life.plan_id}", "case-system-333") == []
    problem(await audit.get(f"/v1/recalls/{recall_id}", "case-system-333"), 404, "no-such-recall")
    problem(await audit.get(f"/v1/recalls/{uuid4()}"), 404, "no-such-recall")
    for path in ("/v1/recalls", f"/v1/recalls/{recall_id}"):
        assert (await audit.get(path, "subscriber-health")).status_code == 403
        assert (await audit.http.get(path)).status_code == 401
    rows = await audit.publisher.owner.fetch(
        "SELECT act, actor, la_code FROM audit.pending WHERE plan_id = $1 AND act LIKE '%recalls_read'"
        " OR plan_id = $1 AND act = 'breach_pack_read' ORDER BY id", life.plan_id,
    )  # fmt: skip
    assert [tuple(row) for row in rows] == [
        ("recalls_read", "case-system-332", "332"), ("breach_pack_read", "case-system-332", "332"),
    ]  # fmt: skip


async def test_pages_of_recalls(audit: AuditAtHand) -> None:
    publisher: PublisherAtHand = audit.publisher
    lives = [await begin(publisher) for _ in range(3)]
    for life in lives:
        await recall(life)
    seen, after = [], ""
    while True:
        page = (await audit.get(f"/v1/recalls?limit=2{after}")).json()
        seen += [row["plan_id"] for row in page["recalls"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert [plan_id for plan_id in seen if plan_id in {life.plan_id for life in lives}] == [life.plan_id for life in lives]
