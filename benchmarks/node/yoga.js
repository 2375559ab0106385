// A peer: contact-gateway's createContact and its reads of contacts on GraphQL Yoga with compiled
// documents over better-sqlite3. It runs on Bun or on Node, each with its own HTTP server.
// Creations of one turn of the event loop share a durable commit. It has no REST API.
//
//     DATABASE=contacts.sqlite3 PORT=8001 RATE_LIMIT_PER_HOUR=0 bun yoga.js

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { useGraphQlJit } from '@envelop/graphql-jit'
import { GraphQLError } from 'graphql'
import { createSchema, createYoga } from 'graphql-yoga'
import pino from 'pino'
import { createResolvers, messageAndCode } from './graphql.js'
import { createCaller, headersOf, MAX_BODY_BYTES, milliseconds, requestIdOf } from './http.js'
import { createRules } from './rules.js'
import { openStore } from './store.js'

const { DATABASE, PORT = '8001', RATE_LIMIT_PER_HOUR = '10000' } = process.env
const hostname = '127.0.0.1'
const port = Number(PORT)

const log = pino()
const store = openStore(DATABASE, true)
const rules = createRules(store, Number(RATE_LIMIT_PER_HOUR))
const yoga = createYoga({
  schema: createSchema({
    typeDefs: readFileSync(new URL('../../schema.graphql', import.meta.url), 'utf8'),
    resolvers: createResolvers(rules, store)
  }),
  plugins: [useGraphQlJit(), { onRequest, onResponse }],
  maskedErrors: { maskError },
  maxRequestBodySize: MAX_BODY_BYTES,
  cors: false,
  graphiql: false,
  landingPage: false,
  logging: false,
  multipart: false
})

const close = globalThis.Bun ? serveOnBun() : serveOnNode()
for (const name of ['SIGTERM', 'SIGINT']) {
  process.once(name, async () => {
    await close()
    store.close()
    process.exit()
  })
}

function serveOnBun () {
  const server = Bun.serve({ hostname, port, fetch: request => yoga.fetch(request, {}) })
  return () => server.stop()
}

function serveOnNode () {
  const server = createServer((request, response) => yoga(request, response, {}))
  server.listen(port, hostname)
  return () => new Promise(resolve => server.close(resolve))
}

// The context of the request becomes that of the resolvers.
function onRequest ({ request: { headers }, serverContext }) {
  serverContext.startedAt = performance.now()
  serverContext.requestId = requestIdOf(headers.get('x-request-id'))
  serverContext.caller = createCaller(headers.get('x-api-key'), headers.get('authorization'))
  serverContext.idempotencyHeader = headers.get('idempotency-key')
}

function onResponse ({ request, response, serverContext }) {
  const { caller, requestId, startedAt } = serverContext
  const headers = headersOf(requestId, caller)
  for (const name in headers) response.headers.set(name, headers[name])
  log.info({
    reqId: requestId,
    method: request.method,
    operation: '/graphql',
    status: response.status,
    duration_ms: milliseconds(performance.now() - startedAt)
  }, 'request')
}

function maskError (error) {
  const { message, extensions } = messageAndCode(error)
  return new GraphQLError(message, { nodes: error.nodes, path: error.path, extensions })
}
