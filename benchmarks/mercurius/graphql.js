// The GraphQL API: its resolvers, and the format of its errors.

import { GraphQLError, Kind } from 'graphql'
import mercurius from 'mercurius'
import { idOf, parseListArguments } from './rules.js'

export function createResolvers (rules, store) {
  const createContact = (_, { input, idempotencyKey = null, dryRun }, { request }, info) => {
    const header = request.headers['idempotency-key']
    if (idempotencyKey === null && header !== undefined && isOnlyCreation(info)) {
      idempotencyKey = header
    }
    const submission = { contact: input, idempotencyKey, dryRun: dryRun === true }
    const outcome = rules.createContact(
      request.caller, () => submission, { face: 'graphql', requestId: request.id })
    return outcome.code ? formatRefusal(outcome, request.id) : outcome
  }

  const authorize = ({ request }) => unwrap(rules.authorizeRead(request.caller))
  const advertiser = ({ advertiserId }) => store.advertiser(advertiserId)
  return {
    CreateContactResult: { resolveType: outcome => outcome.__typename },
    Mutation: { createContact },
    Query: {
      viewer (_, _args, context) {
        const { label, role } = authorize(context)
        return { label, role: role.toUpperCase() }
      },
      contact (_, { id }, context) {
        authorize(context)
        const parsed = idOf(id)
        return parsed === null ? null : store.contact(parsed)
      },
      contacts (_, args, context) {
        authorize(context)
        const { filter, page, perPage } = unwrap(parseListArguments(args))
        const { contacts, hasMore } = store.contacts(filter, page, perPage)
        const pageInfo = {
          currentPage: page,
          perPage,
          nextPage: hasMore ? page + 1 : null,
          prevPage: page > 1 ? page - 1 : null,
          hasNextPage: hasMore
        }
        return { nodes: contacts, pageInfo }
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

// Every error has a code. An internal error shows nothing else.
export function formatErrors (execution, context) {
  const answer = mercurius.defaultErrorFormatter(execution, context)
  // A request that was not executed has no `data`, not even null.
  if (execution.data === undefined) delete answer.response.data
  answer.response.errors = answer.response.errors.map(error => {
    if (error.extensions?.code) return error
    const extensions = { code: error.path ? 'INTERNAL_ERROR' : 'BAD_REQUEST' }
    return error.path
      ? { ...error, message: 'Internal error.', extensions }
      : { ...error, extensions }
  })
  return answer
}

// Returns an answer, or throws a refusal as a GraphQL error.
function unwrap (answer) {
  if (!answer.code) return answer
  const { code, message, retryAfterSeconds, problems } = answer
  const extensions = { code, retryAfterSeconds, problems: problems?.map(formatProblem) }
  throw new GraphQLError(message, { extensions })
}

function formatRefusal (refusal, requestId) {
  return { ...refusal, requestId, problems: refusal.problems?.map(formatProblem) }
}

function formatProblem ({ path, code, message }) {
  return { path: path.join('.').replace(/^contact\b/, 'input'), code, message }
}

// Fields with the same response key are one field.
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
