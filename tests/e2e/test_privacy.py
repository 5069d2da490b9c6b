"""Nothing personal where it must not be: in no log, on no topic, in no metric, in no alert."""

import pytest

from services.cli.machine.kafka_access import load_access
from tests.e2e.children import new_child
from tests.e2e.exchange import Exchange
from tests.e2e.test_one_plan import settled
from tests.e2e.test_order import read_topic
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_a_childs_data_is_in_no_log_topic_or_metric(exchange: Exchange) -> None:
    child, stranger = new_child(), new_child()
    await exchange.add_patient(child.patient)
    answers = await exchange.issue([child.first(), stranger.first(), {"la_code": "332", "child": child.identity}], render=True)
    assert [each["status"] for each in answers] == [201, 201, 422]
    await until(lambda: settled(exchange, answers[0]["plan_id"], 1), within=60, what="version 1 is everywhere")

    secrets = [
        child.nhs_number, stranger.nhs_number, "Okonjo", "Maribel", "Adaeze", "2015-04-17", "drumming", "visual timetable",
    ]  # fmt: skip
    places: dict[str, str] = {f"log {name}": text for name, text in exchange.logs().items()}
    for topic in load_access().topics:
        records = await read_topic(exchange, topic)
        places[f"topic {topic}"] = " ".join(f"{record.key!r} {record.headers!r} {record.value!r}" for record in records)
    for service in ("ehcp_publisher", "audit", "notifier", "health_subscriber", "school_subscriber"):
        places[f"metrics of {service}"] = (await exchange.http.get(f"{exchange.url(service)}/metrics")).text
    assert any(text for name, text in places.items() if name.startswith("topic ehcp.shares"))
    found = [(name, secret) for name, text in places.items() for secret in secrets if secret in text]
    assert not found
