import type { ComponentProps, ReactNode } from "react";

interface FieldProps extends ComponentProps<"input"> {
  id: string;
  label: ReactNode;
  problem?: string;
}

/** A labelled input with its problem, which screen readers read together. */
export function Field({ id, label, problem, ...input }: FieldProps) {
  return (
    <div className="field">
      <label htmlFor={id}>
        {label}
        {!input.required && <span className="optional"> (optional)</span>}
      </label>
      <input {...input} id={id} {...described(id, problem)} />
      <ProblemText id={id} problem={problem} />
    </div>
  );
}

export const described = (id: string, problem: string | undefined) =>
  problem ? { "aria-invalid": true, "aria-describedby": `${id}-problem` } : {};

export function ProblemText({ id, problem }: { id: string; problem: string | undefined }) {
  return (
    problem && (
      <p className="problem" id={`${id}-problem`}>
        {problem}
      </p>
    )
  );
}
