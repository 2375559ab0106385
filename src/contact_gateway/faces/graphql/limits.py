"""Limits of GraphQL documents, beyond the specification's rules. They are checked first.

A check takes no longer than reading the text: fragments are counted as written, not as spread.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSyntaxError,
    InlineFragmentNode,
    Node,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValidationRule,
    parse,
    specified_rules,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

MAX_ERRORS: Final = 5
"""After this many errors, the validation of a document stops."""

_INTROSPECTION: Final = frozenset({"__schema", "__type"})


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """The maximum size of a document.

    Attributes:
        tokens: names, numbers, strings, punctuators and comments.
        depth: levels of nested fields, except those of introspection, which graphql-core limits.
        aliases: aliased or repeated fields.
        directives: directives in the whole document.
        mutations: root fields of a mutation, each of which is an operation.
        records: contacts and advertisers in the result. A short document may have millions: an
            advertiser has equivalents, which have equivalents.
    """

    tokens: int
    depth: int
    aliases: int
    directives: int
    mutations: int
    records: int

    def parse(self, text: str) -> DocumentNode:
        """Parse a document.

        Raises:
            GraphQLError: the document does not parse, or has too many tokens.
        """
        try:
            return parse(text, max_tokens=self.tokens)
        except GraphQLSyntaxError as error:
            # graphql-core has no error of its own for the limit.
            if error.description.startswith(f"Document contains more than {self.tokens} tokens"):
                raise _exceeded("tokens", self.tokens, "tokens") from None
            raise

    def exceeded_limit(self, document: DocumentNode) -> GraphQLError | None:
        """Return the error of a document that exceeds a limit, or None."""
        size = _DocumentSize(document)
        if size.aliases > self.aliases:
            return _exceeded("aliases", self.aliases, "aliased or repeated fields")
        if size.directives > self.directives:
            return _exceeded("directives", self.directives, "directives")
        if size.mutations > self.mutations:
            return _exceeded("mutations", self.mutations, "fields in a mutation")
        if size.is_deeper_than(self.depth):
            return _exceeded("depth", self.depth, "levels of nested fields")
        return None

    def too_many_records(self) -> GraphQLError:
        """Return the error of a field whose records exceed the limit."""
        return _exceeded("records", self.records, "records", of="result")


def _exceeded(limit: str, maximum: int, counted: str, *, of: str = "document") -> GraphQLError:
    return GraphQLError(
        f"The {of} is too large. At most {maximum} {counted} are allowed.",
        extensions={"limit": limit, "maximum": maximum},
    )


class _DocumentSize:
    """The numbers of a document that are limited."""

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
        self._count_aliases_and_directives(document)
        self.mutations: Final = max(
            (
                sum(1 for _ in root_fields(operation.selection_set, self._fragments))
                for operation in self._operations
                if operation.operation is OperationType.MUTATION
            ),
            default=0,
        )

    def _count_aliases_and_directives(self, document: DocumentNode) -> None:
        pending: list[Node] = [*document.definitions]
        while pending:
            node = pending.pop()
            self.directives += len(getattr(node, "directives", None) or ())
            pending.extend(getattr(node, "variable_definitions", None) or ())
            selection_set = getattr(node, "selection_set", None)
            if isinstance(selection_set, SelectionSetNode):
                selections = selection_set.selections
                fields = [each for each in selections if isinstance(each, FieldNode)]
                names = {field.name.value for field in fields if field.alias is None}
                self.aliases += len(fields) - len(names)
                pending.extend(selections)

    def is_deeper_than(self, depth: int) -> bool:
        """Return whether any operation nests its fields deeper, directly or by fragments."""
        pending = [(operation.selection_set, 1) for operation in self._operations]
        deepest: dict[str, int] = {}
        while pending:
            selection_set, level = pending.pop()
            if level > depth:
                return True
            for selection in selection_set.selections:
                match selection:
                    case FieldNode(name=name, selection_set=SelectionSetNode() as inner):
                        if name.value not in _INTROSPECTION:
                            pending.append((inner, level + 1))
                    case InlineFragmentNode(selection_set=inner):
                        pending.append((inner, level))
                    case FragmentSpreadNode(name=name):
                        fragment = self._fragments.get(name.value)
                        if fragment is not None and level > deepest.get(name.value, 0):
                            deepest[name.value] = level
                            pending.append((fragment.selection_set, level))
                    case _:
                        pass
        return False


def root_fields(
    selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> Iterator[FieldNode]:
    """Yield the root fields of an operation. A fragment that is spread twice counts once."""
    pending = [selections]
    spread: set[str] = set()
    while pending:
        for selection in pending.pop().selections:
            match selection:
                case FieldNode():
                    yield selection
                case InlineFragmentNode(selection_set=inner):
                    pending.append(inner)
                case FragmentSpreadNode(name=name) if name.value not in spread:
                    spread.add(name.value)
                    fragment = fragments.get(name.value)
                    pending += [] if fragment is None else [fragment.selection_set]
                case _:
                    pass


class NoIntrospectionAliases(ValidationRule):
    """Refuses aliases in the schema's introspection, for which no key is needed.

    Aliases at each level multiply each other, and the schema has lists within lists.
    """

    def enter_field(self, node: FieldNode, *_: object) -> None:
        """Report an error if a field of introspection has an alias."""
        parent = self.context.get_parent_type()
        is_introspection = parent is not None and parent.name.startswith("__")
        if node.alias is not None and (is_introspection or node.name.value == "__schema"):
            message = "Fields of `__schema` and `__type` cannot have aliases."
            self.report_error(GraphQLError(message, node))


def validation_rules(*, introspection: bool) -> tuple[type[ASTValidationRule], ...]:
    """Return the validation rules: the specification's, Strawberry's and the gateway's."""
    return (
        *specified_rules,
        NoIntrospectionAliases,
        *(() if introspection else (NoSchemaIntrospectionCustomRule,)),
        MaybeNullValidationRule,
        OneOfInputValidationRule,
    )
