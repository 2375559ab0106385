/** Plain words for each outcome. */

import type { ReactNode } from "react";

import type { Contact, Failure, Outcome } from "../server/answers";
import type { NoNetwork } from "./api";

export interface Message {
  tone: "good" | "bad" | "wait";
  title: string;
  text: ReactNode;
  /** The label of the button for the same input again. */
  again?: string;
}

export function messageOf(outcome: Outcome | NoNetwork): Message {
  switch (outcome.kind) {
    case "created":
      return {
        tone: "good",
        title: "Contact added",
        text: <ContactLine contact={outcome.contact} />,
      };
    case "conflict":
      return {
        tone: "bad",
        title: "A contact with this address already exists",
        text: outcome.existing ? (
          <>
            <ContactLine contact={outcome.existing} /> Nothing was added.
          </>
        ) : (
          "The advertiser already has a contact with this address. Nothing was added."
        ),
      };
    case "invalid":
      return {
        tone: "bad",
        title: "Please check the form",
        text: "Nothing was added yet. Correct the marked fields and send the form again.",
      };
    case "notFound":
      return {
        tone: "bad",
        title: "This advertiser cannot have contacts",
        text: "It has no record at HiEnergy. Nothing was added. Choose another advertiser.",
      };
    case "keyReused":
      return {
        tone: "bad",
        title: "This form was sent before, with other details",
        text: "The contact with those details is kept. To add these as well, send the form again.",
        again: "Add as a new contact",
      };
    case "outcomeUnknown":
      return {
        tone: "wait",
        title: "HiEnergy has not confirmed the contact",
        text: (
          <>
            HiEnergy may have added it. Check again {inTime(outcome.retryAfterSeconds)}: that only looks for
            the contact and never adds a second one. If you change the form, it counts as a new contact. If
            this persists, ask for help and quote <code>{outcome.requestId}</code>.
          </>
        ),
        again: "Check again",
      };
    case "notSetUp":
    case "rateLimited":
      return { ...failureOf(outcome), again: "Try again" };
    case "unavailable":
    case "noNetwork": {
      const failure = failureOf(outcome);
      const text = `${failure.text} The same contact is never added twice.`;
      return { ...failure, text, again: "Try again" };
    }
  }
}

export function failureOf(failure: Failure | NoNetwork): Message & { text: string } {
  switch (failure.kind) {
    case "notSetUp":
      return {
        tone: "bad",
        title: "This form is not set up",
        text: "It has no permission to add contacts. Please contact the people who run it.",
      };
    case "rateLimited":
      return {
        tone: "wait",
        title: "Too many requests",
        text: `The hourly limit is reached. Try again ${inTime(failure.retryAfterSeconds)}.`,
      };
    case "unavailable":
      return {
        tone: "wait",
        title: "The service does not answer",
        text: "Wait a moment and try again.",
      };
    case "noNetwork":
      return {
        tone: "wait",
        title: "No connection",
        text: "Check your network and try again.",
      };
  }
}

function ContactLine({ contact: { email, name, advertiserName } }: { contact: Contact }) {
  return (
    <>
      <strong>{name ?? email}</strong>
      {name && email && ` (${email})`}
      {advertiserName && ` at ${advertiserName}`}.
    </>
  );
}

function inTime(seconds: number): string {
  const [count, unit] = seconds < 90 ? [seconds, "second"] : [Math.ceil(seconds / 60), "minute"];
  return `in ${count} ${unit}${count === 1 ? "" : "s"}`;
}
