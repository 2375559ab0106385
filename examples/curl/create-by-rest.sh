#!/bin/sh
# Creates a contact by REST. The answer, 201, holds the contact; the header Location its address.
#
# The advertiser is a network record (2001, on CJ); the contact lands on the brand's HiEnergy
# record (1001). The idempotency key makes it safe to run this again: the same contact comes back.
# A refusal prints its error envelope, and the exit status is 22.
set -eu

curl -sS --fail-with-body "$CONTACT_GATEWAY/api/v1/contacts" \
  -H "X-Api-Key: $API_KEY" \
  -H 'Content-Type: application/json' \
  -H 'Idempotency-Key: example-create-by-rest' \
  --data '{
    "contact": {
      "advertiser_id": 2001,
      "email": "maya.lindqvist@example.com",
      "given_name": "Maya",
      "family_name": "Lindqvist",
      "job_title": "Affiliate Manager"
    }
  }'
