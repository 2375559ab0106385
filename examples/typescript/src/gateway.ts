import { ApolloClient, HttpLink, InMemoryCache } from '@apollo/client';
import { setTimeout as sleep } from 'node:timers/promises';

import generated from './generated/possible-types.js';

export const ATTEMPTS = 4;
export const LONGEST_WAIT_SECONDS = 60;

// Without possible types, the cache drops the fields of `... on ApiError`. The pattern is for
// errors that are newer than this program.
const { possibleTypes } = generated;
possibleTypes.ApiError?.push('.+Error');

const RETRIED = new Set([408, 429, 500, 502, 503, 504]);

export function connect(address: string, apiKey: string): ApolloClient {
  return new ApolloClient({
    link: new HttpLink({
      uri: `${address}/graphql`,
      headers: { 'X-Api-Key': apiKey },
      fetch: fetchWithRetries,
    }),
    cache: new InMemoryCache({ possibleTypes }),
    clientAwareness: { name: 'typescript-example' },
  });
}

/** Repeat a request after a lost answer or a passing error, when `Retry-After` says so. */
async function fetchWithRetries(...[url, options]: Parameters<typeof fetch>): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let seconds = 1;
    try {
      const response = await fetch(url, { ...options, signal: AbortSignal.timeout(60_000) });
      // Read the body here, so that an answer that breaks off counts as lost.
      const answer = new Response(await response.text(), response);
      seconds = Number(response.headers.get('Retry-After') ?? seconds);
      const isFinal = !RETRIED.has(response.status) || seconds > LONGEST_WAIT_SECONDS;
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
