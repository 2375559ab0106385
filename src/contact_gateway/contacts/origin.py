"""Where a contact came from, for the audit trail."""

from enum import StrEnum
from typing import NamedTuple


class Face(StrEnum):
    """An interface of the gateway."""

    GRAPHQL = "graphql"
    REST = "rest"
    MCP = "mcp"
    IMPORT = "import"


class Origin(NamedTuple):
    """The face and the request id of a submission."""

    face: Face
    request_id: str
