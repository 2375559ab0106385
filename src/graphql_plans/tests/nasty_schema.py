"""A schema with everything that can go wrong in an execution."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Generic, NewType, TypeVar

import strawberry
from graphql import GraphQLError
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig
from strawberry.types import Info

T = TypeVar("T")


@dataclass(slots=True)
class Trace:
    """The context: events in their order."""

    events: list[str] = field(default_factory=list)


TraceInfo = Info[Trace, None]


@strawberry.enum
class Color(Enum):
    RED = "red"
    GREEN = 2


Even = NewType("Even", int)


def _even(value: object) -> int:
    if not isinstance(value, int) or value % 2:
        raise ValueError(f"{value!r} is not even")
    return value


EVEN = strawberry.scalar(name="Even", serialize=_even, parse_value=_even)
Later = NewType("Later", str)


class Promise:
    """An awaitable that is no coroutine."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __await__(self) -> Iterator[object]:
        return _later(self._value).__await__()


LATER = strawberry.scalar(name="Later", serialize=Promise)


@strawberry.input
class Inner:
    note: str | None
    even: Even | None = None
    colors: list[Color] = strawberry.field(default_factory=lambda: [Color.RED])
    text: str | None = "inner"


@strawberry.input
class Outer:
    id: strawberry.ID
    inner: Inner | None = None
    inners: list[Inner | None] | None = None
    numbers: list[list[int | None] | None] | None = None
    ratio: float = 0.5
    renamed: bool | None = strawberry.field(name="other", default=None)
    maybe: strawberry.Maybe[str | None] = None
    given: str | None = strawberry.UNSET


LazyInner = Annotated["Inner", strawberry.lazy("graphql_plans.tests.nasty_schema")]


@strawberry.input
class Tree:
    label: str = "leaf"
    parent: "Tree | None" = None
    children: list["Tree"] | None = None


@strawberry.input(one_of=True)
class Choice:
    number: int | None = strawberry.UNSET
    text: str | None = strawberry.UNSET


class Denied(BasePermission):
    message = "denied"

    def has_permission(self, source: object, info: object, **arguments: object) -> bool:
        return (source, info, arguments) is None


class Shouted(FieldExtension):
    def resolve(
        self, next_: Callable[..., object], source: object, info: TraceInfo, **kwargs: object
    ) -> str:
        return f"{next_(source, info, **kwargs)}! {sorted(kwargs)}"


@strawberry.interface
class Node:
    id: strawberry.ID
    name: str | None

    @strawberry.field
    def kind(self) -> str:
        return type(self).__name__

    @strawberry.field
    async def next_node(self) -> "Node":
        return leaf()


@strawberry.type
class Leaf(Node):
    weight: int
    bad: int = strawberry.field(default=2**40)

    @strawberry.field
    def required_null(self) -> str:
        return None  # type: ignore[return-value]  # null for a non-null type


@strawberry.type
class Branch(Node):
    @strawberry.field
    async def nodes(self) -> list[Node]:
        return [leaf(), branch()]

    @strawberry.field
    def things(self) -> list["Thing | None"]:
        return [leaf(), None, branch(), odd()]

    @strawberry.field
    async def failing(self) -> str:
        raise ValueError("a branch fails")


@strawberry.type
class Odd:
    odd: int | None = None

    @classmethod
    def is_type_of(cls, value: object, info: TraceInfo) -> bool:
        # The path is that of the field, also for items of a list.
        return isinstance(value, Odd) and value.odd != 13 and isinstance(info.path.key, str)

    @strawberry.field
    def failing(self) -> str:
        raise GraphQLError("odd fails", extensions={"code": "ODD"})


@strawberry.interface
class Shape:
    sides: int

    @classmethod
    def resolve_type(cls, value: "Shape", *_: object) -> str:
        return "Square" if value.sides else "Round"


@strawberry.type
class Round(Shape):
    pass


@strawberry.type
class Square(Shape):
    pass


Thing = Annotated[Leaf | Branch | Odd, strawberry.union("Thing")]


@strawberry.type
class Edge(Generic[T]):
    node: T
    cursor: str = "c"


def leaf() -> Leaf:
    return Leaf(id=strawberry.ID("leaf"), name=None, weight=1)


def branch() -> Branch:
    return Branch(id=strawberry.ID("branch"), name="b")


def odd(number: int | None = 1) -> Odd:
    return Odd(odd=number)


async def _later(value: T) -> T:
    await asyncio.sleep(0)
    return value


async def _fails(text: str) -> str:
    await asyncio.sleep(0)
    raise ValueError(text)


