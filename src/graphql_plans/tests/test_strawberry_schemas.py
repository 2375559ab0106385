"""Plans cover Strawberry's features: data loaders, casts, global ids, exception handlers."""

import asyncio
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Annotated, Final, Generic, TypeVar

import pytest
import strawberry
from graphql import ExecutionResult, GraphQLError, GraphQLSchema
from strawberry import relay
from strawberry.dataloader import DataLoader
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exception_handlers import ExceptionHandler
from strawberry.types import Info

from graphql_plans.tests.compared_executors import (
    Json,
    assert_same_outcome,
    is_planned,
    parse_valid,
    plan_of,
    reference_of,
)

T = TypeVar("T")


class Batches:
    """The context: the batches that were loaded."""

    def __init__(self) -> None:
        self.rows: Final[DataLoader[int, Row]] = DataLoader(load_fn=self._load)
        self._loaded: Final[list[list[int]]] = []

    def __repr__(self) -> str:
        return repr(self._loaded)

    async def _load(self, keys: list[int]) -> Sequence["Row | ValueError"]:
        self._loaded.append(keys)
        await asyncio.sleep(0)
        return [ValueError("no third") if key == 3 else Row(id=key, name=f"r{key}") for key in keys]


BatchInfo = Info[Batches, None]


@strawberry.enum
class Level(IntEnum):
    LOW = 1
    HIGH = strawberry.enum_value(2, name="VERY_HIGH")


@strawberry.interface
class Named:
    name: str | None


@strawberry.type
class Row(Named):
    id: int

    @strawberry.field
    async def other(self, info: BatchInfo, id: int) -> "Row":  # noqa: A002 - the contract's name
        return await info.context.rows.load(id)

    @strawberry.field
    def others(self, info: BatchInfo, ids: list[int]) -> list["Row | None"]:
        return [info.context.rows.load(an_id) for an_id in ids]  # type: ignore[misc]  # awaited


class RowOfAnotherClass(Row):
    """A subclass that Strawberry does not know."""


class Record:
    """An object without a type, like those of an ORM."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Record({self.name})"


@strawberry.type
class Recorded(Named):
    @classmethod
    async def is_type_of(cls, value: "Record", _: object) -> bool:
        await asyncio.sleep(0)
        if value.name == "boom":
            raise ValueError("its type is unknown")
        return isinstance(value, Record)


@strawberry.interface
class Chosen:
    key: str

    @classmethod
    async def resolve_type(cls, value: "Chosen", *_: object) -> object:
        await asyncio.sleep(0)
        names = {"a": "ChosenA", "none": None, "number": 3, "row": "Row"}
        return names.get(value.key, value.key)


@strawberry.type
class ChosenA(Chosen):
    a: int = 1


@strawberry.type
class Box(Generic[T]):
    content: T


@strawberry.type
class Fault:
    message: str


class FaultHandler(ExceptionHandler[KeyError, Fault]):
    def handle(self, exception: KeyError, *, field: object, info: object) -> Fault:
        del field, info
        return Fault(message=str(exception))


@strawberry.input
class Part:
    id: relay.GlobalID | None = None
    level: strawberry.Maybe[Level] = None
    text: strawberry.Maybe[str | None] = None
    levels: list[Level | None] = strawberry.field(default_factory=list)
    a_number: int = strawberry.field(default=3, name="AKA")

    def __post_init__(self) -> None:
        if self.a_number == 13:
            raise ValueError("thirteen")


@strawberry.input
class Whole:
    part: Part
    grid: list[list[Part]] | None = None
    maybe: strawberry.Maybe[Part] = None
    wholes: list["Whole"] | None = None


class Asked(BasePermission):
    message = "asked, and denied"

    async def has_permission(self, source: object, info: object, **arguments: object) -> bool:
        del source, info
        await asyncio.sleep(0)
        return arguments.get("allowed") is True


Found = Annotated[Row | Box[int] | Box[str], strawberry.union("Found")]
THINGS: Final[Sequence[object]] = [
    Row(id=1, name="row"),
    RowOfAnotherClass(id=2, name=None),
    Record("record"),
    Record("boom"),
    strawberry.cast(Row, Record("cast, and no row")),
    Box(content=1),
    Box(content="x"),
    Box(content=None),
    ValueError("a thing that is an error"),
    None,
]


@strawberry.type
class Query:
    @strawberry.field
    async def row(self, info: BatchInfo, id: int) -> Row | None:  # noqa: A002 - the contract's name
        return await info.context.rows.load(id)

    @strawberry.field
    def found(self, things: list[int]) -> list[Found | None]:
        return [THINGS[number] for number in things]  # type: ignore[misc]  # of any type

    @strawberry.field
    def named(self, thing: int) -> Named | None:
        return THINGS[thing]  # type: ignore[return-value]  # of any type

    @strawberry.field
    def recorded(self, thing: int) -> Recorded | None:
        return THINGS[thing]  # type: ignore[return-value]  # of any type

    @strawberry.field
    def chosen(self, keys: list[str]) -> list[Chosen | None]:
        return [ChosenA(key=key) for key in keys]

    @strawberry.field
    def attributes(self) -> "Attributes":
        return {"number": 1, "levels": (1, Level.HIGH)}  # type: ignore[return-value]

    @strawberry.field
    async def whole(self, info: BatchInfo, whole: Whole, level: Level = Level.LOW) -> str:
        return repr((whole, level, info.python_name, info.selected_fields, info.variable_values))

    @strawberry.field
    def handled(self, fail: bool = False) -> Row | Fault:  # noqa: FBT001, FBT002 - by name only
        return {False: Row(id=1, name=None)}[fail]

    @strawberry.field(permission_classes=[Asked])  # type: ignore[untyped-decorator]  # it is Any
    async def allowed(self, allowed: bool) -> str | None:  # noqa: FBT001 - by name only
        return str(allowed)

    @strawberry.field
    @staticmethod
    def static(number: int = 1) -> int:
        return number


@strawberry.type
class Attributes:
    number: int | None
    levels: list[Level]
    missing: str | None


def _attribute(source: object, name: str) -> object:
    return source[name] if isinstance(source, Mapping) else getattr(source, name)


def _schema(*handlers: FaultHandler, incremental: bool = False) -> GraphQLSchema:
    schema = strawberry.Schema(
        Query,
        types=[Recorded, ChosenA],
        config=StrawberryConfig(
            default_resolver=_attribute, enable_experimental_incremental_execution=incremental
        ),
        exception_handlers=handlers,
    )
    return schema._schema  # noqa: SLF001 - Strawberry has no public name for it


PLAIN: Final = _schema()
HANDLING: Final = _schema(FaultHandler())
BATCHED: Final = """
    {
      a: row(id: 1) { other(id: 5) { id other(id: 7) { id } } others(ids: [6, 3]) { id } }
      b: row(id: 2) { other(id: 6) { id other(id: 8) { id } } others(ids: [8, 9]) { id } }
      c: row(id: 3) { id }
    }
