"""What the servers are asked for: the same documents and bodies for all that can take them."""

import json
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from benchmarks.load import Operation

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
_CREATE_KEYED: Final = f"""mutation CreateContact($input: CreateContactInput!, $key: String) {{
  createContact(input: $input, idempotencyKey: $key) {_SELECTION}
}}"""
_READ: Final = "id advertiserId advertiserName email name givenName familyName phone createdAt"
_CONTACT_BY_ID: Final = f"query Contact($id: ID!) {{ contact(id: $id) {{ {_READ} }} }}"
PAGE_SIZE: Final = 50
_CONTACTS: Final = f"""query Contacts($size: Int) {{
  contacts(perPage: $size) {{
    nodes {{ {_READ} }}
    pageInfo {{ currentPage nextPage perPage hasMore }}
  }}
}}"""


def graphql(document: str, **variables: object) -> Operation:
    """Return the request that creates a contact by a document."""
    body = json.dumps({"query": document, "variables": variables})
    return Operation("/graphql", body, HTTPStatus.OK)


CREATE: Final = graphql(_CREATE, input=_CAMEL_CASE)
CREATE_KEYED: Final = graphql(_CREATE_KEYED, input=_CAMEL_CASE, key="{n}")
CREATE_BY_REST: Final = Operation(
    "/api/v1/contacts", json.dumps({"contact": SNAKE_CASE}), HTTPStatus.CREATED
)
CONTACT: Final = replace(graphql(_CONTACT_BY_ID, id="{id}"), creates=False, holds='"id":"{id}"')
CONTACTS: Final = replace(
    graphql(_CONTACTS, size=PAGE_SIZE), creates=False, addresses=PAGE_SIZE, holds=""
)
ECHO: Final = replace(CREATE, path="/", creates=False)