@strawberry.type
class Values:
    """Attributes with valid, invalid and missing values."""

    text: str = "text"
    number: str = 7  # type: ignore[assignment]  # a number for a declared string
    nothing: str | None = None
    required_nothing: str = None  # type: ignore[assignment]
    big: int = 2**31
    small: int | None = -(2**31)
    whole: int = 3.0  # type: ignore[assignment]
    yes: bool = True
    one: bool = 1  # type: ignore[assignment]
    not_a_number: float = math.nan
    half: float | None = 0.5
    integer: float = 3
    id: strawberry.ID = 12  # type: ignore[assignment]
    color: Color = Color.GREEN
    no_color: Color | None = "blue"  # type: ignore[assignment]
    even: Even | None = 3  # type: ignore[assignment]
    even_enough: Even = Even(4)
    later: Later = Later("later")
    an_error: str | None = ValueError("a value that is an error")  # type: ignore[assignment]
    awaitable: str | None = None

    @strawberry.field
    def parent_names(self, parent: strawberry.Parent["Values"]) -> str:
        return parent.text

    def __post_init__(self) -> None:
        self.awaitable = None


@strawberry.type
class Lists:
    """Valid, invalid and missing lists."""

    numbers: list[int] = strawberry.field(default_factory=lambda: [1, 2**40, 3])
    nullable: list[int | None] = strawberry.field(default_factory=lambda: [1, 2**40, None])
    nested: list[list[int] | None] = strawberry.field(
        default_factory=lambda: [[1], None, [2, None], []]
    )
    deep: list[list[list[str]]] | None = strawberry.field(default_factory=lambda: [[["a"], [None]]])
    no_list: list[int] | None = 5  # type: ignore[assignment]
    a_text: list[str] | None = "text"  # type: ignore[assignment]
    nothing: list[int] = None  # type: ignore[assignment]

    @strawberry.field
    def generated(self) -> list[int]:
        def numbers() -> Iterator[int]:
            yield 1
            raise ValueError("a generator fails")

        return numbers()  # type: ignore[return-value]

    @strawberry.field
    def awaited(self) -> list[int | None]:
        return [_later(1), 2, _fails("an item fails"), _later(None)]  # type: ignore[list-item]

    @strawberry.field
    def awaited_required(self) -> list[int] | None:
        return [_later(1), _fails("an item fails"), _later(2**40)]  # type: ignore[list-item]

    @strawberry.field
    def awaited_before_an_error(self) -> list[int] | None:
        return [_later(1), 2**40, _later(3), Promise("4")]  # type: ignore[list-item]

    @strawberry.field
    async def edges(self) -> list[Edge[Leaf]]:
        return [Edge(node=leaf()), Edge(node=leaf())]

    @strawberry.field
    async def stream(self) -> list[int | None]:
        async def numbers() -> AsyncIterator[int]:
            yield 1
            yield 2**40

        return numbers()  # type: ignore[return-value]


@strawberry.type
class Item:
    """Plain attributes."""

    text: str = "text"
    number: int | None = 7
    ratio: float = 0.5
    color: Color | None = Color.RED
    tags: list[str | None] = strawberry.field(default_factory=lambda: ["a", None])
    länge: int = strawberry.field(name="length", default=3)  # noqa: PLC2401 - a case of its own


class AwaitableItem(Item):
    """An awaitable that has the attributes of an item, with other values."""

    def __await__(self) -> Iterator[object]:
        return _later(Item(text="awaited")).__await__()


class ItemError(Exception):
    """An error that has the attributes of an item."""

    def __init__(self) -> None:
        super().__init__("an item that is an error")
        vars(self).update(vars(Item()))


class ItemProxy:
    """An object that has any attribute of an item, and calls itself an awaitable."""

    def __getattr__(self, name: str) -> object:
        return (
            _later(Item(text="proxied")).__await__ if name == "__await__" else getattr(Item, name)
        )


class OwnList(list[Item]):
    """A list of a class of its own."""


@strawberry.type
class Holder:
    """Objects and lists of objects in attributes: valid, invalid and missing ones."""

    item: Item = strawberry.field(default_factory=Item)
    no_item: Item | None = None
    required_item: Item = None  # type: ignore[assignment]
    awaitable_item: Item = strawberry.field(default_factory=AwaitableItem)
    error_item: Item | None = strawberry.field(default_factory=ItemError)
    proxied_item: Item | None = strawberry.field(default_factory=ItemProxy)
    items: list[Item | None] = strawberry.field(default_factory=lambda: [Item(), None, Item()])
    tuple_of_items: list[Item] = strawberry.field(default_factory=lambda: (Item(), Item()))
    list_of_its_class: list[Item] = strawberry.field(
        default_factory=lambda: OwnList([Item(), Item()])
    )
    items_with_an_error: list[Item | None] = strawberry.field(
        default_factory=lambda: [Item(), ItemError(), AwaitableItem(), Item(text=None)]  # type: ignore[arg-type]  # null for a string
    )
    nested_items: list[list[Item] | None] | None = strawberry.field(
        default_factory=lambda: [[Item()], None, []]
    )
    a_leaf: Leaf = strawberry.field(default_factory=leaf)
    not_a_leaf: Leaf | None = strawberry.field(default_factory=Item)
    odd: Odd | None = strawberry.field(default_factory=lambda: Odd(odd=13))
    thing: Thing | None = strawberry.field(default_factory=leaf)
    holders: list["Holder"] = strawberry.field(default_factory=list)