"""


@pytest.mark.parametrize(
    ("document", "variables"),
    [
        pytest.param(BATCHED, {}, id="batches"),
        pytest.param(
            "query ($t: [Int!]!) { found(things: $t) { __typename ... on Named { name } } }",
            {"t": list(range(len(THINGS)))},
            id="members of a union",
        ),
        *(
            pytest.param(f"{{ named(thing: {number}) {{ __typename name }} }}", {}, id=f"{thing!r}")
            for number, thing in enumerate(THINGS)
        ),
        pytest.param(
            '{ chosen(keys: ["a", "none", "number", "row", "nowhere", "Named"]) { key } }',
            {},
            id="an awaited type",
        ),
        pytest.param("{ recorded(thing: 2) { name } }", {}, id="an awaited check of a type"),
        pytest.param("{ recorded(thing: 0) { name } }", {}, id="an awaited check that fails"),
        pytest.param("{ attributes { number levels missing } }", {}, id="a default resolver"),
        pytest.param(
            "{ handled { __typename } failed: handled(fail: true) { ... on Fault { message } } }",
            {},
            id="exception handlers",
        ),
        pytest.param(
            "{ a: allowed(allowed: true) b: allowed(allowed: false) static }",
            {},
            id="awaited permissions",
        ),
        pytest.param(
            '{ whole(whole: {part: {level: null}}) b: whole(whole: {part: {id: "bad"}}) }',
            {},
            id="an invalid null, and an invalid global id",
        ),
        pytest.param(
            "{ whole(whole: {part: {AKA: 13}}) }", {}, id="an input object raises an error"
        ),
        pytest.param(
            "query ($w: Whole!, $l: Level!) { whole(whole: $w, level: $l) }",
            {
                "w": {
                    "part": {"id": "U3RhdGlvbjox", "text": None, "levels": ["LOW", None]},
                    "grid": [[{"AKA": 4}], {"level": "VERY_HIGH"}],
                    "maybe": {},
                    "wholes": [{"part": {}}],
                },
                "l": "VERY_HIGH",
            },
            id="all kinds of input",
        ),
    ],
)
def test_a_strawberry_schema(document: str, variables: dict[str, Json]) -> None:
    for schema in (PLAIN, HANDLING):
        parsed = parse_valid(schema, document)
        assert parsed is not None
        assert is_planned(plan_of(schema, parsed))
        assert_same_outcome(schema, document, variables, Batches)


def test_incremental_delivery_is_not_covered() -> None:
    schema = _schema(incremental=True)
    document = parse_valid(schema, "{ static }")
    assert document is not None
    reference = reference_of(schema, document)
    assert not is_planned(plan_of(schema, document))
    with pytest.raises(GraphQLError, match="unexpectedly contains experimental directives"):
        reference({}, Batches())


def test_conditions_in_any_order() -> None:
    conditions = ("a", "b", "c", "d")
    fields = " ".join(f"{name}: static(number: 1) @skip(if: ${name})" for name in conditions)
    heads = ", ".join(f"${name}: Boolean!" for name in conditions)
    document = parse_valid(PLAIN, f"query ({heads}) {{ {fields} }}")
    assert document is not None
    plan = plan_of(PLAIN, document)
    assert is_planned(plan)
    for _ in range(2):
        for number in range(2 ** len(conditions)):
            skipped = {name: bool(number >> place & 1) for place, name in enumerate(conditions)}
            expected = {name: 1 for name in conditions if not skipped[name]}
            assert plan(dict(skipped), Batches()) == ExecutionResult(expected, None)
