import type { ApolloClient } from '@apollo/client';

import { graphql } from './generated/gql.js';
import type { ContactsQuery, ContactsQueryVariables } from './generated/graphql.js';

export type Contact = NonNullable<ContactsQuery['contacts']>['nodes'][number];

const CONTACTS = graphql(`
  query Contacts($advertiserId: ID!, $page: Int!) {
    contacts(advertiserId: $advertiserId, page: $page) {
      nodes { id email createdAt }
      pageInfo { nextPage }
    }
  }
`);

/** Yield the contacts of a brand, by the id of any of its records, page after page. */
export async function* contactsOf(
  client: ApolloClient,
  advertiserId: string,
): AsyncGenerator<Contact> {
  let next: number | null | undefined = 1;
  while (next) {
    const variables: ContactsQueryVariables = { advertiserId, page: next };
    const { data } = await client.query({ query: CONTACTS, variables });
    yield* data?.contacts?.nodes ?? [];
    next = data?.contacts?.pageInfo.nextPage;
  }
}
