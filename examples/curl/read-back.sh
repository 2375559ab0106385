#!/bin/sh
# List the contacts of a brand, newest first. The id may be that of any of the brand's records:
# 2001 is its record on CJ. The contacts are those of its HiEnergy record. A member's key works too.
set -eu

curl -sS --fail-with-body "$CONTACT_GATEWAY/api/v1/advertisers/2001/contacts?per_page=10" \
  -H "X-Api-Key: $API_KEY"
