import type { LookUp, Outcome, Submission } from "../server/answers";

/** The request may not have reached the server, or the answer may be lost. */
export interface NoNetwork {
  kind: "noNetwork";
}

export const lookUp = (q: string, signal: AbortSignal) =>
  post<LookUp>("/api/advertisers", { q }, signal);

export const submit = (submission: Submission) => post<Outcome>("/api/contact", submission);

async function post<Answer>(
  path: string,
  body: object,
  signal?: AbortSignal,
): Promise<Answer | NoNetwork | { kind: "unavailable" }> {
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    return response.ok ? ((await response.json()) as Answer) : { kind: "unavailable" };
  } catch {
    return { kind: "noNetwork" };
  }
}
