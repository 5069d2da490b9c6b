"""Settings of a service, from its environment (and from files in ``secrets_dir`` where an orchestrator mounts them).

Connections keep the names that every operator knows (``DATABASE_URL``, ``KAFKA_…``); everything of ours begins ``EHCP_``.
Each service extends :class:`ServiceSettings` in its own ``app.py``.
"""

from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _unprefixed(name: str) -> AliasChoices:
    return AliasChoices(name, f"EHCP_{name}")


class KafkaSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="EHCP_", extra="ignore")

    bootstrap_servers: str = Field(validation_alias=_unprefixed("KAFKA_BOOTSTRAP_SERVERS"))
    security_protocol: str = Field("PLAINTEXT", validation_alias=_unprefixed("KAFKA_SECURITY_PROTOCOL"))
    sasl_mechanism: str = Field("SCRAM-SHA-512", validation_alias=_unprefixed("KAFKA_SASL_MECHANISM"))
    sasl_username: str | None = Field(None, validation_alias=_unprefixed("KAFKA_SASL_USERNAME"))
    sasl_password: str | None = Field(None, validation_alias=_unprefixed("KAFKA_SASL_PASSWORD"))
    ssl_cafile: Path | None = Field(None, validation_alias=_unprefixed("KAFKA_SSL_CAFILE"))


class ServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="EHCP_", extra="ignore", secrets_dir=None)

    database_url: str = Field(validation_alias=_unprefixed("DATABASE_URL"))
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    log_format: str = "json"
    log_level: str = "INFO"
