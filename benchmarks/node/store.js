// The SQLite file that contact-gateway made, by statements that are prepared once.

import Database from 'better-sqlite3'

const titleSql = table => `coalesce(nullif(${table}.display_name, ''), ${table}.name)`

// Ids are 64-bit integers, returned as text: a JavaScript number would lose digits.
const CONTACTS = `
  SELECT CAST(c.id AS TEXT), CAST(c.advertiser_id AS TEXT), ${titleSql('a')}, c.email, c.name,
    c.given_name, c.family_name, c.phone, c.job_title, c.source, c.status, c.linkedin_profile_url,
    c.created_at, c.updated_at
  FROM contacts c JOIN advertisers a ON a.id = c.advertiser_id`

const ADVERTISERS = `
  SELECT CAST(id AS TEXT) AS id, name, display_name AS displayName, slug, domain,
    network_name AS networkName, publisher_name AS publisherName, status,
    CAST(hienergy_id AS TEXT) AS hienergyId
  FROM advertisers`

const FILTERS = {
  advertiserId: 'c.advertiser_id = (SELECT hienergy_id FROM advertisers WHERE id = @advertiserId)',
  email: 'c.email_key = @email',
  q: 'instr(c.folded_text, @q) > 0'
}

export function openStore (file, groupsCommits) {
  const db = new Database(file, { fileMustExist: true, timeout: 5000 })
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.pragma('foreign_keys = ON')

  const rows = sql => db.prepare(sql).raw()
  const keyByLookup = db.prepare(`
    SELECT id, lookup, secret_hash AS secretHash, role, label, expires_at AS expiresAt,
      revoked_at AS revokedAt
    FROM api_keys WHERE lookup = ?`)
  const owner = db.prepare(`
    SELECT h.id, CAST(h.id AS TEXT) AS idText, ${titleSql('h')} AS title
    FROM advertisers a JOIN advertisers h ON h.id = a.hienergy_id
    WHERE a.id = ? AND h.network_name = 'HiEnergy'`).safeIntegers()
  const contactById = rows(`${CONTACTS} WHERE c.id = ?`)
  const contactByAddress = rows(`${CONTACTS} WHERE c.advertiser_id = ? AND c.email_key = ?`)
  const idempotencyRecord = db.prepare(`
    SELECT fingerprint, contact_id AS contactId
    FROM idempotency_records WHERE api_key_id = ? AND idempotency_key = ?`).safeIntegers()
  const insertContact = db.prepare(`
    INSERT INTO contacts (advertiser_id, email, email_key, name, given_name, family_name, phone,
      job_title, source, status, linkedin_profile_url, folded_text, created_at, updated_at,
      created_by_key_id, created_through, created_by_request_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`).safeIntegers()
  const insertIdempotencyRecord = db.prepare(`
    INSERT INTO idempotency_records
      (api_key_id, idempotency_key, fingerprint, contact_id, created_at)
    VALUES (?, ?, ?, ?, ?)`)
  const advertiserById = db.prepare(`${ADVERTISERS} WHERE id = ?`)
  const equivalents = db.prepare(
    `${ADVERTISERS} WHERE hienergy_id = @hienergyId AND id <> @id AND id <> hienergy_id ORDER BY id`
  )
  const pages = new Map(subsetsOf(Object.keys(FILTERS)).map(names => {
    const where = names.length ? `WHERE ${names.map(name => FILTERS[name]).join(' AND ')}` : ''
    const sql = `${CONTACTS} ${where} ORDER BY c.id DESC LIMIT @limit OFFSET @offset`
    return [names.join(), rows(sql)]
  }))

  const keysInTransaction = new Map()
  // Takes the write lock at its start.
  const transaction = db.transaction(work => {
    keysInTransaction.clear()
    return work()
  }).immediate

  return {
    // Calls a function in a transaction. Returns its result, or a promise of it.
    transaction: groupsCommits ? createGroupCommit(transaction) : transaction,

    keyByLookup: lookup => keyByLookup.get(lookup),

    // Reads a key once for each transaction.
    keyInTransaction (lookup) {
      const key = keysInTransaction.get(lookup) ?? keyByLookup.get(lookup)
      keysInTransaction.set(lookup, key)
      return key
    },

    owner: advertiserId => owner.get(advertiserId),

    contact: id => toContact(contactById.get(id)),

    contactByAddress: (owner, emailKey) => toContact(contactByAddress.get(owner.id, emailKey)),

    // Fetches one more row than the page has, to see whether there is another page.
    contacts (filter, page, perPage) {
      const names = Object.keys(FILTERS).filter(name => filter[name] !== null)
      const found = pages.get(names.join()).all({
        ...filter, limit: perPage + 1, offset: (page - 1) * perPage
      })
      const hasMore = found.length > perPage
      if (hasMore) found.pop()
      return { contacts: found.map(toContact), hasMore }
    },

    idempotencyRecord (keyId, idempotencyKey) {
      const record = idempotencyRecord.get(keyId, idempotencyKey)
      return record && { ...record, contact: toContact(contactById.get(record.contactId)) }
    },

    insert (details, owner, key, origin) {
      const now = new Date().toISOString()
      const stored = sqlTime(now)
      const { email, name, givenName, familyName, phone, jobTitle, source, status } = details
      const { lastInsertRowid } = insertContact.run(
        owner.id, email, emailKeyOf(email), name, givenName, familyName, phone, jobTitle, source,
        status, details.linkedinProfileUrl,
        searchText([email, name, givenName, familyName, jobTitle, phone]), stored, stored,
        key.id, origin.face, origin.requestId)
      return {
        __typename: 'Contact',
        id: lastInsertRowid.toString(),
        advertiserId: owner.idText,
        advertiserName: owner.title,
        email,
        name,
        givenName,
        familyName,
        phone,
        jobTitle,
        source,
        status,
        linkedinProfileUrl: details.linkedinProfileUrl,
        createdAt: now,
        updatedAt: now
      }
    },

    insertIdempotencyRecord (keyId, idempotencyKey, fingerprint, contact) {
      insertIdempotencyRecord.run(
        keyId, idempotencyKey, fingerprint, BigInt(contact.id), sqlTime(contact.createdAt))
    },

    advertiser: id => advertiserById.get(BigInt(id)),

    equivalents: ({ id, hienergyId }) =>
      hienergyId === null ? [] : equivalents.all({ id: BigInt(id), hienergyId: BigInt(hienergyId) }),

    close: () => db.close()
  }
}

