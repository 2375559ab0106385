import { useCombobox } from "downshift";
import { useEffect, useState } from "react";

import type { Advertiser, LookUp } from "../server/answers";
import { lookUp, type NoNetwork } from "./api";
import { described, ProblemText } from "./Field";
import { failureOf } from "./words";

const { stateChangeTypes: changes } = useCombobox;
const MINIMUM_LENGTH = 2;
const PAUSE_MILLISECONDS = 200;
// The gateway reports a missing value, even if the field has a text without a choice.
const CHOOSE = "Enter a name or a domain, and choose an advertiser from the list.";

interface AdvertiserFieldProps {
  value: Advertiser | null;
  onChange(advertiser: Advertiser | null): void;
  problem: string | undefined;
}

/** A combobox that looks advertisers up, and the HiEnergy record that would own the contact. */
export function AdvertiserField({ value, onChange, ...props }: AdvertiserFieldProps) {
  const problem = props.problem && (value ? props.problem : CHOOSE);
  const [query, setQuery] = useState("");
  const answer = useLookUp(query);
  const advertisers = answer?.kind === "found" ? answer.advertisers : [];
  const combobox = useCombobox({
    inputId: "advertiserId",
    items: advertisers,
    selectedItem: value,
    itemToString: (advertiser) => (advertiser ? titleOf(advertiser) : ""),
    itemToKey: (advertiser) => advertiser?.id,
    onSelectedItemChange: ({ selectedItem }) => {
      onChange(selectedItem);
      setQuery("");
    },
    onStateChange: ({ type, inputValue }) => {
      if (type === changes.InputChange) {
        setQuery(inputValue?.trim() ?? "");
        onChange(null);
      }
    },
    stateReducer: ({ inputValue }, { type, changes: next }) =>
      // A changed text ends the choice. Without this, the end of the choice would empty the text.
      type === changes.ControlledPropUpdatedSelectedItem ? { ...next, inputValue } : next,
  });
  const isListShown = combobox.isOpen && advertisers.length > 0;

  return (
    <div className="field">
      <label {...combobox.getLabelProps()}>Advertiser</label>
      <div className="combobox">
        <input
          {...combobox.getInputProps({
            placeholder: "Name or domain",
            autoComplete: "off",
            required: true,
            "aria-expanded": isListShown,
            ...described("advertiserId", problem),
          })}
        />
        <ul {...combobox.getMenuProps()} hidden={!isListShown}>
          {advertisers.map((advertiser, index) => (
            <li
              key={advertiser.id}
              {...combobox.getItemProps({ item: advertiser, index })}
              className={combobox.highlightedIndex === index ? "highlighted" : ""}
            >
              {titleOf(advertiser)}
              <small>{[advertiser.networkName, advertiser.domain].filter(Boolean).join(" · ")}</small>
            </li>
          ))}
        </ul>
      </div>
      <ProblemText id="advertiserId" problem={problem} />
      <div role="status" className="record">
        {value ? <Record advertiser={value} /> : <LookUpText answer={answer} />}
      </div>
    </div>
  );
}

function Record({ advertiser }: { advertiser: Advertiser }) {
  const { hienergy } = advertiser;
  if (!hienergy) {
    return <p>No HiEnergy record is known for {titleOf(advertiser)}. The contact may be refused.</p>;
  }
  return (
    <p>
      The contact will be added to <strong>{titleOf(hienergy)}</strong>, HiEnergy record {hienergy.id}
      {hienergy.id !== advertiser.id && `, which owns this ${advertiser.networkName ?? ""} record`}.
    </p>
  );
}

function LookUpText({ answer }: { answer: LookUp | NoNetwork | null }) {
  if (!answer) {
    return null;
  }
  if (answer.kind !== "found") {
    const { title, text } = failureOf(answer);
    return (
      <p>
        <strong>{title}.</strong> {text}
      </p>
    );
  }
  const count = answer.advertisers.length;
  return <p>{count === 0 ? "No advertiser has this name or domain." : `${count} found.`}</p>;
}

/** Return the answer to a query, after a pause in the typing. */
function useLookUp(query: string): LookUp | NoNetwork | null {
  const [answer, setAnswer] = useState<LookUp | NoNetwork | null>(null);
  useEffect(() => {
    if (query.length < MINIMUM_LENGTH) {
      setAnswer(null);
      return;
    }
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      const found = await lookUp(query, abort.signal);
      if (!abort.signal.aborted) {
        setAnswer(found);
      }
    }, PAUSE_MILLISECONDS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [query]);
  return answer;
}

function titleOf({ displayName, name }: { displayName: string | null; name: string }): string {
  return displayName ?? name;
}
