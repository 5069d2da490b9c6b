"""The social care case systems of the sandbox: one small real webhook receiver, a path per council."""

import sys
from dataclasses import dataclass
from pathlib import Path

from services.cli.machine import ports
from services.cli.machine.supervisor import Part


@dataclass(frozen=True, slots=True)
class SocialCareReceiver:
    folder: Path
    port: int
    secret_file: Path

    def url(self, la_code: str) -> str:
        return f"http://{ports.HOST}:{self.port}/webhooks/{la_code}"

    def part(self, log: Path) -> Part:
        arguments = ["--port", str(self.port), "--data", str(self.folder), "--secret-file", str(self.secret_file)]
        return Part(
            name="social_care",
            command=[sys.executable, "-m", "deploy.sandbox.social_care.receiver", *arguments],
            log=log,
            is_ready=lambda: ports.answers_http(self.port, "/health"),
        )
