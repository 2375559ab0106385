"""Documents and variables, generated from a schema; most are valid, and most values are right."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLCompositeType,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    OperationType,
    get_named_type,
    is_composite_type,
    is_required_argument,
    is_required_input_field,
)
from hypothesis import strategies as st

from support.faces import Json

_DEEPEST = 5
_WIDEST = 4
_FRAGMENTS = 3
_CONDITIONS = 3
_LIKING_OF_DEPTH = 2


@dataclass(frozen=True, slots=True)
class Case:
    """A request: its document and its variables."""

    document: str
    variables: dict[str, Json]


@dataclass(slots=True)
class _Variable:
    definition: str
    value: Json
    is_given: bool


@dataclass(slots=True)
class _Generator:
    """Draws one document; `draw` is that of a composite strategy."""

    schema: GraphQLSchema
    draw: Callable[[st.SearchStrategy[Json]], Json]
    is_constant: bool = False
    variables: list[_Variable] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    fragments: list[str] = field(default_factory=list)

    def case(self) -> Case:
        kinds = [OperationType.QUERY]
        if self.schema.mutation_type is not None:
            kinds.append(OperationType.MUTATION)
        kind: OperationType = self.draw(st.sampled_from(kinds))
        root = self.schema.get_root_type(kind)
        assert root is not None
        selection = self.selection_set(root, _DEEPEST)
        definitions = ", ".join(variable.definition for variable in self.variables)
        head = f"{kind.value} Generated({definitions})" if definitions else kind.value
        given = {
            f"v{number}": variable.value
            for number, variable in enumerate(self.variables)
            if variable.is_given
        }
        return Case("\n".join([f"{head} {selection}", *self.fragments]), given)

    def selection_set(self, type_: GraphQLCompositeType, depth: int) -> str:
        count = self.draw(st.integers(1, _WIDEST))
        return "{ " + " ".join(self.selection(type_, depth) for _ in range(count)) + " }"

    def selection(self, type_: GraphQLCompositeType, depth: int) -> str:
        kind = self.draw(st.integers(0, 9))
        if depth > 1 and kind == 0:
            return self.inline_fragment(type_, depth)
        if depth > 1 and kind == 1 and len(self.fragments) < _FRAGMENTS:
            return self.spread(type_, depth)
        if kind == 2 or not isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType)):
            if depth > 1 and kind > 3:
                return self.inline_fragment(type_, depth)
            return f"__typename{self.directives()}"
        return self.field(type_, depth)

    def inline_fragment(self, type_: GraphQLCompositeType, depth: int) -> str:
        of = self.type_within(type_)
        return f"... on {of.name}{self.directives()} {self.selection_set(of, depth - 1)}"

    def type_within(self, type_: GraphQLCompositeType) -> GraphQLCompositeType:
        """Draw a type that a fragment within another may be of."""
        types: list[GraphQLCompositeType] = [
            other
            for other in self.schema.type_map.values()
            if is_composite_type(other)
            and not other.name.startswith("__")
            and self._overlap(type_, other)
        ]
        drawn: GraphQLCompositeType = self.draw(st.sampled_from(types))
        return drawn

    def _overlap(self, one: GraphQLCompositeType, other: GraphQLCompositeType) -> bool:
        return bool(self._possible(one) & self._possible(other))

    def _possible(self, type_: GraphQLCompositeType) -> set[str]:
        if isinstance(type_, GraphQLObjectType):
            return {type_.name}
        return {possible.name for possible in self.schema.get_possible_types(type_)}

    def spread(self, within: GraphQLCompositeType, depth: int) -> str:
        type_ = self.type_within(within)
        name = f"F{len(self.fragments)}"
        # Its place is taken before its body is drawn: no fragment spreads itself, by no way.
        self.fragments.append("")
        place = len(self.fragments) - 1
        body = self.selection_set(type_, min(depth - 1, 2))
        self.fragments[place] = f"fragment {name} on {type_.name} {body}"
        again = f" ...{name}" if self.draw(st.booleans()) else ""
        return f"...{name}{self.directives()}{again}"

    def field(self, type_: GraphQLObjectType | GraphQLInterfaceType, depth: int) -> str:
        composite = [
            name
            for name, each in type_.fields.items()
            if is_composite_type(get_named_type(each.type))
        ]
        names = [name for name in type_.fields if name not in composite]
        if depth > 1:
            names += composite * _LIKING_OF_DEPTH
        if not names:
            return "__typename"
        name: str = self.draw(st.sampled_from(names))
        definition = type_.fields[name]
        arguments = self.arguments(definition)
        # Fields of one response key must be the same.
        alias = f"a{crc32(arguments.encode())}_{name}: " if arguments else ""
        if not arguments and self.draw(st.booleans()):
            alias = f"{self.draw(st.sampled_from('ab'))}_{name}: "
        text = f"{alias}{name}{arguments}{self.directives()}"
        named = get_named_type(definition.type)
        return (
            f"{text} {self.selection_set(named, depth - 1)}" if is_composite_type(named) else text
        )

    def arguments(self, definition: GraphQLField) -> str:
        given = [
            f"{name}: {self.argument(argument)}"
            for name, argument in definition.args.items()
            if is_required_argument(argument) or self.draw(st.integers(0, 2))
        ]
        return f"({', '.join(given)})" if given else ""

    def argument(self, argument: GraphQLArgument) -> str:
        if self.draw(st.booleans()):
            return self.variable(argument.type)
        return self.literal(argument.type)

    def variable(self, type_: GraphQLInputType) -> str:
        """Define a variable of a type, and return it."""
        number = len(self.variables)
        definition = f"$v{number}: {type_}"
        if self.draw(st.integers(0, 3)) == 0:
            nullable = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
            self.is_constant = True
            definition = f"$v{number}: {nullable} = {self.literal(_required(nullable))}"
            type_ = nullable
            self.is_constant = False
        value = self.value(type_)
        is_given = self.draw(st.integers(0, 24)) > 0
        self.variables.append(_Variable(definition, value, is_given))
        return f"$v{number}"

    def directives(self) -> str:
        if self.draw(st.integers(0, 5)):
            return ""
        name = self.draw(st.sampled_from(["skip", "include"]))
        boolean = self.draw(st.sampled_from(["true", "false", "variable", "variable"]))
        if boolean == "variable":
            boolean = self.condition()
        return f" @{name}(if: {boolean})"

    def condition(self) -> str:
        """Draw a variable of the request's conditions, one of few."""
        if len(self.conditions) < _CONDITIONS and self.draw(st.booleans()):
            self.conditions.append(self.variable(GraphQLNonNull(GraphQLBoolean)))
        return self.draw(st.sampled_from(self.conditions)) if self.conditions else "true"

    def literal(self, type_: GraphQLInputType) -> str:
        """Draw a literal that is right for a type."""
        match type_:
            case GraphQLNonNull():
                return self.literal_of_nullable(type_.of_type)
            case _ if self.draw(st.integers(0, 5)) == 0:
                return "null"
            case _:
                return self.literal_of_nullable(type_)

    def literal_of_nullable(self, type_: GraphQLInputType) -> str:
        match type_:
            case GraphQLList():
                if self.draw(st.integers(0, 4)) == 0:
                    return self.literal(_required(type_.of_type))
                items = [self.literal(type_.of_type) for _ in range(self.draw(st.integers(0, 2)))]
                return f"[{', '.join(items)}]"
            case GraphQLInputObjectType():
                return self.object_literal(type_)
            case GraphQLEnumType():
                return str(self.draw(st.sampled_from(list(type_.values))))
            case _:
                assert isinstance(type_, GraphQLScalarType)
                return json.dumps(self.scalar(type_.name))

    def object_literal(self, type_: GraphQLInputObjectType) -> str:
        names = self.drawn_fields(type_)
        members = [f"{name}: {self.member(type_, name)}" for name in names]
        return "{" + ", ".join(members) + "}"

    def member(self, type_: GraphQLInputObjectType, name: str) -> str:
        field_type = type_.fields[name].type
        if type_.is_one_of:
            field_type = _required(field_type)
        elif not self.is_constant and self.draw(st.integers(0, 4)) == 0:
            return self.variable(field_type)
        return self.literal(field_type)

    def drawn_fields(self, type_: GraphQLInputObjectType) -> list[str]:
        if type_.is_one_of:
            return [self.draw(st.sampled_from(list(type_.fields)))]
        return [
            name
            for name, each in type_.fields.items()
            if is_required_input_field(each) or self.draw(st.integers(0, 3)) == 0
        ]

    def value(self, type_: GraphQLInputType) -> Json:
        """Draw a value of JSON for a type; now and then a wrong one."""
        if self.draw(st.integers(0, 39)) == 0:
            return self.draw(_WRONG)
        match type_:
            case GraphQLNonNull():
                return self.value_of_nullable(type_.of_type)
            case _ if self.draw(st.integers(0, 4)) == 0:
                return None
            case _:
                return self.value_of_nullable(type_)

    def value_of_nullable(self, type_: GraphQLInputType) -> Json:
        match type_:
            case GraphQLList():
                if self.draw(st.integers(0, 4)) == 0:
                    return self.value(type_.of_type)
                return [self.value(type_.of_type) for _ in range(self.draw(st.integers(0, 2)))]
            case GraphQLInputObjectType():
                names = self.drawn_fields(type_)
                members = {name: self.value(type_.fields[name].type) for name in names}
                return members | ({"unknown": 1} if self.draw(st.integers(0, 30)) == 0 else {})
            case GraphQLEnumType():
                return self.draw(st.sampled_from(list(type_.values)))
            case _:
                assert isinstance(type_, GraphQLScalarType)
                return self.scalar(type_.name)

    def scalar(self, name: str) -> Json:
        return self.draw(_SCALARS.get(name, st.sampled_from([2, 4])))


def _required(type_: GraphQLInputType) -> GraphQLInputType:
    return type_ if isinstance(type_, GraphQLNonNull) else GraphQLNonNull(type_)


_SCALARS: dict[str, st.SearchStrategy[Json]] = {
    "String": st.sampled_from(["", "x", "maya@example.com", "\N{SNOWMAN}"]),
    "ID": st.sampled_from(["1", "1001", "2001", "x", 7]),
    "Int": st.sampled_from([0, 1, 25, -1, 2**31 - 1]),
    "Float": st.sampled_from([0, 1.5, -2]),
    "Boolean": st.booleans(),
}
_WRONG: st.SearchStrategy[Json] = st.sampled_from(
    [None, True, 1, 2**31, 1.5, "x", "RED", [], [None], [[1], 2], {}, {"x": 1}]
)


@st.composite
def requests(draw: Callable[[st.SearchStrategy[Json]], Json], schema: GraphQLSchema) -> Case:
    """Generate requests to a schema."""
    return _Generator(schema, draw).case()
