"""Where a contact came from, for the audit trail."""

from dataclasses import dataclass
from enum import StrEnum


class Face(StrEnum):
    """A way in."""

    GRAPHQL = "graphql"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Origin:
    """The face and the request that a submission came by."""

    face: Face
    request_id: str
