#!/bin/sh
# Create a contact by GraphQL. Every outcome is data with HTTP 200. Select __typename, the members
# that you handle, and `... on ApiError` for the rest.
set -eu

curl -sS --fail-with-body "$CONTACT_GATEWAY/graphql" \
  -H "Authorization: Bearer $API_KEY" \
  -H 'Content-Type: application/json' \
  -H 'Idempotency-Key: example-create-by-graphql' \
  --data '{
    "query": "mutation CreateContact($input: CreateContactInput!) { createContact(input: $input) { __typename ... on Contact { id name advertiserId advertiserName } ... on ApiError { code message requestId } ... on InvalidInputError { problems { path code message } } ... on ConflictError { existing { id } } ... on RateLimitedError { retryAfterSeconds } } }",
    "variables": {
      "input": {
        "advertiserId": "2001",
        "email": "noor.haddad@example.com",
        "name": "Noor Haddad"
      }
    }
  }'
