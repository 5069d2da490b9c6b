"""Wire a subscriber: what all of them do, given the record systems that this one has. A subscriber's ``app.py`` calls it."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg
import httpx2
from fastapi import APIRouter

from schemas.receipts import HostedBy
from services.shared import logging
from services.shared.dead_letters.api import make_dead_letters_router
from services.shared.delivery.council import Council
from services.shared.delivery.dispatcher import Dispatcher
from services.shared.delivery.feed import Feed
from services.shared.delivery.handlers import Parking
from services.shared.delivery.heartbeats import Heartbeats
from services.shared.delivery.looks import Looks
from services.shared.delivery.receipts import Receipts
from services.shared.delivery.recipients_api import make_recipients_router
from services.shared.delivery.reconcile import Reconcile
from services.shared.delivery.record_check import RecordCheck
from services.shared.identity.client import TokenClient
from services.shared.identity.keys import read_key
from services.shared.identity.operator_token import OperatorToken
from services.shared.identity.receipts import signer
from services.shared.kafka.consume import consume, make_broker, stopped_topics
from services.shared.outbox.https_relay import HttpsRelay
from services.shared.outbox.relay import Relay
from services.shared.postgres.pool import open_pool
from services.shared.record_systems.inbox import Inbox, InboxKeys
from services.shared.record_systems.systems import Builder, read_systems
from services.shared.runtime import Service, make_app
from services.shared.sealing.sealing import read_master_key
from services.shared.settings import KafkaSettings, ServiceSettings


class SubscriberSettings(ServiceSettings):
    subscriber: str
    council_url: str
    client_id: str
    client_key_file: Path
    receipt_key_file: Path
    record_systems_file: Path
    master_key_file: Path
    hosted_by: HostedBy = HostedBy.AGENCY
    reconcile_seconds: float = 300
    feed: Literal["kafka", "https"] = "kafka"
    """How instructions come and receipts go. ``https``: no Kafka is spoken to."""
    heartbeat_seconds: float = 60
    away_after_seconds: float = 900
    """Without an answer of a record system, although something waits for it: then the council's people hear of it."""
    operator_token_file: Path | None = None
    """Whoever shows the token in it may see this subscriber's dead letters and pause its recipients; without it nobody may."""
    audit_url: str | None = None
    """Where receipts are posted with ``feed=https``; by default where the council's other addresses are."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a subscriber's own record systems and pages are built from."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    council: Council
    inbox: Inbox
    inbox_keys: InboxKeys
    receipts: Receipts


async def build_subscriber(
    name: str,
    settings: SubscriberSettings,
    builders: Callable[[Parts], dict[str, Builder]],
    routers: Callable[[Parts], Iterable[APIRouter]] = lambda _: (),
) -> Service:
    """``builders`` makes adapters by kind; every subscriber has ``inbox``. Raises one-sentence errors on bad settings."""
    logging.configure(name, settings.log_format, settings.log_level)
    master = read_master_key(settings.master_key_file)
    sign = signer(read_key(settings.receipt_key_file, "EHCP_RECEIPT_KEY_FILE"))
    client_key = read_key(settings.client_key_file, "EHCP_CLIENT_KEY_FILE")
    pool = await open_pool(settings.database_url)
    receipts = Receipts(settings.subscriber, settings.hosted_by, sign)
    inbox_keys = InboxKeys(master)
    http = httpx2.AsyncClient(timeout=httpx2.Timeout(30, connect=5), trust_env=False)
    tokens = TokenClient(http, settings.council_url, settings.client_id, client_key)
    council = Council(http, settings.council_url, tokens)
    parts = Parts(pool, council, Inbox(pool, inbox_keys), inbox_keys, receipts)
    systems = read_systems(settings.record_systems_file, {"inbox": lambda _: parts.inbox, **builders(parts)})
    instance = os.environ.get("EHCP_GROUP_INSTANCE_ID", f"{name}-0")
    dispatcher = Dispatcher(pool, council, systems, receipts, instance)
    records = RecordCheck(pool, systems, receipts, dispatcher.wake, settings.reconcile_seconds)
    looks = Looks(pool, systems, settings.subscriber, settings.hosted_by, sign, records.look_now)
    parking = Parking(pool, systems, receipts, dispatcher.wake, looks)
    reconcile = Reconcile(pool, council, parking, settings.reconcile_seconds)
    app = make_app(f"EHC Plan Exchange: {name.replace('_', ' ')}")
    for router in routers(parts):
        app.include_router(router)
    service = Service(
        name, settings, app, pool,
        work={"dispatcher": dispatcher.run, "reconcile": reconcile.run, "record_check": records.run,
              "looks": looks.run},
        close=[systems.close, http.aclose],
    )  # fmt: skip
    if settings.feed == "https":
        feed = Feed(pool, http, settings.council_url, tokens.headers, settings.subscriber, parking, receipts)
        relay = HttpsRelay(
            settings.database_url, "delivery.outbox", http, settings.audit_url or settings.council_url, tokens.headers
        )
        service.work |= {"feed": feed.run, "relay": relay.run}
    else:
        kafka = KafkaSettings()
        service.broker = make_broker(kafka, name)
        topic, group = f"ehcp.shares.{settings.subscriber}.v1", f"ehcp.{settings.subscriber}"
        service.progress = [consume(service.broker, [topic], group, parking.handle)]
        service.work["relay"] = Relay(settings.database_url, "delivery.outbox", kafka, name).run
    stopped, resume = stopped_topics(service.progress)
    heartbeats = Heartbeats(pool, settings.subscriber, sign, stopped, settings.heartbeat_seconds, settings.away_after_seconds)
    service.work["heartbeats"] = heartbeats.run
    if settings.operator_token_file is not None:
        operator = OperatorToken(settings.operator_token_file)
        app.include_router(make_dead_letters_router(pool, "delivery.dead_letter", parking.handle, operator, stopped, resume))
        app.include_router(make_recipients_router(pool, systems, dispatcher.wake, operator))
    return service
