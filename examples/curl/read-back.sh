#!/bin/sh
# Lists the contacts of a brand, newest first. Any of the brand's records will do: 2001 is its
# record on CJ, and the contacts are those of its HiEnergy record. A member's key may read, too.
set -eu

curl -sS --fail-with-body "$CONTACT_GATEWAY/api/v1/advertisers/2001/contacts?per_page=10" \
  -H "X-Api-Key: $API_KEY"
