"""What a document may be beyond the specification's rules, looked at before work is done for it.

Looking costs no more than reading: the text counts, not what its fragments would unfold to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    Node,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValidationRule,
    specified_rules,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

MAX_ERRORS: Final = 5
"""A document that is wrong in more ways than these is told no more of them."""

_INTROSPECTION: Final = frozenset({"__schema", "__type"})


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """How large a document may be.

    Attributes:
        tokens: words and signs of the text.
        depth: fields within fields. Introspection is not counted: graphql-core bounds it itself.
        aliases: fields that are asked for under another name, or again.
        directives: in the whole document.
        mutations: fields of a mutation, each of which does something.
    """

    tokens: int
    depth: int
    aliases: int
    directives: int
    mutations: int

    def exceeded_by(self, document: DocumentNode) -> GraphQLError | None:
        """Return why a document is too large, or None."""
        size = _Size(document)
        if size.aliases > self.aliases:
            return _too_large(
                "aliases",
                self.aliases,
                f"The document asks more than {self.aliases} times for a field under another name, "
                "or again.",
            )
        if size.directives > self.directives:
            return _too_large(
                "directives",
                self.directives,
                f"The document has more than {self.directives} directives.",
            )
        if size.mutations > self.mutations:
            return _too_large(
                "mutations", self.mutations, f"A mutation has more than {self.mutations} fields."
            )
        if size.is_deeper_than(self.depth):
            return _too_large(
                "depth", self.depth, f"The document is more than {self.depth} fields deep."
            )
        return None


def _too_large(limit: str, maximum: int, message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"limit": limit, "maximum": maximum})


class _Size:
    """What is counted of a document."""

    def __init__(self, document: DocumentNode) -> None:
        self.aliases = 0
        self.directives = 0
        self._operations: Final[list[OperationDefinitionNode]] = []
        self._fragments: Final[dict[str, FragmentDefinitionNode]] = {}
        for definition in document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                self._operations.append(definition)
            elif isinstance(definition, FragmentDefinitionNode):
                self._fragments[definition.name.value] = definition
            self._count_text(definition)
        self.mutations: Final = max(
            (
                sum(1 for _ in self._fields(operation.selection_set))
                for operation in self._operations
                if operation.operation is OperationType.MUTATION
            ),
            default=0,
        )

    def _count_text(self, definition: Node) -> None:
        waiting: list[Node] = [definition]
        while waiting:
            node = waiting.pop()
            self.directives += len(getattr(node, "directives", None) or ())
            waiting.extend(getattr(node, "variable_definitions", None) or ())
            selection_set = getattr(node, "selection_set", None)
            if isinstance(selection_set, SelectionSetNode):
                self.aliases += _renamed_or_repeated(selection_set)
                waiting.extend(selection_set.selections)

    def is_deeper_than(self, depth: int) -> bool:
        """Tell whether fields lie deeper within fields, by whatever fragments."""
        waiting = [(operation.selection_set, 1) for operation in self._operations]
        deepest: dict[str, int] = {}
        while waiting:
            selection_set, level = waiting.pop()
            if level > depth:
                return True
            for selection in selection_set.selections:
                match selection:
                    case FieldNode(name=name, selection_set=SelectionSetNode() as inner):
                        if name.value not in _INTROSPECTION:
                            waiting.append((inner, level + 1))
                    case InlineFragmentNode(selection_set=inner):
                        waiting.append((inner, level))
                    case FragmentSpreadNode(name=name):
                        fragment = self._fragments.get(name.value)
                        if fragment is not None and level > deepest.get(name.value, 0):
                            deepest[name.value] = level
                            waiting.append((fragment.selection_set, level))
                    case _:
                        pass
        return False

    def _fields(self, selection_set: SelectionSetNode) -> Iterator[FieldNode]:
        """Yield the fields of an operation's root; a fragment that is spread twice is one."""
        waiting = [selection_set]
        spread: set[str] = set()
        while waiting:
            for selection in waiting.pop().selections:
                match selection:
                    case FieldNode():
                        yield selection
                    case InlineFragmentNode(selection_set=inner):
                        waiting.append(inner)
                    case FragmentSpreadNode(name=name) if name.value not in spread:
                        spread.add(name.value)
                        fragment = self._fragments.get(name.value)
                        waiting += [] if fragment is None else [fragment.selection_set]
                    case _:
                        pass


def _renamed_or_repeated(selection_set: SelectionSetNode) -> int:
    fields = [each for each in selection_set.selections if isinstance(each, FieldNode)]
    names = {field.name.value for field in fields if field.alias is None}
    return len(fields) - len(names)


class OneOperation(ValidationRule):
    """Refuses several operations where none is chosen (GraphQL specification, section 6.1)."""

    def enter_document(self, node: DocumentNode, *_: object) -> None:
        """Count the operations."""
        operations = [
            definition
            for definition in node.definitions
            if isinstance(definition, OperationDefinitionNode)
        ]
        if len(operations) > 1:
            message = "The document has several operations: choose one by `operationName`."
            self.report_error(GraphQLError(message, operations))


def validation_rules(
    *, names_operation: bool, introspection: bool
) -> tuple[type[ASTValidationRule], ...]:
    """Return the rules of a document: the specification's, Strawberry's and the gateway's."""
    return (
        *specified_rules,
        *(() if names_operation else (OneOperation,)),
        *(() if introspection else (NoSchemaIntrospectionCustomRule,)),
        MaybeNullValidationRule,
        OneOfInputValidationRule,
    )
