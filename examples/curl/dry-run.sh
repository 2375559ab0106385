#!/bin/sh
# Show what a submission would create, and on which HiEnergy record. Every rule is applied and
# nothing is created. The answer is 200, and the contact has no id.
set -eu

curl -sS --fail-with-body "$CONTACT_GATEWAY/api/v1/contacts?dry_run=true" \
  -H "X-Api-Key: $API_KEY" \
  -H 'Content-Type: application/json' \
  --data '{"contact": {"advertiser_id": 2003, "email": "only.a.try@example.com"}}'
