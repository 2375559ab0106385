/** What is in the form, and the idempotency key of its submission. Both survive a reload of the tab. */

import type { Advertiser, ContactInput } from "../server/answers";

export type PersonField = Exclude<keyof ContactInput, "advertiserId">;

export interface Draft {
  advertiser: Advertiser | null;
  person: Record<PersonField, string>;
}

export function emptyDraft(advertiser: Advertiser | null = null): Draft {
  return {
    advertiser,
    person: {
      email: "",
      givenName: "",
      familyName: "",
      jobTitle: "",
      phone: "",
      linkedinProfileUrl: "",
    },
  };
}

export const inputOf = ({ advertiser, person }: Draft): ContactInput => ({
  advertiserId: advertiser?.id ?? "",
  ...person,
});

export const savedDraft = () => read<Draft>("draft") ?? emptyDraft();

export const saveDraft = (draft: Draft) => write("draft", draft);

/**
 * Return the idempotency key of an input: the last one if the input is the same, else a new one.
 *
 * It is stored before the first call, so a retry has the same key whatever happens to the answer.
 */
export function idempotencyKeyOf(input: ContactInput): string {
  const last = read<{ key: string; input: string }>("submission");
  const text = JSON.stringify(input);
  if (last?.input === text) {
    return last.key;
  }
  const key = crypto.randomUUID();
  write("submission", { key, input: text });
  return key;
}

export const forgetIdempotencyKey = () => write("submission", null);

// Where the browser blocks the storage, the draft and the key last as long as the page.
const memory = new Map<string, string>();

function read<Value>(name: string): Value | null {
  try {
    return JSON.parse(sessionStorage.getItem(name) ?? "null") as Value | null;
  } catch {
    return JSON.parse(memory.get(name) ?? "null") as Value | null;
  }
}

function write(name: string, value: unknown): void {
  const text = JSON.stringify(value);
  try {
    sessionStorage.setItem(name, text);
  } catch {
    memory.set(name, text);
  }
}
