"""Puts the embedded machine together: chooses ports, makes keys, writes the configuration, fetches what is missing, and
hands the parts to the supervisor. Where the person's environment names a real engine, that one is used instead.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.cli.machine import config, ports
from services.cli.machine.config import SERVICES, Overrides, Places
from services.cli.machine.databases import OWNER, ROLES, Databases
from services.cli.machine.errors import MachineError, UsageError
from services.cli.machine.fhir import FhirServer, install_packages
from services.cli.machine.folder import DataFolder
from services.cli.machine.kafka import ADMIN, Broker, KafkaCluster, new_cluster_id
from services.cli.machine.kafka_access import ensure_topics, load_access
from services.cli.machine.keys import KeyRing
from services.cli.machine.postgres import SUPERUSER, PostgresServer
from services.cli.machine.social_care import SocialCareReceiver
from services.cli.machine.supervisor import Event, Part, Supervisor, stop_leftovers

READY_WITHIN_SECONDS = 240.0
BROKER_COUNTS = (1, 3)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for on the command line and in the environment."""

    brokers: int | None = None  # None: as before, else one
    ports: Mapping[str, int] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=Overrides)


class Machine:
    def __init__(self, folder: DataFolder, wishes: Wishes, tell: Callable[[Event], None]) -> None:
        self.folder = folder
        self.wishes = wishes
        self.keys = KeyRing(folder.keys)
        self.places: Places | None = None
        self.supervisor: Supervisor | None = None
        self.supervises = False  # another `ehcp up` may own the folder; then nothing in it is touched
        self._tell = tell

    async def start(self, within_seconds: float = READY_WITHIN_SECONDS) -> None:
        """Everything, from an empty or an earlier folder to all parts ready. Raises MachineError with the reason."""
        self.folder.create()
        self.folder.take()
        self.supervises = True
        for name in await asyncio.to_thread(stop_leftovers, self.folder.run_file):
            self._tell(Event(name, "was left over from a run that was killed; stopped"))
        parts = await self._assemble()
        self.supervisor = Supervisor(parts, run_file=self.folder.run_file, tell=self._tell)
        await self.supervisor.start(within_seconds)
        self.folder.remembered.was_ready = True
        self.folder.save()

    async def stop(self) -> None:
        if self.supervisor is not None:
            await self.supervisor.stop()
        if self.supervises and self.folder.exists():
            self.folder.release()
        self.supervises = False

    def addresses(self) -> dict[str, str]:
        """What a person may want to open, by what it is."""
        assert self.places is not None
        found = {
            "publisher API": f"{self.places.url('ehcp_publisher')}/openapi.json",
            "audit API": f"{self.places.url('audit')}/openapi.json",
            "school inbox API": f"{self.places.url('school_subscriber')}/openapi.json",
            "social care case systems (sandbox)": f"http://{ports.HOST}:{self.places.social_care.port}/",
        }
        for tenant in self.places.fhir.tenants if self.places.fhir else ():
            assert self.places.fhir is not None
            found[f"clinical record of {tenant} (sandbox)"] = f"{self.places.fhir.base_url(tenant)}/DocumentReference"
        return found

    async def _assemble(self) -> list[Part]:
        overrides = self.wishes.overrides
        brokers = self._broker_count()
        places = self.places = self._place(brokers)
        environments = await asyncio.to_thread(config.write_configuration, self.folder, places, self.keys)
        engines = await self._engines(places)
        if overrides.database_url:
            self._tell(Event("postgres", "using the server of DATABASE_URL"))
            await places.databases.ensure()
        if overrides.kafka:
            self._tell(Event("kafka", "using the cluster of KAFKA_BOOTSTRAP_SERVERS"))
            await asyncio.to_thread(ensure_topics_elsewhere, overrides.kafka)
        if overrides.fhir_url:
            self._tell(Event("fhir", "using the server of EHCP_FHIR_URL; the sample children are not put into it"))
        # Where topics and grants are in place from an earlier start, services start beside the brokers and wait by
        # themselves: that halves the time.
        waited_for = ("postgres",) if self.folder.remembered.was_ready else ("postgres", "kafka")
        needed = frozenset(part.name for part in engines if part.name.startswith(waited_for))
        sandbox = places.social_care.part(self._log("social_care"))
        return [*engines, sandbox, *(self._service(name, environments[name], needed) for name in SERVICES)]

    def _broker_count(self) -> int:
        remembered, wished = self.folder.remembered, self.wishes.brokers
        if wished is not None and wished not in BROKER_COUNTS:
            raise UsageError(f"--brokers can be {' or '.join(map(str, BROKER_COUNTS))}.")
        if remembered.cluster_id and wished is not None and wished != remembered.brokers:
            raise UsageError(
                f"The Kafka in {self.folder.path} was made with --brokers {remembered.brokers}, which cannot be changed "
                "afterwards: use another --home, or `ehcp down --wipe` first."
            )
        if not remembered.cluster_id:
            remembered.cluster_id, remembered.brokers = new_cluster_id(), wished or 1
            self.folder.save()
        return remembered.brokers

    def _place(self, brokers: int) -> Places:
        overrides, folder = self.wishes.overrides, self.folder.path
        names = ["postgres"] if not overrides.database_url else []
        if not overrides.kafka:
            for node in range(1, brokers + 1):
                names += [f"kafka-{node}", f"kafka-{node}-controller"]
        names += ["fhir"] if not overrides.fhir_url else []
        names += ["social_care", *SERVICES]

        chosen = self.folder.choose_ports(names, self.wishes.ports, lambda text: self._tell(Event("ports", text, trouble=True)))
        passwords = {role: self.keys.password(f"postgres-{role}") for role in (OWNER, *ROLES)}
        kafka = None
        if not overrides.kafka:
            kafka = KafkaCluster(
                folder / "kafka",
                self.folder.remembered.cluster_id,
                tuple(
                    Broker(node, chosen[f"kafka-{node}"], chosen[f"kafka-{node}-controller"]) for node in range(1, brokers + 1)
                ),
                {account: self.keys.password(f"kafka-{account}") for account in (ADMIN, *load_access().accounts)},
            )
        directory = config.read_directory()
        return Places(
            ports=chosen,
            databases=Databases(overrides.database_url or self._postgres(chosen).admin_dsn, passwords),
            kafka=kafka,
            fhir=None if overrides.fhir_url else FhirServer(folder / "fhir", chosen["fhir"], config.fhir_tenants(directory)),
            social_care=SocialCareReceiver(
                folder / "social_care", chosen["social_care"], self.keys.webhook_secret("social-care")
            ),
            overrides=overrides,
        )

    def _postgres(self, chosen: Mapping[str, int]) -> PostgresServer:
        password = self.keys.password(f"postgres-{SUPERUSER}")
        return PostgresServer(self.folder.path / "postgres", chosen["postgres"], password, self._progress("postgres"))

    async def _engines(self, places: Places) -> list[Part]:
        parts = []
        if not places.overrides.database_url:
            parts.append(self._postgres(places.ports).part(self._log("postgres"), places.databases.ensure))
        if places.kafka is not None:
            parts += await asyncio.to_thread(places.kafka.parts, self.folder.logs, self._progress("kafka"))
        if places.fhir is not None:
            await asyncio.to_thread(install_packages, self._progress("fhir"))
            parts.append(places.fhir.part(self._log("fhir")))
        return parts

    def _service(self, name: str, environment: Mapping[str, str], needs: frozenset[str]) -> Part:
        assert self.places is not None
        port = self.places.ports[name]
        return Part(
            name=name,
            command=[sys.executable, "-m", f"services.{name}.app"],
            log=self._log(name),
            is_ready=lambda: ports.answers_http(port, "/health/ready"),
            needs=needs,
            environment=environment,
            folder=self.folder.path,
        )

    def _log(self, name: str) -> Path:
        return self.folder.logs / f"{name}.log"

    def _progress(self, part: str) -> Callable[[str], None]:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            # Called from a worker thread; what shows it lives in the loop.
            loop.call_soon_threadsafe(self._tell, Event(part, text))

        return progress


def ensure_topics_elsewhere(settings: Mapping[str, str]) -> None:
    """Makes the topics that are missing on a cluster that is not ours, as far as the given account may."""
    names = {
        "KAFKA_BOOTSTRAP_SERVERS": "bootstrap.servers",
        "KAFKA_SECURITY_PROTOCOL": "security.protocol",
        "KAFKA_SASL_MECHANISM": "sasl.mechanism",
        "KAFKA_SASL_USERNAME": "sasl.username",
        "KAFKA_SASL_PASSWORD": "sasl.password",
        "KAFKA_SSL_CAFILE": "ssl.ca.location",
    }
    client = {names[name]: value for name, value in settings.items()}
    try:
        with AdminClient({**client, "log_level": 0}) as admin:
            brokers = len(admin.list_topics(timeout=15).brokers)
            ensure_topics(admin, load_access(), replication=min(brokers, 3))
    except KafkaException as error:
        raise MachineError(
            f"The Kafka cluster at {settings['KAFKA_BOOTSTRAP_SERVERS']} does not answer or does not let this account "
            f"make the missing topics of deploy/kafka/topics.yaml: {error.args[0].str()}."
        ) from error
