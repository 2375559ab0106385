import { setTimeout as sleep } from 'node:timers/promises';

import type { Gateway } from './gateway.js';
import type { components } from './generated.js';

type NewContact = components['schemas']['NewContact'];
type Answer = Awaited<ReturnType<typeof submit>>;
type ApiError = NonNullable<Answer['error']>['error'];

const ATTEMPTS = 4;
const LONGEST_WAIT_SECONDS = 60;
const RETRIED = new Set([408, 429, 500, 502, 503, 504]);

/**
 * Create a contact. Repeat the request after a lost answer or a passing error, when `Retry-After`
 * says so.
 *
 * All attempts have the same idempotency key, so they create one contact at most.
 */
export async function createContact(
  gateway: Gateway,
  contact: NewContact,
  idempotencyKey: string,
): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    let seconds = 1;
    try {
      const answer = await submit(gateway, contact, idempotencyKey);
      seconds = Number(answer.response.headers.get('Retry-After') ?? seconds);
      const isFinal = !RETRIED.has(answer.response.status) || seconds > LONGEST_WAIT_SECONDS;
      if (isFinal || attempt === ATTEMPTS) {
        return answer;
      }
    } catch (lost) {
      if (attempt === ATTEMPTS) {
        throw lost;
      }
    }
    await sleep(seconds * 1000);
  }
}

function submit(gateway: Gateway, contact: NewContact, idempotencyKey: string) {
  return gateway.POST('/contacts', {
    params: { header: { 'Idempotency-Key': idempotencyKey } },
    body: { contact },
    signal: AbortSignal.timeout(60_000),
  });
}

/** Describe an answer. An error code without a case does not compile. */
export function describe({ data, error }: Answer, key: string): string {
  if (data) {
    // `attributes.advertiser_id` is a number, which JavaScript rounds above 2^53.
    const owner = data.data.relationships.advertiser.data.id;
    return `Created contact ${data.data.id} on HiEnergy advertiser ${owner}.`;
  }
  return describeError(error.error, key);
}

function describeError(error: ApiError, key: string): string {
  switch (error.code) {
    case 'CONFLICT':
      return `Contact ${error.details.existing?.id ?? '(not shown)'} already has this address.`;
    case 'INVALID_INPUT':
      return `Invalid input: ${error.details.problems
        .map(({ path, message }) => `${path}: ${message}`)
        .join('; ')}`;
    case 'NOT_FOUND':
      return `Advertiser not found: ${error.message}`;
    case 'IDEMPOTENCY_KEY_REUSED':
      return 'The idempotency key belongs to another submission.';
    case 'OUTCOME_UNKNOWN':
      return `HiEnergy may have created the contact. Run this again with the key ${key}.`;
    case 'RATE_LIMITED':
      return `Rate limit reached. Retry in ${error.details.retry_after_seconds} s.`;
    case 'UNAUTHORIZED':
    case 'FORBIDDEN':
      return `The API key was refused: ${error.message}`;
    case 'INTERNAL_ERROR':
    case 'REQUEST_TIMEOUT':
    case 'SERVICE_UNAVAILABLE':
      throw new Error(error.message);
    case 'BAD_REQUEST':
    case 'PAYLOAD_TOO_LARGE':
    case 'UNSUPPORTED_MEDIA_TYPE':
      return `${error.code}: ${error.message} (request ${error.request_id})`;
    default:
      return describeLater(error);
  }
}

/** Describe an error that is newer than this program. */
function describeLater(error: never): string {
  const { code, message, request_id }: Record<string, string> = error;
  return `${code}: ${message} (request ${request_id})`;
}
