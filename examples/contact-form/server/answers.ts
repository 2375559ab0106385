/** What the server answers. The page imports these types, and no code. */

export interface ContactInput {
  advertiserId: string;
  email: string;
  givenName: string;
  familyName: string;
  jobTitle: string;
  phone: string;
  linkedinProfileUrl: string;
}

export interface Submission {
  input: ContactInput;
  idempotencyKey: string;
}

export interface Contact {
  id: string;
  email: string | null;
  name: string | null;
  advertiserName: string | null;
}

export interface Problem {
  /** Such as `input.email`. */
  path: string;
  message: string;
}

export interface Advertiser {
  id: string;
  name: string;
  displayName: string | null;
  domain: string | null;
  networkName: string | null;
  /** The record that would own the contact. */
  hienergy: { id: string; name: string; displayName: string | null } | null;
}

/** Failures that both a lookup and a submission can have. */
export type Failure =
  | { kind: "notSetUp" }
  | { kind: "rateLimited"; retryAfterSeconds: number }
  | { kind: "unavailable" };

export type LookUp = { kind: "found"; advertisers: Advertiser[] } | Failure;

export type Outcome =
  | { kind: "created"; contact: Contact }
  | { kind: "conflict"; existing: Contact | null }
  | { kind: "invalid"; problems: Problem[] }
  | { kind: "notFound" }
  | { kind: "keyReused" }
  | { kind: "outcomeUnknown"; retryAfterSeconds: number; requestId: string }
  | Failure;
