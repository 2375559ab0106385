#!/bin/sh
# Create a contact by REST. The answer is 201 with the contact; the header Location is its path.
#
# The advertiser is a network record (2001, on CJ). The contact is created on the brand's HiEnergy
# record (1001). The idempotency key makes a repeat safe: it returns the same contact.
# An error prints its envelope, and curl exits with 22.
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
