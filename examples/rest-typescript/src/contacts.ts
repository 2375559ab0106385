import type { Gateway } from './gateway.js';
import type { components, operations } from './generated.js';

type Query = NonNullable<operations['listContacts']['parameters']['query']>;

/** Yield the contacts of a brand, by the id of any of its records, page after page. */
export async function* contactsOf(
  gateway: Gateway,
  advertiserId: string,
): AsyncGenerator<components['schemas']['Contact']> {
  let next: number | null = 1;
  while (next !== null) {
    const query: Query = { advertiser_id: advertiserId, page: next };
    const { data, error } = await gateway.GET('/contacts', { params: { query } });
    if (!data) {
      throw new Error(error.error.message);
    }
    yield* data.data;
    next = data.meta.next_page;
  }
}
