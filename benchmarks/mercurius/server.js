// A peer: contact-gateway's createContact and its reads of contacts on Node, with Mercurius and its
// JIT over better-sqlite3. It serves contact-gateway's schema from a database file that
// contact-gateway made, without the queries of advertisers. Each creation is a transaction with a
// durable commit.
//
//     DATABASE=contacts.sqlite3 PORT=8001 RATE_LIMIT_PER_HOUR=0 node server.js

import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import mercurius from 'mercurius'
import { formatErrors, createResolvers } from './graphql.js'
import { createRestApi, sendError, sendNotFound } from './rest.js'
import { createRules } from './rules.js'
import { openStore } from './store.js'

const { DATABASE, PORT = '8001', RATE_LIMIT_PER_HOUR = '10000' } = process.env
const REQUEST_ID = /^(?!.*cgw_)[A-Za-z0-9._~-]{1,128}$/
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store'
}

const store = openStore(DATABASE)
const rules = createRules(store, Number(RATE_LIMIT_PER_HOUR))
const app = Fastify({
  bodyLimit: 65536,
  genReqId: requestId,
  logger: true,
  // The hook below logs one line per request, as contact-gateway does.
  disableRequestLogging: true
})

app.decorateRequest('caller', null)
app.addHook('onRequest', (request, reply, done) => {
  request.caller = { key: presentedKey(request.headers), identity: null, reads: null, window: null }
  reply.header('x-request-id', request.id)
  reply.headers(HEADERS)
  done()
})
app.addHook('onSend', ({ caller: { window } }, reply, payload, done) => {
  if (window) {
    reply.header('x-ratelimit-limit', window.limit)
    reply.header('x-ratelimit-remaining', Math.max(0, window.limit - window.used))
    reply.header('x-ratelimit-reset', Math.ceil(window.resetsAt / 1000))
  }
  done(null, payload)
})
app.addHook('onResponse', (request, reply, done) => {
  const { method, routeOptions: { url: operation } } = request
  const { statusCode: status, elapsedTime } = reply
  request.log.info(
    { method, operation, status, duration_ms: Math.round(elapsedTime * 100) / 100 }, 'request')
  done()
})
app.addHook('onClose', async () => store.close())
app.setErrorHandler(sendError)
app.setNotFoundHandler(sendNotFound)
app.register(mercurius, {
  schema: readFileSync(new URL('../../schema.graphql', import.meta.url), 'utf8'),
  resolvers: createResolvers(rules, store),
  context: request => ({ request }),
  errorFormatter: formatErrors,
  graphiql: false,
  jit: 1
})
app.register(createRestApi(rules, store), { prefix: '/api/v1' })

process.once('SIGTERM', () => app.close())
process.once('SIGINT', () => app.close())
await app.listen({ host: '127.0.0.1', port: Number(PORT) })

function requestId ({ headers }) {
  const given = headers['x-request-id']
  return given !== undefined && REQUEST_ID.test(given) ? given : randomUUID()
}

function presentedKey (headers) {
  return headers['x-api-key']?.trim() || /^bearer +(\S+) *$/i.exec(headers.authorization)?.[1]
}
