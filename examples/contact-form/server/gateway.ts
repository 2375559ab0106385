/** The gateway's GraphQL, typed by its schema. */

import { print } from "@0no-co/graphql.web";
import { graphql, type ResultOf, type TadaDocumentNode } from "gql.tada";

import type { Failure, LookUp, Outcome, Submission } from "./answers.js";

// The gateway itself waits up to 62 s for HiEnergy, by default.
const TIMEOUT_MILLISECONDS = 75_000;

const FindAdvertisers = graphql(`
  query FindAdvertisers($q: String!) {
    advertisers(q: $q, perPage: 10) {
      nodes {
        id
        name
        displayName
        domain
        networkName
        hienergy { id name displayName }
      }
    }
  }
`);

// Each member is selected by name. "... on ApiError" is shorter, but clients with a cache, such as Apollo's and
// urql's, silently drop fragments on an interface unless they know its types.
const CreateContact = graphql(`
  mutation CreateContact($input: CreateContactInput!, $idempotencyKey: String!) {
    createContact(input: $input, idempotencyKey: $idempotencyKey) {
      __typename
      ... on Contact { id email name advertiserName }
      ... on ConflictError { existing { id email name advertiserName } }
      ... on InvalidInputError { problems { path message } }
      ... on RateLimitedError { retryAfterSeconds }
      ... on OutcomeUnknownError { retryAfterSeconds requestId }
      ... on UnauthorizedError { message requestId }
      ... on ForbiddenError { message requestId }
    }
  }
`);

interface Response<Data> {
  data?: Data | null;
  errors?: { message: string; extensions?: { code?: string; retryAfterSeconds?: number } }[];
}

export class Gateway {
  readonly #url: URL;
  readonly #apiKey: string;

  constructor(url: string, apiKey: string) {
    this.#url = new URL("graphql", url.endsWith("/") ? url : `${url}/`);
    this.#apiKey = apiKey;
  }

  async lookUp(q: string): Promise<LookUp> {
    const answer = await this.#execute(FindAdvertisers, { q });
    return answer.kind === "data"
      ? { kind: "found", advertisers: answer.data.advertisers?.nodes ?? [] }
      : answer;
  }

  async submit({ input, idempotencyKey }: Submission): Promise<Outcome> {
    const variables = { input: { ...input, source: "Contact form" }, idempotencyKey };
    const answer = await this.#execute(CreateContact, variables);
    return answer.kind === "data" ? outcomeOf(answer.data.createContact) : answer;
  }

  /** Return the data of a document, or why there is none. */
  async #execute<Data, Variables>(
    document: TadaDocumentNode<Data, Variables>,
    variables: Variables,
  ): Promise<{ kind: "data"; data: Data } | Failure> {
    let status = 0;
    try {
      const response = await fetch(this.#url, {
        method: "POST",
        headers: {
          "Accept": "application/graphql-response+json",
          "Content-Type": "application/json",
          "X-Api-Key": this.#apiKey,
          "apollographql-client-name": "contact-form",
        },
        body: JSON.stringify({ query: print(document), variables }),
        signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
      });
      status = response.status;
      const { data, errors } = (await response.json()) as Response<Data>;
      const error = errors?.[0];
      if (data && !error) {
        return { kind: "data", data };
      }
      const { code, retryAfterSeconds } = error?.extensions ?? {};
      console.error(`${status} ${code}: ${error?.message}`, response.headers.get("X-Request-Id"));
      if (code === "RATE_LIMITED" && retryAfterSeconds !== undefined) {
        return { kind: "rateLimited", retryAfterSeconds };
      }
      if (code === "UNAUTHORIZED") {
        return { kind: "notSetUp" };
      }
    } catch (error) {
      console.error(`${this.#url} does not answer as a gateway (status ${status}):`, error);
    }
    // A retry does not help where the address or the document is wrong. 408 is a timeout.
    const isRefused = status >= 400 && status < 500 && status !== 408;
    return { kind: isRefused ? "notSetUp" : "unavailable" };
  }
}

function outcomeOf(result: ResultOf<typeof CreateContact>["createContact"]): Outcome {
  switch (result.__typename) {
    case "Contact": {
      const { __typename, ...contact } = result;
      return { kind: "created", contact };
    }
    case "ConflictError":
      return { kind: "conflict", existing: result.existing };
    case "InvalidInputError":
      return { kind: "invalid", problems: result.problems };
    case "NotFoundError":
      return { kind: "notFound" };
    case "IdempotencyKeyReusedError":
      return { kind: "keyReused" };
    case "RateLimitedError":
      return { kind: "rateLimited", retryAfterSeconds: result.retryAfterSeconds };
    case "OutcomeUnknownError": {
      const { retryAfterSeconds, requestId } = result;
      return { kind: "outcomeUnknown", retryAfterSeconds, requestId };
    }
    case "UnauthorizedError":
    case "ForbiddenError":
      console.error(`API_KEY is refused: ${result.message}`, result.requestId);
      return { kind: "notSetUp" };
    case "ContactPreview":
      throw new Error("A dry run was not requested.");
    default:
      // A new member of the union is an error of the compiler here.
      throw new Error(`Unknown outcome: ${JSON.stringify(result satisfies never)}`);
  }
}
