"""The OpenAPI document is valid and complete, and responses match it."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from contact_gateway.contacts.outcomes import BATCH_CODES, ErrorCode
from contact_gateway.contacts.source import HIENERGY_FILTERS, OWN_FILTERS, KnownFilters
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.rest.examples import EXAMPLES
from contact_gateway.faces.rest.openapi import openapi_document
from contact_gateway.http_statuses import status_of
from support.databases import Engine
from support.faces import Json
from support.gateway import Gateway, credentials

pytestmark = pytest.mark.anyio

OTHER_CODES = {
    TransportCode.NOT_FOUND,
    TransportCode.METHOD_NOT_ALLOWED,
    TransportCode.NOT_ACCEPTABLE,
    TransportCode.SEARCH_TIMEOUT,
}
DOCUMENT: Final[Json] = openapi_document()
COMPONENTS: Final = DOCUMENT["components"]


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: the document does not depend on the store."""
    return Engine.SQLITE


def _validator(schema: Json) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": COMPONENTS})


def _check(instance: object, schema: str) -> None:
    _validator({"$ref": f"#/components/schemas/{schema}"}).validate(instance)


def _responses() -> Iterator[tuple[str, Json]]:
    """Yield the name and the value of every response of every operation."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                yield f"{method} {path} {status}", response


def _within(part: Json) -> Iterator[Mapping[str, Json]]:
    """Yield every object in a part of the document."""
    if isinstance(part, Mapping):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _within(each)


@pytest.mark.parametrize(
    "filters", [OWN_FILTERS, HIENERGY_FILTERS], ids=["own store", "in front of HiEnergy"]
)
def test_the_document_is_valid_openapi(filters: KnownFilters) -> None:
    validate(openapi_document(filters))


async def test_the_document_is_served_without_a_key(gateway: Gateway) -> None:
    served = (await gateway.rest("/schema")).json()

    assert served == DOCUMENT | {"servers": [{"url": "http://gateway/api/v1"}]}


@pytest.mark.parametrize("path", ["/contacts", "/contacts/add"])
def test_every_outcome_of_the_operation_is_documented(path: str) -> None:
    responses = DOCUMENT["paths"][path]["post"]["responses"]
    documented = {
        (int(status), code)
        for status, response in responses.items()
        for code in (*ErrorCode, *TransportCode)
        if f"`{code}`" in response["description"]
    }

    assert documented == {
        (status_of(code), str(code)) for code in ErrorCode if code not in BATCH_CODES
    } | {(code.status, str(code)) for code in TransportCode if code not in OTHER_CODES}
    assert {"200", "201"} <= responses.keys()
    assert DOCUMENT["paths"]["/contacts"]["post"]["operationId"] == "createContact"


@pytest.mark.parametrize(
    "response", [pytest.param(response, id=name) for name, response in _responses()]
)
def test_every_response_has_a_valid_example_for_each_of_its_codes(response: Json) -> None:
    content = response["content"]["application/json"]
    codes = re.findall(r"`([A-Z_]+)`: ", response["description"])
    examples = {
        name: example
        if "value" in example
        else COMPONENTS["examples"][example["$ref"].rpartition("/")[2]]
        for name, example in content["examples"].items()
    }

    schemas = content["schema"].get("anyOf", ())
    documents = [each["$ref"].rpartition("/")[2] for each in schemas] or ["default"]
    assert list(examples) == (codes or documents)
    for name, example in examples.items():
        _validator(content["schema"]).validate(example["value"])
        assert not codes or example["value"]["error"]["code"] == name


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_a_schema_that_only_its_errors_match(code: ErrorCode) -> None:
    name = "".join(map(str.capitalize, code.split("_"))) + "Error"
    schema = COMPONENTS["schemas"][name]
    examples: dict[ErrorCode, Json] = {
        other: EXAMPLES[other]["value"]["error"]  # type: ignore[index]  # JSON of a known shape
        for other in ErrorCode
    }

    assert [other for other in ErrorCode if _validator(schema).is_valid(examples[other])] == [code]
    required = schema["properties"]["details"].get("required", [])
    # HiEnergy may report a conflict without the contact.
    expected = [] if code is ErrorCode.CONFLICT else list(examples[code]["details"])
    assert required == expected


def test_a_status_with_several_codes_distinguishes_them_by_the_code() -> None:
    error = COMPONENTS["schemas"]["InvalidInputOrIdempotencyKeyReusedErrorDocument"]["properties"][
        "error"
    ]

    assert error["discriminator"] == {
        "propertyName": "code",
        "mapping": {
            "INVALID_INPUT": "#/components/schemas/InvalidInputError",
            "IDEMPOTENCY_KEY_REUSED": "#/components/schemas/IdempotencyKeyReusedError",
        },
    }


def test_no_schema_has_the_name_of_javascripts_error() -> None:
    assert "Error" not in COMPONENTS["schemas"]


def test_no_pattern_stands_beside_alternatives() -> None:
    # Generators of validators, such as Orval's of Zod, apply it to all of them.
    assert [each for each in _within(DOCUMENT) if {"pattern", "anyOf"} <= each.keys()] == []


def test_ids_are_digits_without_leading_zeros() -> None:
    for name in ("Contact", "Advertiser"):
        schema = COMPONENTS["schemas"][name]["properties"]["id"]

        assert [
            an_id
            for an_id in ("0", "07", "7", "9" * 19, "9" * 20)
            if _validator(schema).is_valid(an_id)
        ] == [
            "7",
            "9" * 19,
        ]


def test_the_null_fields_of_a_preview_have_the_types_of_a_contacts() -> None:
    preview = COMPONENTS["schemas"]["ContactPreview"]["properties"]
    nullable = [
        preview["id"],
        *(preview["attributes"]["properties"][name] for name in ("created_at", "updated_at")),
    ]

    assert [each["type"] for each in nullable] == [["string", "null"]] * 3


def test_optional_fields_of_a_submission_have_no_default() -> None:
    # openapi-typescript, for one, makes fields with a default required.
    fields = COMPONENTS["schemas"]["NewContact"]["properties"]

    assert [name for name, field in fields.items() if "default" in field] == []


@pytest.mark.parametrize("name", ["advertiser_id", "hienergy_id"])
@pytest.mark.parametrize("an_id", [2001, "9007199254740993"])
def test_a_filter_accepts_the_ids_of_responses(name: str, an_id: object) -> None:
    _validator(COMPONENTS["parameters"][name]["schema"]).validate(an_id)


@pytest.mark.parametrize(
    ("path", "method"), [("/contacts", "get"), ("/contacts/{id}", "get"), ("/advertisers", "get")]
)
def test_a_read_is_not_documented_to_need_an_admin(path: str, method: str) -> None:
    assert "admin" not in DOCUMENT["paths"][path][method]["responses"]["403"]["description"]


async def test_responses_match_their_schemas(gateway: Gateway) -> None:
    async def post(body: object, query: str = "") -> object:
        response = await gateway.client.post(
            f"/api/v1/contacts{query}", json=body, headers=credentials(gateway.admin)
        )
        document: object = response.json()
        return document

    maya = {"contact": {"advertiser_id": 2001, "email": "maya@example.com"}}
    _check(maya, "CreateContactSubmission")
    _check(await post(maya, "?dry_run=true"), "ContactPreviewDocument")
    _check(await post(maya | {"x": 1}), "ContactDocument")
    _check(await post(maya), "ConflictErrorDocument")
    _check(await post({}), "InvalidInputOrIdempotencyKeyReusedErrorDocument")
    _check((await gateway.rest("/contacts", gateway.member)).json(), "ContactPage")
    _check((await gateway.rest("/advertisers", gateway.member)).json(), "AdvertiserPage")
    _check((await gateway.rest("/advertisers/3001", gateway.member)).json(), "AdvertiserDocument")
    _check((await gateway.rest("/contacts")).json(), "UnauthorizedErrorDocument")
