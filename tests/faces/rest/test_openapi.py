"""The OpenAPI document is valid and complete, and responses match it."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.rest.openapi import openapi_document
from contact_gateway.http_statuses import status_of
from support.gateway import Gateway, credentials

pytestmark = pytest.mark.anyio

OTHER_CODES = {
    TransportCode.NOT_FOUND,
    TransportCode.METHOD_NOT_ALLOWED,
    TransportCode.NOT_ACCEPTABLE,
    TransportCode.SEARCH_TIMEOUT,
}


def _check(instance: object, schema: str) -> None:
    registry = Registry[Any]().with_resource(
        "urn:openapi", Resource.from_contents(openapi_document(), DRAFT202012)
    )
    Draft202012Validator(
        {"$ref": f"urn:openapi#/components/schemas/{schema}"}, registry=registry
    ).validate(instance)


def test_the_document_is_valid_openapi() -> None:
    validate(openapi_document())


async def test_the_document_is_served_without_a_key(gateway: Gateway) -> None:
    assert (await gateway.rest("/schema")).json() == openapi_document()


@pytest.mark.parametrize("path", ["/contacts", "/contacts/add"])
def test_every_outcome_of_the_operation_is_documented(path: str) -> None:
    paths: Any = openapi_document()["paths"]
    responses = paths[path]["post"]["responses"]
    documented = {
        (int(status), code)
        for status, response in responses.items()
        for code in (*ErrorCode, *TransportCode)
        if f"`{code}`" in response["description"]
    }

    assert documented == {(status_of(code), str(code)) for code in ErrorCode} | {
        (code.status, str(code)) for code in TransportCode if code not in OTHER_CODES
    }
    assert {"200", "201"} <= responses.keys()
    assert paths["/contacts"]["post"]["operationId"] == "createContact"


def test_optional_fields_of_a_submission_have_no_default() -> None:
    # openapi-typescript, for one, makes fields with a default required.
    schemas: Any = openapi_document()["components"]
    fields = schemas["schemas"]["NewContact"]["properties"]

    assert [name for name, field in fields.items() if "default" in field] == []


@pytest.mark.parametrize("name", ["advertiser_id", "hienergy_id"])
@pytest.mark.parametrize("an_id", [2001, "9007199254740993"])
def test_a_filter_accepts_the_ids_of_responses(name: str, an_id: object) -> None:
    components: Any = openapi_document()["components"]
    schema = components["parameters"][name]["schema"]

    Draft202012Validator(schema).validate(an_id)


@pytest.mark.parametrize(
    ("path", "method"), [("/contacts", "get"), ("/contacts/{id}", "get"), ("/advertisers", "get")]
)
def test_a_read_is_not_documented_to_need_an_admin(path: str, method: str) -> None:
    paths: Any = openapi_document()["paths"]

    assert "admin" not in paths[path][method]["responses"]["403"]["description"]


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
    _check(await post(maya), "Error")
    _check(await post({}), "Error")
    _check((await gateway.rest("/contacts", gateway.member)).json(), "ContactPage")
    _check((await gateway.rest("/advertisers", gateway.member)).json(), "AdvertiserPage")
    _check((await gateway.rest("/advertisers/3001", gateway.member)).json(), "AdvertiserDocument")
    _check((await gateway.rest("/contacts")).json(), "Error")
