"""Starts PostgreSQL and Kafka once per test session with the same code as `ehcp up`, and stops them at its end.

A server that cannot start is a failure with one sentence, never a skip.
"""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from services.cli.machine.databases import OWNER, ROLES, Databases, new_password
from services.cli.machine.kafka import ADMIN, Broker, KafkaCluster, new_cluster_id
from services.cli.machine.kafka_access import Login, load_access
from services.cli.machine.ports import free_ports
from services.cli.machine.postgres import PostgresServer
from services.cli.machine.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class RunningPostgres:
    """`databases` has what `ehcp up` does to a server; roles are there from the start, databases are made by tests."""

    server: PostgresServer
    databases: Databases
    supervisor: Supervisor

    async def create_database(self, prefix: str, roles: tuple[str, ...] = ROLES) -> str:
        """A database of its own for one test (module); returns the owner's DSN, with which migrations are applied."""
        return self.owner_dsn(await self.create_named_database(prefix, roles))

    async def create_named_database(self, prefix: str, roles: tuple[str, ...] = ROLES) -> str:
        name = f"{prefix}_{secrets.token_hex(4)}"
        await self.databases.ensure_database(name, roles)
        return name

    def owner_dsn(self, database: str) -> str:
        return self.databases.dsn(database, OWNER)

    def dsn_as(self, role: str, other_dsn: str) -> str:
        """The DSN of the same database for another role: any service's name, or `OWNER`."""
        return self.databases.dsn(other_dsn.rsplit("/", 1)[1], role)

    def admin_dsn(self, database: str = "postgres") -> str:
        return self.databases.admin_dsn_of(database)


@dataclass(frozen=True, slots=True)
class RunningKafka:
    """Topics, accounts and grants are those of `deploy/kafka/topics.yaml`; `admin_login` may do everything."""

    cluster: KafkaCluster
    supervisor: Supervisor

    @property
    def bootstrap_servers(self) -> str:
        return self.cluster.bootstrap_servers

    @property
    def admin_login(self) -> Login:
        return self.cluster.login(ADMIN)

    def login(self, account: str) -> Login:
        return self.cluster.login(account)

    def admin(self) -> AdminClient:
        return self.cluster.admin()

    def create_topic(self, prefix: str, partitions: int = 1) -> str:
        """A topic of its own for one test; only the administrator may use it."""
        name = f"{prefix}.{secrets.token_hex(4)}"
        with self.admin() as admin:
            admin.create_topics([NewTopic(name, partitions, self.cluster.replication)])[name].result(30)
        return name


@asynccontextmanager
async def server_folder(name: str) -> AsyncIterator[Path]:
    """A folder that PostgreSQL can reach also when the tests run as root (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix=f"ehcp-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running_postgres() -> AsyncIterator[RunningPostgres]:
    async with server_folder("postgres") as folder:
        [port] = free_ports(1)
        server = PostgresServer(folder / "data", port, new_password())
        databases = Databases(server.admin_dsn, {role: new_password() for role in (OWNER, *ROLES)})
        part = server.part(folder / "postgres.log", databases.ensure_roles)
        supervisor = Supervisor([part], run_file=folder / "run.json")
        try:
            await supervisor.start()
            yield RunningPostgres(server, databases, supervisor)
        finally:
            await supervisor.stop()


@asynccontextmanager
async def running_kafka(brokers: int = 1) -> AsyncIterator[RunningKafka]:
    async with server_folder("kafka") as folder:
        ports = free_ports(2 * brokers)
        cluster = KafkaCluster(
            folder / "data",
            new_cluster_id(),
            tuple(Broker(node + 1, ports[2 * node], ports[2 * node + 1]) for node in range(brokers)),
            {account: new_password() for account in (ADMIN, *load_access().accounts)},
        )
        supervisor = Supervisor(cluster.parts(folder, lambda _text: None), run_file=folder / "run.json")
        try:
            await supervisor.start()
            yield RunningKafka(cluster, supervisor)
        finally:
            await supervisor.stop()
