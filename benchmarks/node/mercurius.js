// A peer: contact-gateway's createContact and its reads of contacts on Node, with Mercurius and its
// JIT over better-sqlite3. It serves contact-gateway's schema from a database file that
// contact-gateway made, without the queries of advertisers. Each creation is a transaction with a
// durable commit, or with GROUP_COMMIT=1 those of one turn of the event loop share one.
//
//     DATABASE=contacts.sqlite3 PORT=8001 RATE_LIMIT_PER_HOUR=0 GROUP_COMMIT=1 node mercurius.js

import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import mercurius from 'mercurius'
import { createResolvers, messageAndCode } from './graphql.js'
import { createCaller, headersOf, MAX_BODY_BYTES, milliseconds, requestIdOf } from './http.js'
import { createRestApi, sendError, sendNotFound } from './rest.js'
import { createRules } from './rules.js'
import { openStore } from './store.js'

const { DATABASE, PORT = '8001', RATE_LIMIT_PER_HOUR = '10000', GROUP_COMMIT = '0' } = process.env

const store = openStore(DATABASE, GROUP_COMMIT === '1')
const rules = createRules(store, Number(RATE_LIMIT_PER_HOUR))
const app = Fastify({
  bodyLimit: MAX_BODY_BYTES,
  genReqId: ({ headers }) => requestIdOf(headers['x-request-id']),
  logger: true,
  // The hook below logs one line per request, as contact-gateway does.
  disableRequestLogging: true
})

app.decorateRequest('caller', null)
app.addHook('onRequest', (request, _, done) => {
  request.caller = createCaller(request.headers['x-api-key'], request.headers.authorization)
  done()
})
app.addHook('onSend', (request, reply, payload, done) => {
  reply.headers(headersOf(request.id, request.caller))
  done(null, payload)
})
app.addHook('onResponse', (request, reply, done) => {
  const { method, routeOptions: { url: operation } } = request
  const { statusCode: status, elapsedTime } = reply
  request.log.info({ method, operation, status, duration_ms: milliseconds(elapsedTime) }, 'request')
  done()
})
app.addHook('onClose', async () => store.close())
app.setErrorHandler(sendError)
app.setNotFoundHandler(sendNotFound)
app.register(mercurius, {
  schema: readFileSync(new URL('../../schema.graphql', import.meta.url), 'utf8'),
  resolvers: createResolvers(rules, store),
  context: ({ caller, id, headers }) => ({
    caller, requestId: id, idempotencyHeader: headers['idempotency-key']
  }),
  errorFormatter: formatErrors,
  graphiql: false,
  jit: 1
})
app.register(createRestApi(rules, store), { prefix: '/api/v1' })

process.once('SIGTERM', () => app.close())
process.once('SIGINT', () => app.close())
await app.listen({ host: '127.0.0.1', port: Number(PORT) })

function formatErrors (execution, context) {
  const answer = mercurius.defaultErrorFormatter(execution, context)
  // A request that was not executed has no `data`, not even null.
  if (execution.data === undefined) delete answer.response.data
  answer.response.errors = answer.response.errors.map(
    error => ({ ...error, ...messageAndCode(error) }))
  return answer
}
