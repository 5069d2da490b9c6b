"""What every contract model shares: immutable, closed to unknown fields, aware times only, and refusals that help.

A field that nobody knows is refused, not ignored: a council that misspells ``commissioning_bodies`` must hear of it
before a commissioner goes without the plan. Messages between the exchange's own parts are :class:`Open`, so that a
newer council may add fields; what is hashed is :class:`Kept`, so that a reader who does not know a field still
computes the same hash. No model repeats what it was given in an error: a wrong NHS number is still almost an NHS
number. What stands below a field as a docstring is its description in everything published.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

FROM_OUTSIDE = {"from": "outside"}
"""pydantic's context for what a council sends: judged by rules too that are younger than what is stored."""


class ContractError(ValueError):
    """Raised by a validator: what is wrong and what to send instead, each without the value itself."""

    def __init__(self, problem: str, instead: str) -> None:
        super().__init__(f"{problem}; {instead}")
        self.problem = problem
        self.instead = instead


def _one_line(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ContractError("it is empty, or not one printable line", "send one line of text, without personal data")
    return text.strip()


OneLine = Annotated[str, AfterValidator(_one_line)]
"""What a person says in a word or two: a name, a reason."""


class Closed(BaseModel):
    """A document that comes in from a council: unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        str_strip_whitespace=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class Open(BaseModel):
    """A message between the exchange's own parts: unknown fields are ignored (a minor version may add some)."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class Kept(BaseModel):
    """A part of a message that a hash covers: unknown fields are kept, so that the hash still fits."""

    model_config = ConfigDict(
        extra="allow", frozen=True, populate_by_name=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class RecipientKind(StrEnum):
    """What a recipient is to the child, in the words of the regulations and of practice."""

    PARENT = "parent"
    YOUNG_PERSON = "young_person"
    SCHOOL = "school"
    COLLEGE = "college"
    EARLY_YEARS = "early_years"
    ALTERNATIVE_PROVISION = "alternative_provision"
    VIRTUAL_SCHOOL = "virtual_school"
    COMMISSIONING_BODY = "commissioning_body"
    TRUST = "trust"
    CAMHS = "camhs"
    THERAPIES = "therapies"
    WHEELCHAIR_SERVICE = "wheelchair_service"
    GP = "gp"
    ADULT_HEALTH = "adult_health"
    SOCIAL_CARE = "social_care"
    DISABILITY_SERVICE = "disability_service"
    ADULT_SOCIAL_CARE = "adult_social_care"
    KEY_WORKER_SERVICE = "key_worker_service"
    EARLY_HELP = "early_help"
    YOUTH_OFFENDING_SERVICE = "youth_offending_service"
    CUSTODIAL_ESTABLISHMENT = "custodial_establishment"
    SEND_ADVICE_SERVICE = "send_advice_service"


class Channel(StrEnum):
    """How a recipient takes a plan; which outcome satisfies which channel: :func:`schemas.receipts.satisfies`."""

    FHIR = "fhir"
    MESH = "mesh"
    HL7V2 = "hl7v2"
    WEBHOOK = "webhook"
    SFTP = "sftp"
    INBOX = "inbox"
    MANUAL = "manual"


class Grounds(StrEnum):
    """Why a recipient should hold a plan."""

    STATUTORY = "statutory"
    POLICY = "policy"
    DECISION = "decision"
