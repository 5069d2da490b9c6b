"""Health: each plan goes to the trust's clinical record (FHIR), its MESH mailbox, its integration engine (HL7 v2) or its folder
on a server (SFTP); a commissioning body's copy goes to its inbox."""

from functools import partial

from services.health_subscriber.fhir import FhirRecord, build_fhir
from services.health_subscriber.hl7v2 import build_hl7v2
from services.health_subscriber.mesh import MeshRecord, build_mesh
from services.shared.delivery.subscriber import Parts, build_subscriber
from services.shared.record_systems.inbox_readers import InboxSettings, inbox_routers
from services.shared.record_systems.sftp_receipts import SftpSystems
from services.shared.record_systems.systems import Builder, SystemSettings
from services.shared.runtime import Service, run

NAME = "health_subscriber"


async def build() -> Service:
    settings = InboxSettings()
    meshes: list[MeshRecord] = []
    records: dict[str, FhirRecord] = {}
    sftp = SftpSystems()

    def builders(parts: Parts) -> dict[str, Builder]:
        def mesh(entry: SystemSettings) -> MeshRecord:
            meshes.append(build_mesh(entry, parts.pool, parts.receipts))
            return meshes[-1]

        def fhir(entry: SystemSettings) -> FhirRecord:
            records[entry.name] = build_fhir(entry)
            return records[entry.name]

        return {
            "fhir": fhir, "mesh": mesh, "hl7v2": build_hl7v2(parts.pool), "sftp": sftp.builder(parts.pool)
        }  # fmt: skip

    service = await build_subscriber(NAME, settings, builders, lambda parts: inbox_routers(settings, parts))
    service.work |= {f"mesh:{each.system}": each.run for each in meshes}
    service.work |= {f"fhir:{name}": record.watch for name, record in records.items()}
    service.troubles += [partial(_unfit, name, record) for name, record in records.items()]
    service.work |= sftp.work()
    return service


def _unfit(name: str, record: FhirRecord) -> str | None:
    return record.unfit and f"record system {name}: {record.unfit}"


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
