"""What of a child's identity each kind of recipient reads beside a plan."""

import pytest

from schemas.base import RecipientKind
from schemas.plan import Child
from services.ehcp_publisher.child_details import details_for

NAMES = {"family_name", "given_names", "preferred_name", "date_of_birth"}


@pytest.mark.parametrize(
    ("kinds", "identifiers"),
    [
        ("parent young_person youth_offending_service custodial_establishment send_advice_service early_help", set()),
        ("school college early_years alternative_provision virtual_school", {"upn", "uln"}),
        ("commissioning_body trust camhs therapies wheelchair_service gp adult_health", {"nhs_number"}),
        ("social_care disability_service adult_social_care key_worker_service", {"nhs_number"}),
    ],
)
def test_names_and_the_identifier_by_which_its_record_is_found(kinds: str, identifiers: set[str]) -> None:
    for kind in kinds.split():
        assert details_for(RecipientKind(kind)) == NAMES | identifiers


def test_every_kind_is_decided_about_and_the_address_goes_to_nobody() -> None:
    for kind in RecipientKind:
        details = details_for(kind)
        assert details < Child.model_fields.keys()
        assert not details & {"address", "postcode"}
