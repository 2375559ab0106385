// Uses the client that a generator has made. The test copies this file beside each `client.ts`.
import { create, type CreateContactError, read } from "./client";

/** Does not compile unless the switch has each code, and each code its own details. */
function explained(error: CreateContactError): string {
  switch (error.code) {
    case "INVALID_INPUT":
      return `${error.code} ${error.details.problems.map((problem) => problem.path).join(" ")}`;
    case "CONFLICT":
      return `${error.code} ${error.details.existing?.id}`;
    case "RATE_LIMITED":
    case "OUTCOME_UNKNOWN":
      return `${error.code} ${error.details.retry_after_seconds.toFixed()}`;
    case "BAD_REQUEST":
    case "UNAUTHORIZED":
    case "FORBIDDEN":
    case "NOT_FOUND":
    case "IDEMPOTENCY_KEY_REUSED":
    case "REQUEST_TIMEOUT":
    case "PAYLOAD_TOO_LARGE":
    case "UNSUPPORTED_MEDIA_TYPE":
    case "INTERNAL_ERROR":
    case "SERVICE_UNAVAILABLE":
      // @ts-expect-error The details of these codes have no `existing`.
      error.details.existing;
      return error.code;
    default:
      return unreachable(error);
  }
}

/** The compiler reports a code that is missing, and one that does not exist. */
export function incomplete(error: CreateContactError): string {
  switch (error.code) {
    case "CONFLICT":
      return "";
    // @ts-expect-error No error has this code.
    case "CONFLICTS":
      return "";
    default:
      // @ts-expect-error The other codes have no case.
      return unreachable(error);
  }
}

function unreachable(error: never): never {
  throw new Error(`Unknown error: ${JSON.stringify(error)}`);
}

async function main(email: string, key: string): Promise<void> {
  const show = async (address: string, aKey: string, dryRun = false): Promise<string> => {
    const outcome = await create(address, aKey, dryRun);
    if (outcome.error) return explained(outcome.error);
    return outcome.id === null ? "a preview" : `contact ${outcome.id}`;
  };
  console.log(await show(email, key, true));
  const created = await show(email, key);
  console.log(created);
  console.log(await show(email, key));
  console.log(await show("", key));
  console.log(await show(email, "cgw_unknown"));
  const [, id = ""] = created.split(" ");
  const contact: { id: string; email: string | null } = await read(id, key);
  console.log(`contact ${contact.id} ${contact.email}`);
}

void main(process.argv[2] ?? "", process.env["API_KEY"] ?? "");
