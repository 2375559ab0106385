"""What changed in the GraphQL schema since an earlier one, for its clients."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from graphql import (
    GraphQLError,
    assert_valid_schema,
    build_schema,
    find_breaking_changes,
    find_dangerous_changes,
)

from contact_gateway.faces.graphql.schema import schema_sdl


class Severity(StrEnum):
    """What a change may do to clients."""

    BREAKING = "breaking"
    """Documents or types that were valid are not."""

    DANGEROUS = "dangerous"
    """Documents stay valid, but a client may meet a value that it does not know."""


class Change(NamedTuple):
    """A change that may break clients. `type` is graphql-core's name of its kind."""

    severity: Severity
    type: str
    description: str


def changes_since(old_sdl: str) -> Sequence[Change]:
    """Return the breaking changes from an earlier schema, then the dangerous ones.

    Raises:
        ValueError: the text is not a schema in SDL.
    """
    try:
        old = build_schema(old_sdl)
        assert_valid_schema(old)
    except (GraphQLError, TypeError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    new = build_schema(schema_sdl())
    return [
        Change(severity, change.type.name, change.description)
        for severity, changes in (
            (Severity.BREAKING, find_breaking_changes(old, new)),
            (Severity.DANGEROUS, find_dangerous_changes(old, new)),
        )
        for change in changes
    ]
