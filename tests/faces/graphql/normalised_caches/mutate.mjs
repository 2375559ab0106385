// Sends a mutation with clients that have a normalised cache and no schema, and prints the data that
// each returns. Usage: node mutate.mjs URL, with {key, document, variables} as JSON
// on standard input.
import { text } from 'node:stream/consumers';
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { Client, fetchExchange } from '@urql/core';
import { cacheExchange } from '@urql/exchange-graphcache';

const [url] = process.argv.slice(2);
const { key, document, variables } = JSON.parse(await text(process.stdin));
const headers = { 'X-Api-Key': key };

const apollo = new ApolloClient({
  cache: new InMemoryCache(),
  link: new HttpLink({ uri: url, headers }),
});
const urql = new Client({
  url,
  exchanges: [cacheExchange(), fetchExchange],
  fetchOptions: { headers },
  preferGetMethod: false,
});

const byApollo = await apollo.mutate({ mutation: gql(document), variables });
const byUrql = await urql.mutation(document, variables).toPromise();
console.log(JSON.stringify({ apollo: byApollo.data, urql: byUrql.data }));
