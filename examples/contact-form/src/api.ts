import type { Failure, LookUp, Outcome, Submission } from "../server/answers";

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
): Promise<Answer | Failure | NoNetwork> {
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    if (response.ok) {
      return (await response.json()) as Answer;
    }
    // 403: the page is not at an origin that the server knows.
    return { kind: response.status === 403 ? "notSetUp" : "unavailable" };
  } catch (error) {
    // A SyntaxError is an answer that is not the server's, such as the page of a sign-in.
    return { kind: error instanceof SyntaxError ? "unavailable" : "noNetwork" };
  }
}
