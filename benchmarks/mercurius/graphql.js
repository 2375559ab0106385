// The GraphQL face: its resolvers, and how errors are told.

import { GraphQLError, Kind } from 'graphql'
import mercurius from 'mercurius'
import { contactsWanted, idOf } from './rules.js'

export function resolversOver (rules, store) {
  const createContact = (_, { input, idempotencyKey = null, dryRun }, { request }, info) => {
    const header = request.headers['idempotency-key']
    if (idempotencyKey === null && header !== undefined && isOnlyCreation(info)) {
      idempotencyKey = header
    }
    const submission = { contact: input, idempotencyKey, dryRun }
    const outcome = rules.createContact(
      request.caller, () => submission, { face: 'graphql', requestId: request.id })
    return outcome.code ? shownRefusal(outcome, request.id) : outcome
  }

  const permitted = ({ request }) => granted(rules.mayRead(request.caller))
  const advertiser = ({ advertiserId }) => store.advertiser(advertiserId)
  return {
    CreateContactResult: { resolveType: outcome => outcome.__typename },
    Mutation: { createContact },
    Query: {
      viewer (_, _args, context) {
        const { label, role } = permitted(context)
        return { label, role: role.toUpperCase() }
      },
      contact (_, { id }, context) {
        permitted(context)
        const wanted = idOf(id)
        return wanted === null ? null : store.contact(wanted)
      },
      contacts (_, args, context) {
        permitted(context)
        const { filter, page, perPage } = granted(contactsWanted(args))
        const { contacts, hasMore } = store.contacts(filter, page, perPage)
        const nextPage = hasMore ? page + 1 : null
        return { nodes: contacts, pageInfo: { currentPage: page, nextPage, perPage, hasMore } }
      }
    },
    Contact: { advertiser },
    ContactPreview: { advertiser },
    Advertiser: {
      hienergy: ({ hienergyId }) => (hienergyId === null ? null : store.advertiser(hienergyId)),
      equivalents: record => store.equivalents(record)
    }
  }
}

// Every error has a code; of a fault nothing else is told.
export function formatErrors (execution, context) {
  const answer = mercurius.defaultErrorFormatter(execution, context)
  // What was not executed has no data, not even null.
  if (execution.data === undefined) delete answer.response.data
  answer.response.errors = answer.response.errors.map(error => {
    if (error.extensions?.code) return error
    const extensions = { code: error.path ? 'INTERNAL_ERROR' : 'BAD_REQUEST' }
    return error.path
      ? { ...error, message: 'Something went wrong here.', extensions }
      : { ...error, extensions }
  })
  return answer
}

function granted (answer) {
  if (!answer.code) return answer
  const { code, message, retryAfterSeconds, problems } = answer
  const extensions = { code, retryAfterSeconds, problems: problems?.map(shownProblem) }
  throw new GraphQLError(message, { extensions })
}

function shownRefusal (refusal, requestId) {
  return { ...refusal, requestId, problems: refusal.problems?.map(shownProblem) }
}

function shownProblem ({ path, code, message }) {
  return { path: path.join('.').replace(/^contact\b/, 'input'), code, message }
}

// Fields of one response key are one field.
function isOnlyCreation ({ operation, fragments }) {
  const keys = new Set()
  const visit = ({ selections }) => selections.forEach(node => {
    if (node.kind === Kind.FRAGMENT_SPREAD) visit(fragments[node.name.value].selectionSet)
    else if (node.kind === Kind.INLINE_FRAGMENT) visit(node.selectionSet)
    else if (node.name.value === 'createContact') keys.add((node.alias ?? node.name).value)
  })
  visit(operation.selectionSet)
  return keys.size === 1
}
