// The GraphQL API: its resolvers, and the codes of its errors.

import { GraphQLError, Kind } from 'graphql'
import { idOf, parseListArguments } from './rules.js'

export function createResolvers (rules, store) {
  const createContact = async (_, { input, idempotencyKey = null, dryRun }, context, info) => {
    const { caller, requestId, idempotencyHeader } = context
    if (idempotencyKey === null && idempotencyHeader && isOnlyCreation(info)) {
      idempotencyKey = idempotencyHeader
    }
    const submission = { contact: input, idempotencyKey, dryRun: dryRun === true }
    const outcome = await rules.createContact(
      caller, () => submission, { face: 'graphql', requestId })
    return outcome.code ? formatRefusal(outcome, requestId) : outcome
  }

  const authorize = ({ caller }) => unwrap(rules.authorizeRead(caller))
  const advertiser = ({ advertiserId }) => store.advertiser(advertiserId)
  return {
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
export function messageAndCode ({ message, path, extensions }) {
  if (extensions?.code) return { message, extensions }
  return path
    ? { message: 'Internal error.', extensions: { code: 'INTERNAL_ERROR' } }
    : { message, extensions: { ...extensions, code: 'BAD_REQUEST' } }
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
