import { type FormEvent, useEffect, useRef, useState } from "react";

import type { ContactInput, Outcome } from "../server/answers";
import { AdvertiserField } from "./AdvertiserField";
import { type NoNetwork, submit } from "./api";
import {
  emptyDraft,
  forgetIdempotencyKey,
  idempotencyKeyOf,
  inputOf,
  type PersonField,
  saveDraft,
  savedDraft,
} from "./draft";
import { Field } from "./Field";
import { messageOf } from "./words";

export function ContactForm() {
  const [draft, setDraft] = useState(savedDraft);
  const [sent, setSent] = useState<{ input: ContactInput; outcome: Outcome | NoNetwork } | null>(null);
  const [isSending, setIsSending] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const input = inputOf(draft);
  const problems = sent?.outcome.kind === "invalid" ? sent.outcome.problems : [];

  // Once the answer is shown, the focus moves to the first problem, or to the message.
  useEffect(() => {
    const target = form.current?.querySelector<HTMLElement>("[aria-invalid], .message");
    target?.focus();
  }, [sent]);

  useEffect(() => saveDraft(draft), [draft]);

  async function send(event: FormEvent) {
    event.preventDefault();
    if (isSending) {
      return;
    }
    setIsSending(true);
    const outcome = await submit({ input, idempotencyKey: idempotencyKeyOf(input) });
    setIsSending(false);
    setSent({ input, outcome });
    if (outcome.kind === "created") {
      // The next contact is often at the same advertiser. Keep what was typed while the answer was on its way.
      setDraft((current) => (current === draft ? emptyDraft(draft.advertiser) : current));
    }
    if (outcome.kind === "created" || outcome.kind === "keyReused") {
      forgetIdempotencyKey();
    }
  }

  /** Return the problem of a field, until its value changes. */
  function problemOf(name: keyof ContactInput): string | undefined {
    const own = problems.filter(({ path }) => path === `input.${name}`);
    return sent?.input[name] === input[name] ? own.map(({ message }) => message).join(" ") : undefined;
  }

  function field(name: PersonField) {
    return {
      id: name,
      value: draft.person[name],
      onChange: ({ currentTarget }: { currentTarget: HTMLInputElement }) =>
        setDraft((current) => ({
          ...current,
          person: { ...current.person, [name]: currentTarget.value },
        })),
      problem: problemOf(name),
      // The browser would suggest the user's own details.
      autoComplete: "off",
    };
  }

  const message = sent && messageOf(sent.outcome);
  const otherProblems = problems.filter(({ path }) => !(path.replace("input.", "") in input));
  const isSame = sent !== null && JSON.stringify(sent.input) === JSON.stringify(input);

  return (
    // The gateway validates: the browser's own checks would be other rules.
    <form ref={form} onSubmit={send} noValidate>
      <AdvertiserField
        value={draft.advertiser}
        onChange={(advertiser) => setDraft((current) => ({ ...current, advertiser }))}
        problem={problemOf("advertiserId")}
      />
      <Field {...field("email")} label="E-mail address" type="email" required />
      <div className="pair">
        <Field {...field("givenName")} label="Given name" />
        <Field {...field("familyName")} label="Family name" />
      </div>
      <div className="pair">
        <Field {...field("jobTitle")} label="Job title" />
        <Field {...field("phone")} label="Phone" type="tel" />
      </div>
      <Field {...field("linkedinProfileUrl")} label="LinkedIn profile" type="url" />
      {message && (
        <section
          className={`message ${message.tone}`}
          role="group"
          aria-labelledby="message-title"
          aria-describedby="message-text"
          tabIndex={-1}
        >
          <h2 id="message-title">{message.title}</h2>
          <p id="message-text">
            {message.text} {otherProblems.map((problem) => problem.message).join(" ")}
          </p>
        </section>
      )}
      <button type="submit" aria-disabled={isSending} aria-live="polite">
        {isSending ? "Sending…" : (isSame && message?.again) || "Add contact"}
      </button>
    </form>
  );
}
