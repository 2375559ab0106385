import { defineConfig } from '@graphql-hive/gateway';

export const gatewayConfig = defineConfig({
  supergraph: './supergraph.graphql',
  host: '127.0.0.1',
  fork: 1,
  jit: true,
  logging: 'warn',
  graphiql: false,
  landingPage: false,
});
