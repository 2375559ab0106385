// The rules of createContact in their order, and the authorization of reads, for GraphQL and REST.
//
// An outcome is an object with the name of its GraphQL type: a Contact, a ContactPreview, or a
// refusal, which has a `code`.

import { hash, timingSafeEqual } from 'node:crypto'
import { domainToUnicode } from 'node:url'
import { crc32 } from 'node:zlib'
import isEmail from 'validator/lib/isEmail.js'
import { emailKeyOf, foldCase, sqlTime } from './store.js'

const HOUR = 3_600_000
const CACHE_MILLISECONDS = 5000
const MAX_CACHED_KEYS = 4096
const MAX_ID = 2n ** 63n - 1n
const MAX_PAGE = 2 ** 31 - 1
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const API_KEY = /^cgw_([0-9A-Za-z]{12})([0-9A-Za-z]{32})([0-9A-Za-z]{6})$/
const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/
const UNPRINTABLE = /[\p{Cc}\p{Cs}]/u
const HTTP_URL = /^https?:\/\/(?=[^/?#]*[\p{L}\p{N}])[^\s/?#\\@]+(?:[/?#][^\s\\]*)?$/iu
// Addresses that need neither normalization nor the library, which validates all others.
const PLAIN_EMAIL = new RegExp(
  '^(?=[^@]{1,64}@)[a-z0-9]+(?:[._+-][a-z0-9]+)*@' +
  '(?:(?=[^.]{1,63}\\.)[a-z0-9]+(?:-[a-z0-9]+)*\\.)+' +
  '(?!(?:arpa|invalid|local|localhost|onion|test)$)[a-z]{2,63}$')
const EMAIL_OPTIONS = {
  blacklisted_chars: '"',
  host_blacklist: [/(?:^|\.)(?:arpa|invalid|local|localhost|onion|test)$/i]
}

export function createRules (store, operationsPerHour) {
  const countOperation = createRateLimiter(operationsPerHour)
  const authenticate = createAuthenticator(store)

  // Rule 1: returns the API key or a refusal. One lookup per request.
  function identify (caller) {
    return (caller.identity ??= authenticate(caller.key))
  }

  function createContact (caller, parseRequest, origin) {
    const key = identify(caller)
    if (key.code) return key
    if (key.role !== 'admin') {
      return refusal('ForbiddenError', 'FORBIDDEN', "Only an admin's API key may create contacts.")
    }
    const limited = countOperation(caller, key)
    if (limited) return limited
    const submission = parseRequest()
    const details = {}
    const problems = validate(submission, details)
    if (problems.length) return invalidInput(problems)
    return store.transaction(() => createInTransaction(details, submission, key, origin))
  }

  // Rules 5 to 7, inside the transaction.
  function createInTransaction (details, { idempotencyKey, dryRun }, key, origin) {
    const unusable = refusalOf(store.keyInTransaction(key.lookup))
    if (unusable) return unusable
    let fingerprint = null
    if (idempotencyKey !== null) {
      fingerprint = fingerprintOf(details)
      const earlier = store.idempotencyRecord(key.id, idempotencyKey)
      if (earlier) return replay(earlier, fingerprint, dryRun)
    }
    const owner = store.owner(details.advertiserId)
    if (!owner) {
      return refusal('NotFoundError', 'NOT_FOUND',
        'The advertiser does not resolve to a HiEnergy advertiser.')
    }
    const existing = store.contactByAddress(owner, emailKeyOf(details.email))
    if (existing) {
      return refusal('ConflictError', 'CONFLICT',
        'The HiEnergy advertiser already has a contact with this e-mail address.', { existing })
    }
    if (dryRun) {
      return preview({ ...details, advertiserId: owner.idText, advertiserName: owner.title })
    }
    const contact = store.insert(details, owner, key, origin)
    if (fingerprint) store.insertIdempotencyRecord(key.id, idempotencyKey, fingerprint, contact)
    return contact
  }

  // The reads of a request count as one operation.
  function authorizeRead (caller) {
    const key = identify(caller)
    if (key.code) return key
    return (caller.reads ??= countOperation(caller, key) ?? key)
  }

  return { createContact, authorizeRead }
}

export function idOf (value) {
  const id = parseId(value)
  return id instanceof Invalid ? null : id
}

// Returns a filter and a page, or a refusal.
export function parseListArguments (raw) {
  const problems = []
  const optional = (name, parse, otherwise) => {
    const value = raw[name]
    if (value === undefined || value === null || value === '') return otherwise
    const parsed = parse(value)
    if (!(parsed instanceof Invalid)) return parsed
    problems.push({ path: [name], ...parsed })
  }
  const from1To = most => value =>
    value >= 1 && value <= most ? value : new Invalid('OUT_OF_RANGE', `1 to ${most} is allowed.`)
  const email = optional('email', parseText, null)
  const q = optional('q', parseText, null)
  const list = {
    filter: {
      advertiserId: optional('advertiserId', parseId, null),
      email: email && emailKeyOf(normalizeEmail(email) ?? email),
      q: q && foldCase(q)
    },
    page: optional('page', from1To(MAX_PAGE), 1),
    perPage: optional('perPage', from1To(100), 25)
  }
  return problems.length ? invalidInput(problems) : list
}

// Caches valid keys for 5 s, as contact-gateway does. A transaction reads its keys again.
function createAuthenticator (store) {
  const cache = new Map()
  return presented => {
    const now = Date.now()
    const cached = cache.get(presented)
    if (cached?.expiresAt > now) return cached.key
    const key = authenticate(presented, store)
    if (!key.code) {
      if (cache.size >= MAX_CACHED_KEYS) cache.clear()
      cache.set(presented, { key, expiresAt: now + CACHE_MILLISECONDS })
    }
    return key
  }
}

function authenticate (presented, store) {
  if (!presented) {
    return unauthorized('An API key is required: send it as X-Api-Key or Authorization: Bearer.')
  }
  const parts = API_KEY.exec(presented)
  if (!parts || checksumOf(presented.slice(0, -6)) !== parts[3]) {
    return unauthorized('This is not an API key of this gateway. Check for a typo.')
  }
  const key = store.keyByLookup(parts[1])
  if (!key || !timingSafeEqual(hash('sha256', parts[2], 'buffer'), key.secretHash)) {
    return unauthorized('Unknown API key.')
  }
  return refusalOf(key) ?? key
}

function refusalOf (key) {
  if (key.revokedAt) return unauthorized('This API key has been revoked.')
  if (key.expiresAt && key.expiresAt <= sqlTime(new Date().toISOString())) {
    return unauthorized('This API key has expired.')
  }
  return null
}

function checksumOf (text) {
  let value = crc32(text)
  let digits = ''
  for (let place = 0; place < 6; place++) {
    digits = ALPHABET[value % 62] + digits
    value = Math.floor(value / 62)
  }
  return digits
}

// A key's hour begins with its first operation. The answer's headers show the caller's window.
function createRateLimiter (limit) {
  if (!limit) return () => null
  const windows = new Map()
  return (caller, { id }) => {
    const now = Date.now()
    let window = windows.get(id)
    if (!window || window.resetsAt <= now) {
      window = { limit, used: 0, resetsAt: now + HOUR }
      windows.set(id, window)
    }
    caller.window = window
    if (++window.used <= limit) return null
    const retryAfterSeconds = Math.max(1, Math.ceil((window.resetsAt - now) / 1000))
    return refusal('RateLimitedError', 'RATE_LIMITED',
      `The API key's hourly limit is reached. Retry in ${retryAfterSeconds} s.`,
      { retryAfterSeconds })
  }
}

function replay (earlier, fingerprint, dryRun) {
  if (!fingerprint.equals(earlier.fingerprint)) {
    return refusal('IdempotencyKeyReusedError', 'IDEMPOTENCY_KEY_REUSED',
      'This idempotency key was used before with a different input.')
  }
  return dryRun ? preview(earlier.contact) : { ...earlier.contact, isReplayed: true }
}

function preview (contact) {
  return { ...contact, __typename: 'ContactPreview', id: null, createdAt: null, updatedAt: null }
}

function unauthorized (message) {
  return refusal('UnauthorizedError', 'UNAUTHORIZED', message)
}

function invalidInput (problems) {
  const message = `The input has ${problems.length} problem${problems.length > 1 ? 's' : ''}.`
  return refusal('InvalidInputError', 'INVALID_INPUT', message, { problems })
}

function refusal (type, code, message, more) {
  return { __typename: type, code, message, ...more }
}

// Rule 4: the problems of fields, and their parsers.

class Invalid {
  constructor (code, message) {
    this.code = code
    this.message = message
  }
}

const REQUIRED = new Invalid('REQUIRED', 'A value is required.')
const NOT_A_STRING = new Invalid('INVALID_TYPE', 'A string is expected.')
const CONTROL_CHARACTERS = new Invalid('INVALID_CHARACTERS', 'Control characters are not allowed.')
const NOT_AN_EMAIL = new Invalid('INVALID_EMAIL', 'This is not an e-mail address.')
const NOT_A_URL =
  new Invalid('INVALID_URL', 'An absolute http or https URL with a host is expected.')

const PARSERS = {
  advertiserId: parseId,
  email: parseEmail,
  name: parseText,
  givenName: parseText,
  familyName: parseText,
  phone: parseText,
  jobTitle: parseText,
  source: parseText,
  status: parseText,
  linkedinProfileUrl: parseUrl
}
const FIELDS = Object.entries(PARSERS)
export const FIELD_NAMES = Object.keys(PARSERS)

// Fills in the details and returns all problems of the submission.
function validate ({ contact, idempotencyKey, dryRun }, details) {
  const problems = []
  if (contact === null) {
    problems.push({ path: ['contact'], ...REQUIRED })
  } else if (typeof contact !== 'object' || Array.isArray(contact)) {
    problems.push({ path: ['contact'], code: 'INVALID_TYPE', message: 'An object is expected.' })
  } else {
    for (const [name, parse] of FIELDS) {
      const value = parse(contact[name] ?? null)
      if (value instanceof Invalid) problems.push({ path: ['contact', name], ...value })
      else details[name] = value
    }
    if (details.name === null) {
      details.name = joinedName(details)
      if (isLonger(details.name ?? '', 255)) {
        problems.push({ path: ['contact', 'name'], ...tooLong(255) })
      }
    }
  }
  if (idempotencyKey !== null && !IDEMPOTENCY_KEY.test(idempotencyKey)) {
    problems.push({
      path: ['idempotencyKey'],
      code: 'INVALID_IDEMPOTENCY_KEY',
      message: 'An idempotency key is 1 to 255 visible ASCII characters.'
    })
  }
  if (typeof dryRun !== 'boolean') {
    problems.push({
      path: ['dryRun'], code: 'INVALID_TYPE', message: '`true` or `false` is expected.'
    })
  }
  return problems
}

function joinedName ({ givenName, familyName }) {
  return givenName && familyName ? `${givenName} ${familyName}` : givenName || familyName || null
}

function parseId (value) {
  if (value === null || value === '') return REQUIRED
  if (typeof value === 'string' && /^-?[0-9]+$/.test(value)) {
    const digits = value.replace(/^0+(?=.)/, '')
    value = digits.length > 19 ? MAX_ID + 1n : BigInt(digits)
  } else if (!Number.isInteger(value)) {
    return new Invalid('INVALID_TYPE', 'A whole number is expected.')
  } else {
    // JSON.parse rounds larger numbers, so that a larger id must be a string.
    value = Number.isSafeInteger(value) ? BigInt(value) : MAX_ID + 1n
  }
  if (value < 1n) return new Invalid('OUT_OF_RANGE', 'The smallest allowed value is 1.')
  if (value > MAX_ID) return new Invalid('OUT_OF_RANGE', `The largest allowed value is ${MAX_ID}.`)
  return value
}

function parseEmail (value) {
  if (value === null || value === '') return REQUIRED
  if (typeof value !== 'string') return NOT_A_STRING
  if (UNPRINTABLE.test(value)) return CONTROL_CHARACTERS
  if (isLonger(value, 254)) return tooLong(254)
  return normalizeEmail(value) ?? NOT_AN_EMAIL
}

// Returns the address with its domain in lower case, or null if it is invalid.
function normalizeEmail (email) {
  if (PLAIN_EMAIL.test(email)) return email
  if (!isEmail(email, EMAIL_OPTIONS)) return null
  const at = email.lastIndexOf('@')
  const domain = domainToUnicode(email.slice(at + 1))
  return domain ? `${email.slice(0, at).normalize('NFC')}@${domain}` : null
}

function parseText (value) {
  return parseLine(value, 255)
}

function parseUrl (value) {
  const url = parseLine(value, 2048)
  if (typeof url !== 'string') return url
  return HTTP_URL.test(url) && URL.canParse(url) ? url : NOT_A_URL
}

function parseLine (value, maxLength) {
  if (value === null) return null
  if (typeof value !== 'string') return NOT_A_STRING
  if (UNPRINTABLE.test(value)) return CONTROL_CHARACTERS
  const text = value.trim()
  return isLonger(text, maxLength) ? tooLong(maxLength) : text || null
}

// Counts characters, not UTF-16 units.
function isLonger (text, maxLength) {
  return text.length > maxLength && [...text].length > maxLength
}

function tooLong (maxLength) {
  return new Invalid('TOO_LONG', `At most ${maxLength} characters are allowed.`)
}

// Returns the SHA-256 of the fields that are not null, sorted and in ASCII as in contact-gateway.
function fingerprintOf (details) {
  const members = FIELD_NAMES
    .filter(name => details[name] !== null)
    .map(name => [snakeCase(name), details[name]])
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, value]) => `"${name}":${typeof value === 'bigint' ? value : JSON.stringify(value)}`)
  const escaped = `{${members.join()}}`.replace(/[^ -~]/g, unit =>
    `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return hash('sha256', escaped, 'buffer')
}

export function snakeCase (name) {
  return name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
}
