"""Plans return what graphql-core's executor returns, for requests to the gateway's own schema."""

import gc
import os
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest
from graphql import GraphQLSchema, parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contact_gateway.faces.graphql.schema import strawberry_schema
from contact_gateway.faces.request_context import RequestContext
from graphql_plans.tests.compared_executors import assert_same_outcome, is_planned, plan_of
from graphql_plans.tests.generated_documents import Case, requests
from support.faces import CREATE_CONTACT
from support.fake_source import context

# Strawberry has no public name for graphql-core's schema.
SCHEMA: Final[GraphQLSchema] = strawberry_schema()._schema  # noqa: SLF001
# After an error, both executors drop the fields that their selection set had not started.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _collect_dropped_coroutines() -> Iterator[None]:
    """Free them here, where their warnings are ignored, and not during another module's tests."""
    yield
    gc.collect()


@settings(
    max_examples=int(os.environ.get("COMPARED_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(requests(SCHEMA), st.sampled_from(["admin", "admin", "member", "unknown", None]))
def test_any_request(case: Case, key: str | None) -> None:
    assert_same_outcome(SCHEMA, case.document, case.variables, partial(context, key), _shown)


@pytest.mark.parametrize(
    ("email", "outcome"),
    [("noor@example.com", "Contact"), ("maya@example.com", "ConflictError"), ("x", "InvalidInput")],
)
def test_the_creation_of_a_contact(email: str, outcome: str) -> None:
    variables = {"input": {"advertiserId": "2001", "email": email}, "idempotencyKey": "k"}
    for caller in (partial(context, "admin"), partial(context, "admin", "k")):
        result = assert_same_outcome(SCHEMA, CREATE_CONTACT, variables, caller, _shown)
        assert result is not None
        assert result.data is not None
        assert result.data["createContact"]["__typename"].startswith(outcome)


@pytest.mark.parametrize(
    "document",
    [
        CREATE_CONTACT,
        "query ($id: ID!) { contact(id: $id) { id advertiser { name } } }",
        "query ($on: Boolean!) { viewer @include(if: $on) { role } }",
    ],
)
def test_plans_cover_ordinary_documents(document: str) -> None:
    assert is_planned(plan_of(SCHEMA, parse(document)))


def _shown(seen: RequestContext) -> str:
    return f"{seen.operation} {seen.outcome} {seen.replayed} {seen.is_replay}"
