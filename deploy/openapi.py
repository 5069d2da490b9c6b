"""Writes ``schemas/openapi/`` from the routes of the services: ``python -m deploy.openapi``, ``--check`` in ``make check``.

Here and not in ``schemas/``, since the contract imports no service. The routes are made without the parts that answer.
"""

import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from schemas import published
from services.audit import api as audit
from services.audit import looks_api as audit_looks
from services.audit.openapi import ROUTES as AUDIT_ROUTES
from services.ehcp_publisher import api as publisher
from services.ehcp_publisher.comparison_api import ROUTES as COMPARISON_ROUTES
from services.ehcp_publisher.comparison_api import make_comparison_router
from services.ehcp_publisher.directory_api import ROUTES as DIRECTORY_ROUTES
from services.ehcp_publisher.directory_api import make_directory_router
from services.ehcp_publisher.feed import make_feed_router
from services.ehcp_publisher.looks_api import ROUTES as LOOKS_ROUTES
from services.ehcp_publisher.looks_api import make_looks_router
from services.ehcp_publisher.openapi import ROUTES
from services.ehcp_publisher.sending_again_api import ROUTES as SENDING_AGAIN_ROUTES
from services.ehcp_publisher.sending_again_api import make_sending_again_router
from services.shared.dead_letters.api import make_dead_letters_router
from services.shared.identity.tokens import Issuer, Verifier
from services.shared.record_systems.inbox_api import make_inbox_router
from services.shared.record_systems.manual import make_manual_router
from services.shared.record_systems.recalls_api import make_recalls_router
from services.shared.runtime import make_app
from services.shared.web.openapi import describe

FOLDER = Path(__file__).parent.parent / "schemas" / "openapi"

_NONE: Any = None
_VERIFIER = Verifier("", _NONE)
_ISSUER = Issuer("", _NONE, _NONE, _NONE)


def make_apps() -> dict[str, FastAPI]:
    """Each service that others call, with the title and the routes that its ``app.py`` gives it."""
    apps = {
        "ehcp_publisher": make_app("EHC Plan Exchange: publisher"),
        "audit": make_app("EHC Plan Exchange: audit"),
        "health_subscriber": make_app("EHC Plan Exchange: health subscriber"),
        "school_subscriber": make_app("EHC Plan Exchange: school subscriber"),
        "social_care_subscriber": make_app("EHC Plan Exchange: social care subscriber"),
        "family_subscriber": make_app("EHC Plan Exchange: family subscriber"),
    }
    apps["ehcp_publisher"].include_router(_ISSUER.router())
    plans = publisher.make_router(_NONE, _NONE, _NONE, _NONE, _NONE, _VERIFIER, _NONE)
    apps["ehcp_publisher"].include_router(describe(plans, ROUTES))
    apps["ehcp_publisher"].include_router(describe(make_feed_router(_NONE, (), _VERIFIER), ROUTES))
    directory = make_directory_router(_NONE, _NONE, _NONE, _VERIFIER, _NONE)
    apps["ehcp_publisher"].include_router(describe(directory, DIRECTORY_ROUTES))
    apps["ehcp_publisher"].include_router(describe(make_looks_router(_NONE, _VERIFIER), LOOKS_ROUTES))
    apps["ehcp_publisher"].include_router(describe(make_comparison_router(_VERIFIER, _NONE), COMPARISON_ROUTES))
    apps["ehcp_publisher"].include_router(describe(make_sending_again_router(_NONE, _VERIFIER), SENDING_AGAIN_ROUTES))
    apps["audit"].include_router(describe(audit.router(_NONE, _VERIFIER), AUDIT_ROUTES))
    apps["audit"].include_router(audit_looks.make_looks_router(_NONE, _VERIFIER, None))
    apps["audit"].include_router(make_dead_letters_router(_NONE, "audit.dead_letter", _NONE, audit.operator(_VERIFIER)))
    # A commissioning body reads its inbox at the first, a youth offending service at the last.
    for name in ("health_subscriber", "school_subscriber", "social_care_subscriber"):
        apps[name].include_router(_ISSUER.router())
        apps[name].include_router(make_inbox_router(_NONE, _NONE, _NONE, _VERIFIER))
        apps[name].include_router(make_recalls_router(_NONE, _NONE, _VERIFIER))
    apps["family_subscriber"].include_router(make_manual_router(_NONE, _NONE, _VERIFIER))
    return apps


def make_files() -> dict[Path, str]:
    return {FOLDER / f"{name}.json": published.as_text(app.openapi()) for name, app in make_apps().items()}


def main(arguments: list[str]) -> int:
    return published.run("deploy.openapi", make_files(), arguments, FOLDER)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
