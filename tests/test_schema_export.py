"""`schema.graphql` and `openapi.json` are current; the first describes everything in it."""

import json
import re
from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    build_schema,
)

from contact_gateway.contacts.contact import NEW_CONTACT_JSON_SCHEMA
from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.faces.graphql.schema import schema_sdl
from contact_gateway.faces.rest.openapi import openapi_document

ROOT = Path(__file__).parent.parent


def test_the_printed_schema_is_current() -> None:
    assert (ROOT / "schema.graphql").read_text(encoding="utf-8") == schema_sdl(), (
        "run: contact-gateway schema graphql > schema.graphql"
    )


def test_no_type_has_a_name_that_clients_take_for_relay_s() -> None:
    names = build_schema(schema_sdl()).type_map
    taken = re.compile(".*(Connection|Edge)|PageInfo|Node")

    assert [name for name in names if taken.fullmatch(name)] == []


def test_no_argument_has_a_default_of_null() -> None:
    """Hasura refuses it."""
    defaults = set(re.findall(r"(\w+): (.*) = (.*)", schema_sdl()))

    assert defaults == {("dryRun", "Boolean", "false"), ("onConflict", "OnConflict", "REFUSE")}


def test_the_printed_openapi_document_is_current() -> None:
    printed = (ROOT / "openapi.json").read_text(encoding="utf-8")

    assert json.loads(printed) == openapi_document(), (
        "run: contact-gateway schema openapi > openapi.json"
    )


def test_every_type_field_argument_input_and_enum_value_is_described() -> None:
    schema = build_schema(schema_sdl())
    undescribed = []
    for name, kind in schema.type_map.items():
        if name.startswith("__") or name in {"ID", "String", "Int", "Boolean", "Float"}:
            continue
        if not kind.description:
            undescribed.append(name)
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for field_name, field in kind.fields.items():
                if not field.description:
                    undescribed.append(f"{name}.{field_name}")
        if isinstance(kind, GraphQLObjectType):
            for field_name, output in kind.fields.items():
                undescribed += [
                    f"{name}.{field_name}({argument_name}:)"
                    for argument_name, argument in output.args.items()
                    if not argument.description
                ]
        if isinstance(kind, GraphQLEnumType):
            undescribed += [
                f"{name}.{value_name}"
                for value_name, value in kind.values.items()
                if not value.description
            ]

    assert undescribed == []


def test_the_input_has_the_fields_and_descriptions_of_the_domain() -> None:
    schema = build_schema(schema_sdl())
    input_type = schema.type_map["CreateContactInput"]
    assert isinstance(input_type, GraphQLInputObjectType)
    described = {
        "".join(
            word if position == 0 else word.capitalize()
            for position, word in enumerate(name.split("_"))
        ): field["description"]
        for name, field in NEW_CONTACT_JSON_SCHEMA["properties"].items()
    }

    assert {name: field.description for name, field in input_type.fields.items()} == described


def test_every_error_code_has_a_union_member_that_implements_the_interface() -> None:
    schema = build_schema(schema_sdl())
    interface = schema.type_map["ApiError"]
    assert isinstance(interface, GraphQLInterfaceType)
    implementations = {kind.name for kind in schema.get_implementations(interface).objects}
    expected = {
        "".join(word.capitalize() for word in code.split("_")) + "Error" for code in ErrorCode
    }

    assert implementations == expected
