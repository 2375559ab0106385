// What both servers read from headers, and the headers that they send.

import { randomUUID } from 'node:crypto'

const REQUEST_ID = /^(?!.*cgw_)[A-Za-z0-9._~-]{1,128}$/
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store'
}

export const MAX_BODY_BYTES = 65536

export function requestIdOf (given) {
  return given && REQUEST_ID.test(given) ? given : randomUUID()
}

export function createCaller (apiKey, authorization) {
  const key = apiKey?.trim() || /^bearer +(\S+) *$/i.exec(authorization)?.[1]
  return { key, identity: null, reads: null, window: null }
}

export function headersOf (requestId, { window }) {
  const headers = { ...HEADERS, 'x-request-id': requestId }
  if (window) {
    const { limit, used, resetsAt } = window
    const remaining = Math.max(0, limit - used)
    headers['x-ratelimit-limit'] = String(limit)
    headers['x-ratelimit-remaining'] = String(remaining)
    headers['x-ratelimit-reset'] = String(Math.ceil(resetsAt / 1000))
    headers['ratelimit-policy'] = `"default";q=${limit};w=3600`
    headers.ratelimit = `"default";r=${remaining};t=${Math.ceil((resetsAt - Date.now()) / 1000)}`
  }
  return headers
}

export function milliseconds (elapsed) {
  return Math.round(elapsed * 100) / 100
}