@strawberry.type
class Failures:
    """Non-null fields with errors, which make their parent null."""

    text: str = "text"

    @strawberry.field
    def failing_required(self) -> str:
        raise ValueError("fails, and is required")

    @strawberry.field
    async def failing_required_later(self) -> str:
        return await _fails("fails later, and is required")

    @strawberry.field
    async def slowly(self) -> str | None:
        return await _later("slowly")


@strawberry.type
class Query:
    @strawberry.field
    def values(self) -> Values | None:
        return Values()

    @strawberry.field
    async def later_values(self) -> Values | None:
        return await _later(Values())

    @strawberry.field
    def lists(self) -> Lists | None:
        return Lists()

    @strawberry.field
    async def later_lists(self) -> Lists | None:
        return Lists()

    @strawberry.field
    def node(self, number: int = 0) -> Node:
        return branch() if number % 2 else leaf()

    @strawberry.field
    async def thing(self, number: int = 0) -> Thing | None:
        return [leaf(), branch(), odd(), odd(13), "no thing", None][number % 6]  # type: ignore[return-value]

    @strawberry.field
    def things(self) -> list[Thing]:
        return [leaf(), odd(), branch()]

    @strawberry.field
    def echo(
        self,
        outer: Outer | None = None,
        color: Color = Color.RED,
        even: Even | None = None,
        numbers: list[int] = strawberry.UNSET,
        text: str | None = strawberry.UNSET,
        maybe: strawberry.Maybe[int] = None,
    ) -> str:
        return repr((outer, color, even, numbers, text, maybe))

    @strawberry.field
    async def later_echo(self, info: TraceInfo, outer: Outer, renamed: str = "x") -> str:
        names = info.field_name, info.python_name, sorted(info.variable_values)
        return repr((outer, renamed, names, info.path.key, info.operation.operation.value))

    @strawberry.field
    def tree(self, tree: Tree) -> str | None:
        return repr(tree)

    @strawberry.field
    def lazy(self, inner: LazyInner | None = None) -> str:
        return repr(inner)

    @strawberry.field
    async def helpers(self, info: TraceInfo) -> int:
        # Strawberry has no public name for graphql-core's info.
        helpers = info._raw_info.async_helpers  # noqa: SLF001
        helpers.track([_fails("in the background"), 1])
        helpers.track([2])
        return sum(await helpers.gather([_later(1), _later(2)]))

    @strawberry.field
    def choice(self, choice: Choice) -> str:
        return repr(choice)

    # Strawberry's decorator is untyped with these arguments.
    @strawberry.field(permission_classes=[Denied])  # type: ignore[untyped-decorator]
    def denied(self) -> str | None:
        return "denied"

    @strawberry.field(extensions=[Shouted()])  # type: ignore[untyped-decorator]
    def shouted(self, text: str = "hey") -> str:
        return text

    @strawberry.field
    def failing(self) -> str | None:
        raise ValueError("fails")

    @strawberry.field
    async def failing_later(self) -> str | None:
        raise GraphQLError("fails later", extensions={"code": "LATER", "n": 1})

    @strawberry.field
    def failures(self) -> "Failures | None":
        return Failures()

    @strawberry.field
    def awaitable(self) -> str:
        return _later("awaited")  # type: ignore[return-value]

    @strawberry.field
    def root_of(self, root: strawberry.Parent[Any]) -> str:
        return repr(root)

    @strawberry.field
    def shapes(self) -> list[Shape]:
        return [Round(sides=number) for number in (0, 4, 0)]

    @strawberry.field
    def errors(self) -> list[Thing | None] | None:
        return [leaf(), ValueError("an item that is an error")]  # type: ignore[list-item]

    @strawberry.field
    def error(self) -> Values | None:
        return ValueError("an object that is an error")  # type: ignore[return-value]

    @strawberry.field
    def edge(
        self, number: int = 0
    ) -> Annotated[Edge[Leaf] | Edge[Branch], strawberry.union("Ends")]:
        return Edge(node=branch()) if number % 2 else Edge(node=leaf())

    @strawberry.field
    def holder(self) -> Holder | None:
        return Holder(holders=[Holder(), Holder()])

    @strawberry.field
    def again(self) -> "Query":
        return Query()

    @strawberry.field
    async def again_later(self) -> "Query | None":
        return Query()


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def note(self, info: TraceInfo, text: str, failure: str | None = None) -> str | None:
        info.context.events.append(f"begin {text}")
        await asyncio.sleep(0)
        info.context.events.append(f"end {text}")
        if failure:
            raise ValueError(failure)
        return ", ".join(info.context.events)

    @strawberry.mutation
    def note_now(self, info: TraceInfo, text: str) -> str:
        info.context.events.append(text)
        return ", ".join(info.context.events)

    @strawberry.mutation
    async def note_required(self, text: str) -> Thing:
        return odd() if text else None  # type: ignore[return-value]


SCHEMA = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    types=[Leaf, Branch, Round, Square],
    config=StrawberryConfig(scalar_map={Even: EVEN, Later: LATER}),
)
