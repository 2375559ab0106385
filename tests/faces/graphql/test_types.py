"""The classes of values have what the fields of their GraphQL types read."""

import pytest
from strawberry.types import get_object_definition

from contact_gateway.access.principals import Identity
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, ContactDetails
from contact_gateway.faces.graphql.types import ContactPreview, CreateContactInput


@pytest.mark.parametrize("class_", [Advertiser, Contact, ContactPreview, Identity])
def test_a_value_has_each_field_without_a_resolver(
    class_: type[Advertiser | Contact | ContactPreview | Identity],
) -> None:
    fields = get_object_definition(class_, strict=True).fields
    read = {field.python_name for field in fields if field.base_resolver is None}

    # A brand's id is for the resolvers alone.
    assert set(class_._fields) - {"hienergy_id"} == read


def test_an_input_has_each_field_of_a_submission() -> None:
    fields = get_object_definition(CreateContactInput, strict=True).fields

    assert [field.python_name for field in fields] == list(ContactDetails._fields)
