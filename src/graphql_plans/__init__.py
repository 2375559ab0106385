"""Executes operations by plans that are made once, with the results of graphql-core's executor.

What a document fixes ahead is looked up once: which fields a selection set has for a type, where
their arguments come from, how their values are found and completed. What is not covered is left to
graphql-core, as are all errors in variables and arguments.

Source: the GraphQL specification, section 6; where it leaves a choice, graphql-core's is taken.
"""

from graphql_plans.operation import Compiler, Execute, Result
from graphql_plans.selections import Grow

__all__ = ["Compiler", "Execute", "Grow", "Result"]
