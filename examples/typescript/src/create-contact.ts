import type { ApolloClient } from '@apollo/client';
import { setTimeout as sleep } from 'node:timers/promises';

import { ATTEMPTS, LONGEST_WAIT_SECONDS } from './gateway.js';
import { graphql } from './generated/gql.js';
import type { CreateContactInput, CreateContactMutation } from './generated/graphql.js';

export type Outcome = CreateContactMutation['createContact'];

const CREATE_CONTACT = graphql(`
  mutation CreateContact($input: CreateContactInput!, $idempotencyKey: String!) {
    createContact(input: $input, idempotencyKey: $idempotencyKey) {
      __typename
      ... on Contact { id advertiserId }
      ... on ContactPreview { advertiserId }
      ... on ApiError { code message requestId }
      ... on InvalidInputError { problems { path message } }
      ... on ConflictError { existing { id } }
      ... on RateLimitedError { retryAfterSeconds }
      ... on OutcomeUnknownError { retryAfterSeconds }
    }
  }
`);

/**
 * Create a contact. Repeat the call while the outcome says when to.
 *
 * All attempts have the same idempotency key, so they create one contact at most.
 */
export async function createContact(
  client: ApolloClient,
  input: CreateContactInput,
  idempotencyKey: string,
): Promise<Outcome> {
  for (let attempt = 1; ; attempt++) {
    const { data } = await client.mutate({
      mutation: CREATE_CONTACT,
      variables: { input, idempotencyKey },
    });
    if (!data) {
      throw new Error('The answer has no data.');
    }
    const outcome = data.createContact;
    const seconds = 'retryAfterSeconds' in outcome ? outcome.retryAfterSeconds : Infinity;
    if (seconds > LONGEST_WAIT_SECONDS || attempt === ATTEMPTS) {
      return outcome;
    }
    await sleep(seconds * 1000);
  }
}

/** Describe an outcome. A member of the union without a case does not compile. */
export function describe(outcome: Outcome, key: string): string {
  switch (outcome.__typename) {
    case 'Contact':
      return `Created contact ${outcome.id} on HiEnergy advertiser ${outcome.advertiserId}.`;
    case 'ContactPreview':
      return `A dry run: nothing was created on HiEnergy advertiser ${outcome.advertiserId}.`;
    case 'ConflictError':
      return `Contact ${outcome.existing?.id ?? '(not shown)'} already has this address.`;
    case 'InvalidInputError':
      return `Invalid input: ${outcome.problems
        .map(({ path, message }) => `${path}: ${message}`)
        .join('; ')}`;
    case 'NotFoundError':
      return `Advertiser not found: ${outcome.message}`;
    case 'IdempotencyKeyReusedError':
      return 'The idempotency key belongs to another submission.';
    case 'OutcomeUnknownError':
      return `HiEnergy may have created the contact. Run this again with the key ${key}.`;
    case 'RateLimitedError':
      return `Rate limit reached. Retry in ${outcome.retryAfterSeconds} s.`;
    case 'UnauthorizedError':
    case 'ForbiddenError':
      return `The API key was refused: ${outcome.message}`;
    default:
      return describeLater(outcome);
  }
}

/** Describe a member that is newer than this program. `... on ApiError` has its message. */
function describeLater(outcome: never): string {
  const { code, message, requestId }: Record<string, string> = outcome;
  return `${code}: ${message} (request ${requestId})`;
}
