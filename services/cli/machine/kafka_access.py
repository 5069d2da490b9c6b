"""Topics, accounts and access of `deploy/kafka/topics.yaml`, and what they come to in Kafka's own terms.

Invariant: an account may do what the file says and nothing else; everything not granted is refused by the authorizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).resolve().parents[3] / "deploy" / "kafka" / "topics.yaml"
SUBSCRIBER, SERVICE = "<subscriber>", "<service>"
MILLISECONDS_A_DAY = 24 * 60 * 60 * 1000
TIMEOUT_SECONDS = 30.0


class Defaults(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int
    retention_days: int


class Account(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


class Subscriber(BaseModel):
    """`name` is its id in topics and records, `service` its folder and account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    service: str
    title: str
    hosted_by: Literal["agency", "council"]


class Access(BaseModel):
    """The file, written out for each subscriber. Topics that an account names must be among `topics`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    defaults: Defaults
    subscribers: tuple[Subscriber, ...]
    topics: tuple[str, ...]
    accounts: dict[str, Account]

    def model_post_init(self, _context: object) -> None:
        for name, account in self.accounts.items():
            unknown = {*account.reads, *account.writes} - {*self.topics}
            if unknown:
                raise ValueError(f"account {name} names topics that do not exist: {sorted(unknown)}")
            if account.reads and account.group is None:
                raise ValueError(f"account {name} reads without a group")


@dataclass(frozen=True, slots=True)
class Login:
    """How a client reaches the cluster."""

    bootstrap_servers: str
    username: str
    password: str = field(repr=False)

    def settings(self) -> dict[str, str]:
        """For librdkafka clients."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.username,
            "sasl.password": self.password,
        }

    def environment(self) -> dict[str, str]:
        """For a service of ours."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": self.username,
            "KAFKA_SASL_PASSWORD": self.password,
        }


def load_access(file: Path = FILE) -> Access:
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    subscribers = [{"name": name, **entry} for name, entry in content["subscribers"].items()]
    names = [each["name"] for each in subscribers]
    accounts = {name: _for_each(account, names) for name, account in content["accounts"].items() if name != SERVICE}
    for each in subscribers:
        accounts[each["service"]] = _for_each(content["accounts"][SERVICE], [each["name"]])
    written = {"subscribers": subscribers, "topics": _for_each(content["topics"], names), "accounts": accounts}
    return Access.model_validate(content | written)


def _for_each(value: Any, names: Sequence[str]) -> Any:
    """`value` with a line for each subscriber where the file has one for all."""
    if isinstance(value, dict):
        return {key: _for_each(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [line for each in value for line in dict.fromkeys(each.replace(SUBSCRIBER, name) for name in names)]
    return value.replace(SUBSCRIBER, names[0]) if isinstance(value, str) else value


def acls_of(access: Access) -> list[AclBinding]:
    bindings = []

    def allow(kind: ResourceType, name: str, account: str, operation: AclOperation) -> None:
        pattern, host, permission = ResourcePatternType.LITERAL, "*", AclPermissionType.ALLOW
        bindings.append(AclBinding(kind, name, pattern, f"User:{account}", host, operation, permission))

    for name, account in access.accounts.items():
        for topic in account.reads:
            allow(ResourceType.TOPIC, topic, name, AclOperation.READ)
        if account.group is not None:
            allow(ResourceType.GROUP, account.group, name, AclOperation.READ)
        for topic in account.writes:
            allow(ResourceType.TOPIC, topic, name, AclOperation.WRITE)
        if account.writes:
            # What an idempotent producer asks of the cluster; without it the relay could write doubles.
            allow(ResourceType.BROKER, "kafka-cluster", name, AclOperation.IDEMPOTENT_WRITE)
    return bindings


def ensure_topics(admin: AdminClient, access: Access, replication: int) -> list[str]:
    """Makes the topics that are missing; returns their names. Those that are there stay as they are."""
    there = admin.list_topics(timeout=TIMEOUT_SECONDS).topics
    missing = [topic for topic in access.topics if topic not in there]
    if not missing:
        return []
    settings = {
        "retention.ms": str(access.defaults.retention_days * MILLISECONDS_A_DAY),
        "min.insync.replicas": "2" if replication > 2 else "1",
    }
    new = [NewTopic(topic, access.defaults.partitions, replication, config=settings) for topic in missing]
    for future in admin.create_topics(new, operation_timeout=TIMEOUT_SECONDS).values():
        try:
            future.result(TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return missing


def ensure_accounts(admin: AdminClient, access: Access, passwords: dict[str, str]) -> None:
    """Sets every account's password and grants; takes away grants that the file no longer has."""
    upserts: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(
            account, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), passwords[account].encode()
        )
        for account in access.accounts
    ]
    for future in admin.alter_user_scram_credentials(upserts).values():
        future.result(TIMEOUT_SECONDS)
    # None means any; the stubs of confluent-kafka do not know it.
    any_of = None
    everything = AclBindingFilter(
        ResourceType.ANY,
        any_of,  # type: ignore[arg-type]
        ResourcePatternType.ANY,
        any_of,  # type: ignore[arg-type]
        any_of,  # type: ignore[arg-type]
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    wanted = {describe(acl): acl for acl in acls_of(access)}
    held = {describe(acl): acl for acl in admin.describe_acls(everything).result(TIMEOUT_SECONDS)}
    missing = [acl for key, acl in wanted.items() if key not in held]
    surplus = [acl for key, acl in held.items() if key not in wanted]
    if missing:
        for future in admin.create_acls(missing).values():
            future.result(TIMEOUT_SECONDS)
    if surplus:
        filters = [
            AclBindingFilter(
                acl.restype,
                acl.name,
                acl.resource_pattern_type,
                acl.principal,
                acl.host,
                acl.operation,
                acl.permission_type,
            )
            for acl in surplus
        ]
        for future in admin.delete_acls(filters).values():
            future.result(TIMEOUT_SECONDS)


def describe(acl: AclBinding) -> tuple[str, ...]:
    return (str(acl.restype), acl.name, acl.principal, str(acl.operation), str(acl.permission_type))
