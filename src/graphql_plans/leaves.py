"""Leaf types whose values are of one Python type, and are right as they are.

Source: the GraphQL specification, sections 3.5.3 to 3.5.5.
"""

from collections.abc import Mapping
from typing import Final

from graphql import GraphQLBoolean, GraphQLID, GraphQLString

PYTHON_TYPES: Final[Mapping[object, type]] = {
    GraphQLString: str,
    GraphQLID: str,
    GraphQLBoolean: bool,
}
"""The Python type of each; what is not exactly of it has to be looked at."""
