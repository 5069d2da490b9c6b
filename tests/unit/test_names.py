"""Names as councils send them: what nobody sees is refused, and what was taken in before can still be read."""

import pytest
from pydantic import ValidationError

from schemas.base import FROM_OUTSIDE
from schemas.plan import Child
from schemas.refusals import sentences

CHILD = {"given_names": "Nia Grace", "date_of_birth": "2018-05-06"}


@pytest.mark.parametrize(
    "name",
    [
        "Hollo\u200bway",
        "\u202eyawolloH",
        "Holloway\ufeff",
        "Hollo\u00adway",
        "Hollo\u2028way",
        "Hollo\u0085way",
        "\u2066Holloway",
    ],
    ids=["zero-width", "right-to-left override", "byte order mark", "soft hyphen", "line separator", "control", "isolate"],
)
def test_what_nobody_sees_is_refused_in_words_and_without_the_name(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Child.model_validate(CHILD | {"family_name": name}, context=FROM_OUTSIDE)
    [said] = sentences(caught.value)
    assert said == (
        "family_name: it holds a character that nobody sees, such as a zero-width space or one that turns the direction of "
        "writing; type it anew; it was probably copied from a document"
    )
    assert Child.model_validate(CHILD | {"family_name": name}).family_name == name, "what is stored can be read"


@pytest.mark.parametrize("name", ["Ünal", "O’Brien", "D'Arcy-Łuc", "Nguyễn Thị", "محمد", "李小龍", "Ana\u00a0Maria"])
def test_names_of_all_peoples_are_taken(name: str) -> None:
    assert Child.model_validate(CHILD | {"family_name": name}, context=FROM_OUTSIDE).family_name == name
