"""An upgrade of graphql-core or Strawberry has moved no private name that plans rely on.

If it moved an import, no test of this package starts, and Python's error names the import.
"""

import ast
import re
from importlib.metadata import version
from inspect import signature
from operator import attrgetter
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Final

import pytest
import strawberry

# Names that plans import, call or construct, with the parameters up to the last one that they pass.
NAMES: Final = """
    graphql.execution.collect_fields:CollectedFields(grouped_field_set)
    graphql.execution.collect_fields:FieldDetails(node)
    graphql.execution.collect_fields:FragmentDetails(definition)
    graphql.execution.collect_fields:collect_fields(
        schema fragments variable_values runtime_type operation hide_suggestions)
    graphql.execution.collect_fields:collect_subfields(
        schema fragments variable_values operation return_type field_details_list hide_suggestions)
    graphql.execution.executor:CollectedErrors()
    graphql.execution.executor:CollectedErrors.add(self error path)
    graphql.execution.executor:CollectedErrors.errors
    graphql.execution.executor:invalid_return_type_error(return_type result field_details_list)
    graphql.execution.get_variable_signature:GraphQLVariableSignature(name type default)
    graphql.execution.get_variable_signature:get_variable_signature(schema var_def_node)
    graphql.execution.values:VariableValueSource(signature value)
    graphql.pyutils:Path(prev key typename)
    graphql.pyutils:Path.as_list(self)
    graphql.pyutils:gather_with_cancel(awaitables)
    graphql.pyutils:is_awaitable(value)
    graphql.pyutils:is_iterable(value)
    graphql.utilities.coerce_input_value:coerce_default_value(input_value)
    graphql:Executor(
        schema fragment_definitions fragments root_value context_value operation variable_values
        field_resolver type_resolver subscribe_field_resolver enable_early_execution
        middleware_manager is_awaitable is_async_iterable hide_suggestions)
    graphql:Executor.complete_leaf_value(return_type result)
    graphql:Executor.complete_list_value(
        self return_type field_details_list info path result position_context)
    graphql:Executor.ensure_valid_runtime_type(
        self runtime_type_name return_type field_details_list info result)
    graphql:GraphQLResolveInfo(
        field_name field_nodes return_type parent_type path schema fragments root_value operation
        variable_values context is_awaitable abort_signal async_helpers)
    graphql:GraphQLResolveInfoHelpers(gather track)
    graphql:VariableValues(sources coerced)
    strawberry.schema.compat:is_scalar(type_ scalar_registry)
    strawberry.types.arguments:StrawberryArgument
    strawberry.types.arguments:convert_argument(value type_ scalar_registry config info path)
    strawberry.types.base:StrawberryList(of_type)
    strawberry.types.base:StrawberryMaybe(of_type)
    strawberry.types.base:StrawberryObjectDefinition
    strawberry.types.base:StrawberryOptional(of_type)
    strawberry.types.base:StrawberryType
    strawberry.types.base:has_object_definition(obj)
    strawberry.types.cast:get_strawberry_type_cast(obj)
    strawberry.types.enum:StrawberryEnumDefinition
    strawberry.types.enum:has_enum_definition(obj)
    strawberry.types.field:StrawberryField
    strawberry.types.field:StrawberryField.resolve_type(self type_definition)
    strawberry.types.scalar:identity(x)
    strawberry.types.union:StrawberryUnion
    strawberry:Info(_raw_info _field)
    strawberry:LazyType.resolve_type(self)
"""
PARSED: Final = re.findall(r"([\w.]+:[\w.]+)(?:\(([\w\s]*)(\)))?", NAMES)


# Attributes that plans read from Strawberry's objects.
ATTRIBUTES: Final = {
    "Schema": """_schema.extensions config.info_class config.name_converter.from_argument
        config.name_converter.from_field exception_handlers schema_converter.scalar_registry""",
    "StrawberryObjectDefinition": """concrete_of fields from_input is_graphql_generic is_input
        is_type_of origin resolve_type""",
    "StrawberryField": """arguments base_resolver default_factory default_resolver default_value
        extensions is_async python_name""",
    "StrawberryResolver": """info_parameter parent_parameter root_parameter self_parameter
        wrapped_func""",
    "StrawberryArgument": "python_name type",
}


@strawberry.type
class Leaf:
    text: str


@strawberry.type
class Query:
    @strawberry.field
    def leaf(self, text: str) -> Annotated[Leaf, strawberry.union("Found")]:
        return Leaf(text=text)


SCHEMA: Final = strawberry.Schema(Query)


def moved(library: str, name: str) -> str:
    return f"{library} {version(library)} moved {name}: see src/graphql_plans/README.md"


@pytest.mark.parametrize(
    ("name", "parameters", "called"), PARSED, ids=[name for name, *_ in PARSED]
)
def test_a_name_and_its_parameters(name: str, parameters: str, called: str) -> None:
    library = "graphql-core" if name.startswith("graphql") else "strawberry-graphql"
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError):
        pytest.fail(moved(library, name))
    if called:
        expected = parameters.split()
        assert list(signature(found).parameters)[: len(expected)] == expected, moved(library, name)


@pytest.mark.parametrize(
    ("owner", "attribute"),
    [(owner, each) for owner, attributes in ATTRIBUTES.items() for each in attributes.split()],
)
def test_an_attribute_of_strawberrys_objects(owner: str, attribute: str) -> None:
    definition = Query.__strawberry_definition__  # type: ignore[attr-defined]  # set by Strawberry
    (field,) = definition.fields
    (argument,) = field.arguments
    found = {type(each).__name__: each for each in (SCHEMA, definition, field, argument)}
    found["StrawberryResolver"] = field.base_resolver
    try:
        attrgetter(attribute)(found[owner])
    except AttributeError:
        pytest.fail(moved("strawberry-graphql", f"{owner}.{attribute}"))


def test_strawberry_stores_its_definitions_as_extensions() -> None:
    schema = SCHEMA._schema  # noqa: SLF001 - Strawberry has no public name for it
    root = schema.query_type
    assert root is not None
    owners = [schema, root, root.fields["leaf"], schema.type_map["Leaf"], schema.type_map["Found"]]
    names = [type(owner.extensions.get("strawberry-definition")).__name__ for owner in owners]

    assert names == [
        "Schema",
        "StrawberryObjectDefinition",
        "StrawberryField",
        "StrawberryObjectDefinition",
        "StrawberryUnion",
    ], moved("strawberry-graphql", 'the extension "strawberry-definition"')


def test_the_lists_have_every_private_import() -> None:
    listed = {name for name, *_ in PARSED} | {"strawberry.relay:GlobalID"}
    imported = {
        f"{node.module}:{alias.name}"
        for path in Path(__file__).parent.parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and str(node.module).startswith(("graphql.", "strawberry."))
        for alias in node.names
    }

    assert imported <= listed
