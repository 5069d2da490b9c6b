"""Who may do what on Kafka, as `deploy/kafka/topics.yaml` says it, against the design's table written out by hand."""

import pytest
from confluent_kafka.admin import ResourcePatternType
from pydantic import ValidationError

from services.cli.machine.config import SUBSCRIBERS
from services.cli.machine.databases import ROLES
from services.cli.machine.kafka_access import Access, acls_of, load_access

IDS = ("health", "social-care", "school", "family")
SHARES = {f"ehcp.shares.{name}.v1" for name in IDS}
RECEIPTS = {f"ehcp.receipts.{name}.v1" for name in IDS}


def test_topics_are_those_of_the_design() -> None:
    # At least: an agency that was added has its own, by the same pattern.
    assert set(load_access().topics) >= {"ehcp.events.v1", "ehcp.alerts.v1"} | SHARES | RECEIPTS


def test_each_subscriber_reads_its_own_shares_and_writes_its_own_receipts() -> None:
    accounts = load_access().accounts
    for subscriber in SUBSCRIBERS:
        account = accounts[subscriber.service]
        assert account.group == f"ehcp.{subscriber.name}"
        assert account.reads == (f"ehcp.shares.{subscriber.name}.v1",)
        assert account.writes == (f"ehcp.receipts.{subscriber.name}.v1",)


def test_the_council_publishes_shares_and_audit_takes_in_receipts() -> None:
    accounts = load_access().accounts
    added = {each.name for each in SUBSCRIBERS} - set(IDS)
    assert set(accounts["ehcp_publisher"].writes) == {"ehcp.events.v1"} | SHARES | {f"ehcp.shares.{id_}.v1" for id_ in added}
    assert accounts["ehcp_publisher"].reads == ()
    assert set(accounts["audit"].reads) == RECEIPTS | {f"ehcp.receipts.{id_}.v1" for id_ in added}
    assert accounts["audit"].writes == ()
    assert accounts["notifier"].writes == ("ehcp.alerts.v1",)
    assert accounts["notifier"].reads == ()


def test_every_service_has_an_account_and_a_database_role() -> None:
    assert set(load_access().accounts) == set(ROLES)


def test_no_grant_goes_to_everybody_or_to_a_pattern() -> None:
    for acl in acls_of(load_access()):
        assert acl.principal.removeprefix("User:") in load_access().accounts
        assert acl.name != "*"
        assert acl.resource_pattern_type is ResourcePatternType.LITERAL


@pytest.mark.parametrize(
    "account",
    [{"reads": ["ehcp.unknown.v1"], "group": "g"}, {"reads": ["t"]}, {"writes": ["t"], "admin": True}],
)
def test_a_file_that_makes_no_sense_is_refused(account: dict[str, object]) -> None:
    content = {
        "defaults": {"partitions": 1, "retention_days": 1}, "subscribers": [], "topics": ["t"], "accounts": {"a": account},
    }  # fmt: skip
    with pytest.raises(ValidationError):
        Access.model_validate(content)