// Gathers the calls of one turn of the event loop in one transaction. They return after its commit.
function createGroupCommit (transaction) {
  let queue = []
  const commit = () => {
    const batch = queue
    queue = []
    try {
      const results = transaction(() => batch.map(({ work }) => work()))
      batch.forEach(({ resolve }, index) => resolve(results[index]))
    } catch {
      // One by one, so that the failure of one call fails no other.
      for (const { work, resolve } of batch) resolve(Promise.try(transaction, work))
    }
  }
  return work => new Promise(resolve => {
    if (queue.push({ work, resolve }) === 1) setImmediate(commit)
  })
}

// The address in lower case, which makes it unique for an advertiser.
export function emailKeyOf (email) {
  return email.toLowerCase()
}

// An approximation of Unicode's case folding, which JavaScript lacks.
export function foldCase (text) {
  return /^[\0-\x7f]*$/.test(text)
    ? text.toLowerCase()
    : text.toUpperCase().toLowerCase().replaceAll('ς', 'σ')
}

// A time in the format of SQLAlchemy: `2026-01-31 12:00:00.000000`.
export function sqlTime (iso) {
  return `${iso.slice(0, 10)} ${iso.slice(11, 23)}000`
}

function isoTime (stored) {
  return `${stored.slice(0, 10)}T${stored.slice(11, 23)}Z`
}

function searchText (texts) {
  return texts.filter(Boolean).map(foldCase).join('\n')
}

function toContact (row) {
  return row && {
    __typename: 'Contact',
    id: row[0],
    advertiserId: row[1],
    advertiserName: row[2],
    email: row[3],
    name: row[4],
    givenName: row[5],
    familyName: row[6],
    phone: row[7],
    jobTitle: row[8],
    source: row[9],
    status: row[10],
    linkedinProfileUrl: row[11],
    createdAt: isoTime(row[12]),
    updatedAt: isoTime(row[13])
  }
}

function subsetsOf (names) {
  return names.reduce((sets, name) => [...sets, ...sets.map(set => [...set, name])], [[]])
}
