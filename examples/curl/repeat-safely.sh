#!/bin/sh
# Send one submission twice, as after a lost answer. Because of the idempotency key, one contact is
# created: both lines show the same path, and the second ends with `Idempotent-Replayed`, which is true.
set -eu

submit() {
  curl -sS --fail-with-body "$CONTACT_GATEWAY/api/v1/contacts" \
    -H "X-Api-Key: $API_KEY" \
    -H 'Content-Type: application/json' \
    -H 'Idempotency-Key: example-repeat-safely' \
    --data '{"contact": {"advertiser_id": 1003, "email": "ines.moreau@example.com"}}' \
    --output /dev/null \
    --write-out '%{http_code} %header{location} %header{idempotent-replayed}\n'
}

submit
submit
