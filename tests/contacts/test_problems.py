import pytest
from pydantic import TypeAdapter, ValidationError

from contact_gateway.contacts.fields import RequiredText
from contact_gateway.contacts.problems import Problem, ProblemCode, problems_of


@pytest.mark.parametrize(
    ("value", "wanted", "problem"),
    [
        ("maybe", TypeAdapter(bool), (ProblemCode.INVALID_TYPE, "The value is not valid.")),
        (" \u200b", TypeAdapter(RequiredText), (ProblemCode.REQUIRED, "A value is required.")),
    ],
    ids=["any other error of Pydantic", "a text of blanks"],
)
def test_an_error_of_pydantic_is_a_problem(
    value: str, wanted: TypeAdapter[bool] | TypeAdapter[str], problem: tuple[ProblemCode, str]
) -> None:
    with pytest.raises(ValidationError) as raised:
        wanted.validate_python(value)

    assert problems_of(raised.value, "contact") == (Problem(("contact",), *problem),)
