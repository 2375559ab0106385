"""Execute GraphQL operations by plans, with the results of graphql-core's executor.

A plan holds all that is the same for every request of a document: the fields of each selection
set, their arguments, resolvers and completers. graphql-core executes operations without a plan.

Source: the GraphQL specification, section 6. Where it leaves a choice, plans follow graphql-core.
"""

from graphql_plans.compiler import Compiler, Execute, Result
from graphql_plans.selections import Grow

__all__ = ["Compiler", "Execute", "Grow", "Result"]
