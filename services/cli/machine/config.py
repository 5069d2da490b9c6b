"""Writes what each service of the embedded machine needs to know: an environment file each, the registry, record systems.

Invariant: written anew at every start from the directory, the keys and the ports, so a file that was edited or lost does
not matter; files hold secrets and are readable by this user alone. What all exchanges share is `deploy/sandbox/directory.json`.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from schemas.identifiers import recipient_name
from services.cli.machine.databases import Databases, database_of
from services.cli.machine.fhir import FhirServer
from services.cli.machine.folder import DataFolder, write_private
from services.cli.machine.kafka import KafkaCluster
from services.cli.machine.kafka_access import load_access
from services.cli.machine.keys import KeyRing
from services.cli.machine.ports import HOST
from services.cli.machine.sandbox import DIRECTORY
from services.cli.machine.social_care import SocialCareReceiver

OPERATOR = "operator"
KAFKA_SETTINGS = (
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_CAFILE",
)
# Where alerts go and how; without a mail server they are in the notifier's log and on its topic.
NOTIFIER_SETTINGS = ("EHCP_SMTP_HOST", "EHCP_SMTP_PORT", "EHCP_ALERT_FROM", "EHCP_ALERT_TO", "EHCP_DASHBOARD_URL")
Environment = dict[str, str]


SUBSCRIBERS = load_access().subscribers
SERVICES = ("ehcp_publisher", "audit", "notifier", *(subscriber.service for subscriber in SUBSCRIBERS))


@dataclass(frozen=True, slots=True)
class Overrides:
    """Real engines that the person's environment names, to be used instead of the embedded ones."""

    database_url: str | None = None
    kafka: Mapping[str, str] | None = None
    fhir_url: str | None = None
    fhir_token: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Overrides":
        kafka = {name: environment[name] for name in KAFKA_SETTINGS if environment.get(name)}
        return cls(
            database_url=environment.get("DATABASE_URL") or None,
            kafka=kafka if "KAFKA_BOOTSTRAP_SERVERS" in kafka else None,
            fhir_url=environment.get("EHCP_FHIR_URL") or None,
            fhir_token=environment.get("EHCP_FHIR_TOKEN") or None,
        )


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is; None where the person brought their own."""

    ports: Mapping[str, int]
    databases: Databases
    kafka: KafkaCluster | None
    fhir: FhirServer | None
    social_care: SocialCareReceiver
    overrides: Overrides

    def url(self, service: str) -> str:
        return f"http://{HOST}:{self.ports[service]}"

    def fhir_url(self, ods_code: str) -> str:
        if self.overrides.fhir_url:
            return self.overrides.fhir_url.replace("{ods}", ods_code)
        assert self.fhir is not None
        return self.fhir.base_url(ods_code)


def read_directory() -> dict[str, Any]:
    directory: dict[str, Any] = orjson.loads(DIRECTORY.read_bytes())
    return directory


def fhir_tenants(directory: Mapping[str, Any]) -> list[str]:
    return sorted({recipient["codes"][0]["value"] for recipient in directory["recipients"] if recipient["channel"] == "fhir"})


def write_configuration(folder: DataFolder, places: Places, keys: KeyRing) -> dict[str, Environment]:
    """Returns each service's environment, as also written to `config/<service>.env`."""
    directory = read_directory()
    write_private(folder.config / "registry.json", dumps(registry(directory, keys)))
    clients = folder.config / "inbox_clients"
    clients.mkdir(mode=0o700, exist_ok=True)
    for subscriber in SUBSCRIBERS:
        write_private(clients / f"{subscriber.name}.json", dumps(inbox_clients(subscriber.name, directory, keys)))
    systems = folder.config / "record_systems"
    systems.mkdir(mode=0o700, exist_ok=True)
    for subscriber in SUBSCRIBERS:
        content = {"record_systems": record_systems(subscriber.name, directory, places)}
        write_private(systems / f"{subscriber.name}.json", dumps(content))
    environments = {service: service_environment(service, folder, places, keys) for service in SERVICES}
    for service, environment in environments.items():
        lines = "".join(f"{name}={value}\n" for name, value in sorted(environment.items()))
        write_private(env_file(folder, service), lines.encode())
    return environments


def env_file(folder: DataFolder, service: str) -> Path:
    return folder.config / f"{service}.env"


def read_environment(file: Path) -> Environment:
    environment = {}
    for line in file.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator:
            environment[name] = value
    return environment


def registry(directory: dict[str, Any], keys: KeyRing) -> dict[str, Any]:
    councils = [council["la_code"] for council in directory["councils"]]
    clients = [client(keys, f"case-system-{la_code}", "case_system", la_codes=[la_code]) for la_code in councils]
    clients.append(client(keys, OPERATOR, "operator", la_codes=councils))
    clients += [client(keys, f"subscriber-{each.name}", "subscriber", subscriber=each.name) for each in SUBSCRIBERS]
    subscribers = [
        {
            "subscriber": each.name,
            "name": each.title,
            "hosted_by": each.hosted_by,
            "receipt_key": keys.public_key(f"receipt-{each.name}"),
        }
        for each in SUBSCRIBERS
    ]
    return {**directory, "clients": clients, "subscribers": subscribers}


