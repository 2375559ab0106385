import { randomUUID } from 'node:crypto';

import { contactsOf } from './contacts.js';
import { createContact, describe } from './create-contact.js';
import { connect } from './gateway.js';

const [advertiserId, email, idempotencyKey = randomUUID()] = process.argv.slice(2);
const { CONTACT_GATEWAY, API_KEY } = process.env;
if (!advertiserId || !email || !CONTACT_GATEWAY || !API_KEY) {
  console.error('Set CONTACT_GATEWAY and API_KEY. Usage: npm start -- ADVERTISER EMAIL [KEY]');
  process.exit(2);
}

const client = connect(CONTACT_GATEWAY, API_KEY);
try {
  const outcome = await createContact(client, { advertiserId, email }, idempotencyKey);
  console.log(describe(outcome, idempotencyKey));
  if (outcome.__typename === 'Contact') {
    for await (const contact of contactsOf(client, outcome.advertiserId)) {
      console.log(contact.id, contact.email, contact.createdAt);
    }
  } else {
    process.exitCode = 1;
  }
} catch (error) {
  console.error(`No outcome: ${error}. Run this again with the key ${idempotencyKey}.`);
  process.exitCode = 1;
}
