"""Execute GraphQL operations by plans, with the results of graphql-core's executor.

A plan fixes what does not change between the requests of a document: the fields of each selection
set, their arguments, resolvers and completers. graphql-core executes what plans do not cover.

Source: the GraphQL specification, section 6. Where it leaves a choice, graphql-core's is taken.
"""

from graphql_plans.compiler import Compiler, Execute, Result
from graphql_plans.selections import Grow

__all__ = ["Compiler", "Execute", "Grow", "Result"]