def client(keys: KeyRing, client_id: str, kind: str, **more: object) -> dict[str, Any]:
    return {"client_id": client_id, "kind": kind, **more, "public_key": keys.public_key(f"client-{client_id}")}


def inbox_clients(subscriber: str, directory: Mapping[str, Any], keys: KeyRing) -> list[dict[str, Any]]:
    """One reader for each organisation whose plans arrive in its inbox."""
    readers = []
    for recipient in directory["recipients"]:
        if recipient["subscriber"] == subscriber and recipient["channel"] == "inbox":
            [reader, *_] = names_of(recipient)
            client_id = "inbox-" + re.sub("[/:]", "-", recipient_name(reader["kind"], reader["scheme"], reader["value"]))
            readers.append({"client_id": client_id, "recipient": reader, "public_key": keys.public_key(f"client-{client_id}")})
    return readers


def names_of(recipient: Mapping[str, Any]) -> list[dict[str, str]]:
    """By each of its codes, with its kind: a council's services share one code."""
    return [{"kind": recipient["kind"], "scheme": each["scheme"], "value": each["value"]} for each in recipient["codes"]]


def record_systems(subscriber: str, directory: Mapping[str, Any], places: Places) -> list[dict[str, Any]]:
    mine = [recipient for recipient in directory["recipients"] if recipient["subscriber"] == subscriber]
    systems: list[dict[str, Any]] = []
    for recipient in mine:
        names = names_of(recipient)
        code = names[0]["value"]
        match recipient["channel"]:
            case "fhir":
                entry: dict[str, Any] = {"name": f"{code.lower()}-record", "kind": "fhir", "url": places.fhir_url(code)}
                if places.overrides.fhir_token:
                    entry["token"] = places.overrides.fhir_token
            case "webhook":
                secret = places.social_care.secret_file.read_text().strip()
                entry = {"name": f"social-care-{code}", "kind": "webhook", "url": places.social_care.url(code)}
                entry |= {"secret": secret, "allow_private": True}
            case _:
                continue
        systems.append({**entry, "recipients": names})
    everyone_else = "manual" if subscriber == "family" else "inbox"
    return [*systems, {"name": f"{subscriber}-{everyone_else}", "kind": everyone_else, "recipients": "*"}]


def service_environment(service: str, folder: DataFolder, places: Places, keys: KeyRing) -> Environment:
    environment = {
        "DATABASE_URL": places.databases.dsn(database_of(service), service),
        **(places.overrides.kafka or {}),
        **(places.kafka.login(service).environment() if places.kafka else {}),
        "EHCP_HTTP_HOST": HOST,
        "EHCP_HTTP_PORT": str(places.ports[service]),
        "EHCP_LOG_FORMAT": os.environ.get("EHCP_LOG_FORMAT", "json"),
        "EHCP_LOG_LEVEL": os.environ.get("EHCP_LOG_LEVEL", "INFO"),
    }
    publisher = places.url("ehcp_publisher")
    subscriber = next((each for each in SUBSCRIBERS if each.service == service), None)
    if subscriber is not None:
        environment |= {
            "EHCP_SUBSCRIBER": subscriber.name,
            "EHCP_HOSTED_BY": subscriber.hosted_by,
            "EHCP_COUNCIL_URL": publisher,
            "EHCP_CLIENT_ID": f"subscriber-{subscriber.name}",
            "EHCP_CLIENT_KEY_FILE": str(keys.signing_key(f"client-subscriber-{subscriber.name}")),
            "EHCP_RECEIPT_KEY_FILE": str(keys.signing_key(f"receipt-{subscriber.name}")),
            "EHCP_RECORD_SYSTEMS_FILE": str(folder.config / "record_systems" / f"{subscriber.name}.json"),
            "EHCP_MASTER_KEY_FILE": str(keys.master_key(service)),
            "EHCP_OPERATOR_TOKEN_FILE": str(keys.operator_token(subscriber.name)),
        }
    if service == "audit":
        environment["EHCP_DOCUMENT_KEY_FILE"] = str(keys.signing_key("documents"))
    match service:
        case "ehcp_publisher":
            environment |= {
                "EHCP_REGISTRY_FILE": str(folder.config / "registry.json"),
                "EHCP_MASTER_KEY_FILE": str(keys.master_key("council")),
                "EHCP_TOKEN_KEY_FILE": str(keys.signing_key("token")),
                "EHCP_ISSUER": publisher,
            }
        case "audit" | "family_subscriber":
            environment |= {
                "EHCP_TOKEN_PUBLIC_KEY_FILE": str(keys.public_key_file("token")),
                "EHCP_ISSUER": publisher,
            }
        case "school_subscriber" | "health_subscriber" | "social_care_subscriber" if subscriber is not None:
            environment |= {
                "EHCP_TOKEN_KEY_FILE": str(keys.signing_key(f"{subscriber.name}-token")),
                "EHCP_ISSUER": places.url(service),
                "EHCP_INBOX_CLIENTS_FILE": str(folder.config / "inbox_clients" / f"{subscriber.name}.json"),
            }
        case "notifier":
            environment |= {name: os.environ[name] for name in NOTIFIER_SETTINGS if os.environ.get(name)}
        case _:
            pass
    return environment


def dumps(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2)
