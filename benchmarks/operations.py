"""The requests of the benchmarks: the same documents and bodies for every server."""

import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

_LEAST_ON_PAGE: Final = 1
_MOST_ON_PAGE: Final = 99


@dataclass(frozen=True, slots=True)
class Operation:
    """A POST and the properties of a right answer: its status, no errors, its number of contacts.

    In the body, each request replaces `{n}` by a unique text, `{id}` by a random number from 1 to
    `ids`, and `{size}` by one from `least` to `most`, which is how many contacts the answer has.
    `holds`, filled likewise, is a part of the answer without its spaces. An operation that
    `creates` a contact has `{n}` in the contact's e-mail address.
    """

    name: str
    path: str
    body: str
    status: int
    creates: bool = True
    least: int = 1
    most: int = 1
    holds: str = '"email":"{n}@'
    key: str = "benchmark"
    ids: int = 1


def graphql(name: str, document: str, **variables: object) -> Operation:
    """Return the operation that creates a contact by a GraphQL document."""
    body = json.dumps({"query": document, "variables": variables})
    body = body.replace('"{size}"', "{size}")
    return Operation(name, "/graphql", body, HTTPStatus.OK)


_CONTACT: Final = {
    "email": "{n}@example.com",
    "name": "Noor Haddad",
    "phone": "+1 555 0100",
    "source": "benchmark",
}
SNAKE_CASE: Final = {
    "advertiser_id": "{id}",
    **_CONTACT,
    "given_name": "Noor",
    "family_name": "Haddad",
    "job_title": "Buyer",
}
_CAMEL_CASE: Final = {
    "advertiserId": "{id}",
    **_CONTACT,
    "givenName": "Noor",
    "familyName": "Haddad",
    "jobTitle": "Buyer",
}
_SELECTION: Final = """{
  __typename
  ... on Contact { id advertiserId email name givenName familyName phone jobTitle createdAt }
  ... on ApiError { code message }
}"""
_CREATE: Final = f"""mutation CreateContact($input: CreateContactInput!) {{
  createContact(input: $input) {_SELECTION}
}}"""
_CREATE_IDEMPOTENT: Final = f"""mutation CreateContact($input: CreateContactInput!, $key: String) {{
  createContact(input: $input, idempotencyKey: $key) {_SELECTION}
}}"""
_READ: Final = "id advertiserId advertiserName email name givenName familyName phone createdAt"
_CONTACT_BY_ID: Final = f"query Contact($id: ID!) {{ contact(id: $id) {{ {_READ} }} }}"
_CONTACTS: Final = f"""query Contacts($size: Int) {{
  contacts(perPage: $size) {{
    nodes {{ {_READ} }}
    pageInfo {{ currentPage perPage nextPage }}
  }}
}}"""

CREATE: Final = graphql("createContact by GraphQL", _CREATE, input=_CAMEL_CASE)
CREATE_IDEMPOTENT: Final = graphql(
    "createContact by GraphQL with idempotency keys",
    _CREATE_IDEMPOTENT,
    input=_CAMEL_CASE,
    key="{n}",
)
CREATE_BY_REST: Final = Operation(
    "createContact by REST",
    "/api/v1/contacts",
    json.dumps({"contact": SNAKE_CASE}),
    HTTPStatus.CREATED,
)
CONTACT: Final = replace(
    graphql("contact(id)", _CONTACT_BY_ID, id="{id}"), creates=False, holds='"id":"{id}"'
)
CONTACTS: Final = replace(
    # Of several sizes: the gateway reads a page once for all that ask for it at the same time.
    graphql(f"contacts, pages of {_LEAST_ON_PAGE} to {_MOST_ON_PAGE}", _CONTACTS, size="{size}"),
    creates=False,
    least=_LEAST_ON_PAGE,
    most=_MOST_ON_PAGE,
    holds="",
)
ECHO: Final = replace(CREATE, name="JSON in, JSON out", path="/", creates=False)
