"""Migration files: which apply to a service, and which part of a file is applied."""

import pytest

from services.shared.postgres.migrate import SERVICES, MigrationError, folders, up_part

MIGRATED = ["ehcp_publisher", "audit", "health_subscriber", "social_care_subscriber", "school_subscriber", "family_subscriber"]


def test_subscribers_get_what_every_delivery_needs_first() -> None:
    shared = SERVICES / "shared" / "delivery" / "migrations"
    for service in MIGRATED:
        found = folders(service)
        assert found, service
        assert (found[0] == shared) == service.endswith("_subscriber")
        assert all(folder.is_dir() for folder in found)


def test_only_the_up_part_is_applied() -> None:
    text = "-- migrate:up transaction:true\nCREATE TABLE a (x int);\n\n-- migrate:down\nDROP TABLE a;\n"
    assert up_part(text).strip() == "CREATE TABLE a (x int);"
    assert up_part("-- migrate:up\nSELECT 1;").strip() == "SELECT 1;"
    with pytest.raises(MigrationError, match="migrate:up"):
        up_part("CREATE TABLE a (x int);")


def test_every_migration_file_can_be_read_and_is_named_in_order() -> None:
    files = sorted(SERVICES.glob("*/migrations/*.sql")) + sorted(SERVICES.glob("shared/*/migrations/*.sql"))
    assert files
    for file in files:
        assert up_part(file.read_text()).strip(), file
        assert file.name[:3].isdigit(), file
    for folder in {file.parent for file in files}:
        numbers = [file.name[:3] for file in folder.glob("*.sql")]
        assert len(numbers) == len(set(numbers)), folder
