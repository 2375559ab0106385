import pytest
from pydantic import TypeAdapter, ValidationError

from contact_gateway.contacts.problems import Problem, ProblemCode, problems_of


def test_any_other_error_of_pydantic_is_an_invalid_type() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(bool).validate_python("maybe")

    assert problems_of(raised.value, "contact") == (
        Problem(("contact",), ProblemCode.INVALID_TYPE, "The value is not valid."),
    )
