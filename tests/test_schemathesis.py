"""Schemathesis generates valid and invalid requests from the schemas, and checks the responses.

The requests are the same in every run. `scripts/fuzz` generates more, at random.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette

from contact_gateway.app import create_app
from contact_gateway.contacts.fields import MAX_ID
from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.faces.graphql.schema import schema_sdl
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.rest.openapi import openapi_document
from contact_gateway.settings import Settings
from support.databases import Engine
from support.faces import Json
from support.gateway import credentials, filled_store

Case = schemathesis.Case[Any]

# Set by scripts/fuzz: how many requests are made for each operation.
EXAMPLES = os.environ.get("FUZZED_EXAMPLES")
MADE = settings(
    max_examples=int(EXAMPLES or 25),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    # They may take any time on a slow machine.
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# A valid submission may still be refused: an earlier one may make it a conflict.
CHECKS_OF_A_READ = [*CHECKS, positive_data_acceptance]
# The tests of each face check that these are the documents served.
REST = schemathesis.openapi.from_dict(openapi_document())
GRAPHQL = schemathesis.graphql.from_file(schema_sdl())
GRAPHQL.config.update(base_url="http://gateway/graphql")
# The tests send their own key, so generated credentials would have no effect.
REST.config.generation.with_security_parameters = False


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway without a socket, and an admin's headers."""

    app: Starlette
    headers: dict[str, str]


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    engine_of_module: Engine,  # noqa: ARG001 - of this engine
) -> Served:
    """Return a gateway, which Schemathesis starts and stops; its budget is not for the tests."""
    store = filled_store(tmp_path_factory.mktemp("schemathesis"))
    # As long as possible: on a busy machine, PostgreSQL may stall for seconds.
    values = {"database_url": store.url, "rate_limit_per_hour": 10**9, "search_timeout_seconds": 5}
    return Served(create_app(Settings.model_validate(values)), credentials(store.keys["admin"]))


@REST.hook
def filter_query(_context: schemathesis.HookContext, query: Mapping[str, object] | None) -> bool:
    """Drop queries with objects or lists. A query string cannot express them."""
    return not any(isinstance(value, (dict, list)) for value in (query or {}).values())


def _has_ids_in_range(case: Case) -> bool:
    """Return whether all ids are in range, which a pattern of digits cannot express."""
    query: Mapping[str, object] = case.query or {}
    ids = [str(query[name]) for name in ("advertiser_id", "hienergy_id") if name in query]
    return all(1 <= int(text) <= MAX_ID for text in ids if text.isdecimal())


@REST.parametrize()
@MADE
def test_rest_matches_its_schema(case: Case, served: Served) -> None:
    is_valid = case.method == "GET" and _has_ids_in_range(case)
    checks = CHECKS_OF_A_READ if is_valid else CHECKS
    if case.path == "/contacts/batch":
        # An invalid contact is refused alone, in a response that is a success.
        checks = [check for check in CHECKS if check is not negative_data_rejection]
    case.call_and_validate(app=served.app, headers=served.headers, checks=checks)


@GRAPHQL.parametrize()
@MADE
def test_graphql_matches_its_schema(case: Case, served: Served) -> None:
    response = case.call(app=served.app, headers=served.headers)

    body: Json = json.loads(response.content)
    assert response.status_code in {200, 400}
    assert body.keys() <= {"data", "errors"}
    for error in body.get("errors", ()):
        assert error["extensions"]["code"] in {*ErrorCode, *TransportCode}
        assert error["extensions"]["code"] != TransportCode.INTERNAL_ERROR
