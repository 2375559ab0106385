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

const gateway = connect(CONTACT_GATEWAY, API_KEY);
const contact = { advertiser_id: advertiserId, email };
try {
  const answer = await createContact(gateway, contact, idempotencyKey);
  console.log(describe(answer, idempotencyKey));
  if (answer.data) {
    for await (const { id, attributes } of contactsOf(gateway, advertiserId)) {
      console.log(id, attributes.email, attributes.created_at);
    }
  } else {
    process.exitCode = 1;
  }
} catch (error) {
  console.error(`No outcome: ${error}. Run this again with the key ${idempotencyKey}.`);
  process.exitCode = 1;
}
