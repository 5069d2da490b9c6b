"""What the publisher's routes take and give, for the OpenAPI document: they read streams, parts and lines themselves.

One row for each route of ``api`` that the framework cannot describe, by the name of its function.
"""

from schemas.answers import LineRefused, LineTaken, VersionAnswer
from schemas.documents import ReadAnswer, ReadRequest, SharesPage
from schemas.lifecycle import PLAN_EVENT, EventLine
from schemas.plan import PlanSubmission, VersionLine, VersionSubmission
from schemas.plan_answers import (
    ConfirmationsPage,
    EventAnswer,
    EventLineTaken,
    FlagsPage,
    GapsPage,
    PlanShown,
    PlansPage,
)
from services.shared.web import event_batch
from services.shared.web.openapi import (
    Described,
    gives_json,
    gives_lines,
    takes_json,
    takes_json_or_parts,
    takes_lines,
)

_PARTS = "The JSON in the part `submission`; beside it one PDF of your own, and files such as the advice of section K."
_CONFLICTS = (
    "`same-text`: it is the current version's text. `plan-exists`: the case reference is another plan's. `child-differs`: the "
    "child has other details here. `same-child`: the child has a plan already. `recalled`: this version was recalled. "
    "`rejected`: a second person rejected it. `version-held`: a newer one waits for a second person. `transferred`: its plan "
    "went to another council. `not-in-this-state`: the plan takes no version now. `key-reused`: the idempotency key was used "
    "with another body. `busy`: send it again."
)
_EVENT_CONFLICTS = (
    "`not-in-this-state`: what is allowed from the plan's state is said. `no-cease-notice`, `appeal-time`: it cannot cease "
    "yet. `transferred`: another council has the plan. `same-child`, `reference-taken`: another plan has what this would give "
    "it. `key-reused`: the idempotency key was used with another body. `busy`: send it again."
)
_NO_PLAN = "No plan of this id, or not of a council that this client acts for."
_ARCHIVE = {"application/zip": {"schema": {"type": "string", "format": "binary"}}}
_ISSUED = {
    200: ("The same version again: nothing was stored.", gives_json(VersionAnswer)),
    201: ("Issued, or kept as history, and who it goes to.", gives_json(VersionAnswer)),
    202: ("Held: it may have another child in it, and waits for a second person.", gives_json(VersionAnswer)),
}
_BODY = {
    400: "The body is not JSON, or not multipart/form-data.",
    409: _CONFLICTS,
    413: "The request, a file or the JSON is too large.",
    415: "The content type is neither JSON nor multipart/form-data.",
    422: "It does not fit the contract: every field that is wrong, and what to send instead.",
}

ROUTES = {
    "first_version": Described(takes_json_or_parts(PlanSubmission, "submission", _PARTS), _ISSUED, _BODY),
    "further_version": Described(
        takes_json_or_parts(VersionSubmission, "submission", _PARTS),
        _ISSUED,
        _BODY | {404: _NO_PLAN},
    ),
    "event": Described(
        takes_json_or_parts(
            PLAN_EVENT, "event", "The JSON in the part `event`; beside it what comes with it, such as a report."
        ),
        {
            200: ("The same event again: nothing was changed.", gives_json(EventAnswer)),
            201: ("Recorded, and what followed from it.", gives_json(EventAnswer)),
        },
        _BODY | {404: _NO_PLAN, 409: _EVENT_CONFLICTS},
    ),
    "plans": Described(gives={200: ("A page of plans.", gives_json(PlansPage))}),
    "plan": Described(
        gives={200: ("The plan, and what happened to it.", gives_json(PlanShown))},
        refuses={404: _NO_PLAN, 409: "`transferred`: another council has the plan."},
    ),
    "export": Described(
        gives={200: ("The archive: `plan.json`, and of each version its submission and files.", _ARCHIVE)},
        refuses={
            404: _NO_PLAN,
            409: "`restricted`, `version-held`, `not-in-this-state`, or `transferred`: another council has the plan.",
        },
    ),
    "gaps": Described(gives={200: ("Those involved who have no share.", gives_json(GapsPage))}),
    "flags": Described(gives={200: ("What a person should look at.", gives_json(FlagsPage))}),
    "confirmations": Described(gives={200: ("What waits for a second person.", gives_json(ConfirmationsPage))}),
    "batch": Described(
        takes_lines(PlanSubmission, VersionLine, EventLine),
        {200: ("One answer for each line, in order.", gives_lines(LineTaken, EventLineTaken, LineRefused))},
        {413: "Too many lines; those before the limit were taken."},
    ),
    "documents": Described(
        takes_json(ReadRequest),
        {200: ("One line for each read, in order; a rendering travels once.", gives_lines(ReadAnswer))},
        {400: "The body is not JSON.", 413: "Too many reads at once."},
    ),
    "feed": Described(gives={200: ("At most so many, none if none came in time.", event_batch.DESCRIBED)}),
    "shares": Described(gives={200: ("A page of the subscriber's own shares.", gives_json(SharesPage))}),
}
