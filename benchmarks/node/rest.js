// The REST API: HiEnergy's resources, and the envelope of errors.

import { FIELD_NAMES, idOf, snakeCase } from './rules.js'

const STATUSES = {
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  RATE_LIMITED: 429,
  INVALID_INPUT: 422,
  IDEMPOTENCY_KEY_REUSED: 422,
  NOT_FOUND: 404,
  CONFLICT: 409
}
const TRANSPORT_CODES = {
  400: 'BAD_REQUEST',
  404: 'NOT_FOUND',
  413: 'PAYLOAD_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE'
}
const DRY_RUN = { true: true, 1: true, false: false, 0: false }
const FIELD_NAMES_BY_ATTRIBUTE = new Map(FIELD_NAMES.map(name => [snakeCase(name), name]))

const text = { type: 'string', nullable: true }
const resource = {
  type: 'object',
  properties: {
    id: text,
    type: { type: 'string' },
    attributes: {
      type: 'object',
      properties: {
        advertiser_id: { type: 'integer' },
        advertiser_name: text,
        email: text,
        name: text,
        given_name: text,
        family_name: text,
        phone: text,
        job_title: text,
        source: text,
        status: text,
        linkedin_profile_url: text,
        created_at: text,
        updated_at: text
      }
    }
  }
}
const meta = { type: 'object', additionalProperties: true }
const errors = {
  type: 'object',
  properties: {
    error: {
      type: 'object',
      properties: {
        code: { type: 'string' },
        message: { type: 'string' },
        timestamp: { type: 'string' },
        request_id: { type: 'string' },
        details: {
          type: 'object', properties: { existing: resource }, additionalProperties: true
        }
      }
    }
  }
}
const created = { type: 'object', properties: { data: resource, meta } }
const found = { type: 'object', properties: { data: resource } }

export function createRestApi (rules, store) {
  return async app => {
    // Bodies are parsed after authorization.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', { parseAs: 'string' }, (_, body, done) => done(null, body))
    app.setErrorHandler(sendError)

    const creation = { schema: { response: { '2xx': created, '4xx': errors } } }
    app.post('/contacts', creation, createContact)
    app.post('/contacts/add', creation, createContact)
    app.get('/contacts/:id', { schema: { response: { 200: found, '4xx': errors } } }, readContact)
  }

  async function createContact (request, reply) {
    let ignored = []
    const parseRequest = () => {
      const body = parseBody(request)
      const members = isObject(body) ? body : {}
      const known = splitFields(members.contact ?? null)
      ignored = Object.keys(members).filter(name => name !== 'contact').concat(known.ignored)
      const dryRun = request.query.dry_run
      return {
        contact: known.contact,
        idempotencyKey: request.headers['idempotency-key'] ?? null,
        dryRun: dryRun === undefined ? false : DRY_RUN[String(dryRun).toLowerCase()]
      }
    }
    const outcome = await rules.createContact(
      request.caller, parseRequest, { face: 'rest', requestId: request.id })
    if (outcome.code) return sendRefusal(outcome, request, reply)
    const meta = ignored.length ? { ignored_fields: ignored } : {}
    if (outcome.id === null) {
      return reply.send({ data: toResource(outcome), meta: { dry_run: true, ...meta } })
    }
    reply.code(201).header('location', `/api/v1/contacts/${outcome.id}`)
    if (outcome.isReplayed) reply.header('idempotent-replayed', 'true')
    return reply.send({ data: toResource(outcome), meta })
  }

  function readContact (request, reply) {
    const permission = rules.authorizeRead(request.caller)
    if (permission.code) return sendRefusal(permission, request, reply)
    const id = idOf(request.params.id)
    const contact = id === null ? undefined : store.contact(id)
    if (!contact) {
      const missing = { code: 'NOT_FOUND', message: 'Unknown contact.' }
      return sendRefusal(missing, request, reply)
    }
    reply.send({ data: toResource(contact) })
  }
}

export function sendError (error, request, reply) {
  const status = error.statusCode in TRANSPORT_CODES ? error.statusCode : 500
  const message = status === 500 ? 'Internal error.' : error.message
  reply.code(status).send(envelope(TRANSPORT_CODES[status] ?? 'INTERNAL_ERROR', message, request))
}

export function sendNotFound (request, reply) {
  reply.code(404).send(envelope('NOT_FOUND', 'Unknown path.', request))
}

function sendRefusal (refusal, request, reply) {
  const { code, message, problems, existing, retryAfterSeconds } = refusal
  const details = {}
  if (problems) details.problems = problems.map(formatProblem)
  if (existing) details.existing = toResource(existing)
  if (retryAfterSeconds) {
    details.retry_after_seconds = retryAfterSeconds
    reply.header('retry-after', retryAfterSeconds)
  }
  if (code === 'UNAUTHORIZED') {
    reply.header('www-authenticate', 'Bearer realm="contact-gateway"')
  }
  return reply.code(STATUSES[code]).send(envelope(code, message, request, details))
}

function envelope (code, message, request, details = {}) {
  const timestamp = new Date().toISOString()
  return { error: { code, message, timestamp, request_id: request.id, details } }
}

function formatProblem ({ path, code, message }) {
  const [first] = path
  const shown = first === 'idempotencyKey' ? 'Idempotency-Key' : path.map(snakeCase).join('.')
  return { path: shown, code, message }
}

function toResource (contact) {
  return {
    id: contact.id,
    type: 'contact',
    attributes: {
      advertiser_id: BigInt(contact.advertiserId),
      advertiser_name: contact.advertiserName,
      email: contact.email,
      name: contact.name,
      given_name: contact.givenName,
      family_name: contact.familyName,
      phone: contact.phone,
      job_title: contact.jobTitle,
      source: contact.source,
      status: contact.status,
      linkedin_profile_url: contact.linkedinProfileUrl,
      created_at: contact.createdAt,
      updated_at: contact.updatedAt
    }
  }
}

function parseBody ({ headers, body }) {
  if (!/^application\/json *(?:;|$)/i.test(headers['content-type'] ?? '')) {
    throw transportError(415, 'Send the body as application/json in UTF-8.')
  }
  try {
    return JSON.parse(body)
  } catch {
    throw transportError(400, 'This is not valid JSON in UTF-8.')
  }
}

function transportError (statusCode, message) {
  return Object.assign(new Error(message), { statusCode })
}

// Returns a contact with the domain's names, and the unknown names.
function splitFields (raw) {
  if (!isObject(raw)) return { contact: raw, ignored: [] }
  const contact = {}
  const ignored = []
  for (const [name, value] of Object.entries(raw)) {
    const known = FIELD_NAMES_BY_ATTRIBUTE.get(name)
    if (known) contact[known] = value
    else ignored.push(`contact.${name}`)
  }
  return { contact, ignored }
}

function isObject (value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
