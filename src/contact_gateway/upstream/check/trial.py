"""What a test contact says about upstream's API: a creation, the same again, and a dry run.

As in `findings`, no value that upstream sent is in a finding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple

from contact_gateway.settings import Known
from contact_gateway.upstream.check.answers import Answer, has_email
from contact_gateway.upstream.check.findings import Finding, Found, unknown
from contact_gateway.upstream.check.shapes import Row, error_form_of, owner_of
from contact_gateway.upstream.documents import says_dry_run, time_of
from contact_gateway.variables import PREFIX

_SETTINGS: Final = {
    "duplicates": f"{PREFIX}UPSTREAM_REFUSES_DUPLICATES",
    "dry_run": f"{PREFIX}UPSTREAM_HONOURS_DRY_RUN",
}
_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_REFUSED: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_NO_SECOND_CONTACT: Final = "A repeat right after the answer makes no second contact."


class TrialContact(NamedTuple):
    """The contact to create, and whether to try a dry run too."""

    advertiser_id: int
    email: str
    tries_dry_run: bool

    @property
    def dry_run_email(self) -> str:
        """Another address of the same mailbox."""
        local_part, _, domain = self.email.rpartition("@")
        return f"{local_part}+dry-run@{domain}"


class Look(NamedTuple):
    """The lists where the new contact may be, some seconds after its creation."""

    seconds: float
    by_email: Answer
    of_submitted: Answer
    of_owner: Answer


@dataclass(slots=True)
class Trial:
    """The answers to the creation of a test contact, or why one was not sent.

    Attributes:
        looks: after the repeat, in the order of their time.
        after_dry_run: the contacts with the address of the dry run, after it.
    """

    contact: TrialContact
    first: Answer
    repeat: Answer
    dry_run: Answer
    after_dry_run: Answer
    looks: list[Look] = field(default_factory=list)

    @property
    def owner(self) -> str | None:
        """The advertiser that the answer to the creation shows."""
        row = self.first.row
        return None if row is None else owner_of(row)

    def is_new(self, row: Row) -> bool:
        """Return whether a listed contact is the created one."""
        first = self.first.row
        return has_email(row, self.contact.email) or (
            first is not None and str(first.id) == str(row.id)
        )


def findings_of_trial(trial: Trial) -> Sequence[Finding]:
    """Return what the test contact shows of each open question."""
    questions: Sequence[tuple[str, str, Callable[[Trial], Found]]] = (
        ("creation", "Answer to a creation", _creation),
        ("new_contact_owner", "Advertiser in the answer to a creation", _owner),
        ("new_contact_times", "Times in the answer to a creation", _times),
        (
            "new_contact_by_email",
            "When `GET /contacts?email=` lists a new contact",
            partial(_listed, answer_of=lambda look: look.by_email),
        ),
        (
            "new_contact_of_submitted",
            "When `GET /advertisers/{id}/contacts` lists it, with the submitted id",
            partial(_listed, answer_of=lambda look: look.of_submitted),
        ),
        (
            "new_contact_of_owner",
            "When `GET /advertisers/{id}/contacts` lists it, with the id of its owner",
            partial(_listed, answer_of=lambda look: look.of_owner),
        ),
        ("new_contact_rating", "Rating of a new contact", _rating),
        ("duplicates", "The same creation again", _repeat),
        ("dry_run", "A creation with `?dry_run=true`", _dry_run),
    )
    return [Finding(key, question, *find(trial)) for key, question, find in questions]


def settings_of(findings: Iterable[Finding]) -> Mapping[str, Known]:
    """Return the settings that follow, by their names."""
    return {_SETTINGS[each.key]: each.setting for each in findings if each.key in _SETTINGS}


def _creation(trial: Trial) -> Found:
    if trial.first.status in _DENIED:
        return Found(f"refused with {trial.first.status}", "Only an admin's key creates contacts.")
    if trial.first.response is not None and trial.first.status in _REFUSED:
        form = error_form_of(trial.first.response)
        means = "The address may have a contact already. Try another one."
        return Found(f"refused with {trial.first.status}: {form}", means)
    if not trial.first.is_success:
        return unknown(trial.first.why_unknown)
    row = trial.first.row
    if row is None or not row.is_readable:
        means = "Every creation through the gateway is `OUTCOME_UNKNOWN`: no contact is named."
        return Found(f"{trial.first.status} without a numeric id", means)
    if "email" not in row.fields:
        means = "The gateway completes the contact from the submission."
        return Found(f"{trial.first.status} with the id alone", means)
    return Found(f"{trial.first.status} with the contact", "As documented.")


def _owner(trial: Trial) -> Found:
    if trial.first.row is None:
        return _no_contact(trial)
    if trial.owner is None:
        return Found("not shown", "The gateway takes the submitted advertiser for the owner.")
    if trial.owner == str(trial.contact.advertiser_id):
        return Found("the submitted one")
    return Found("another one", "The contact was created on the HiEnergy record.")


def _times(trial: Trial) -> Found:
    row = trial.first.row
    if row is None:
        return _no_contact(trial)
    if time_of(row.fields.get("created_at")) is None:
        return Found("not shown", "The gateway takes the time of the answer.")
    return Found("shown")


def _listed(trial: Trial, answer_of: Callable[[Look], Answer]) -> Found:
    if not trial.first.is_success:
        return _no_contact(trial)
    for look in trial.looks:
        if any(trial.is_new(row) and row.is_readable for row in answer_of(look).rows):
            if not look.seconds:
                return Found("at once", "A lookup finds a new contact.")
            return Found(f"after {look.seconds:g} s", "A lookup finds a new contact late.")
    last = trial.looks[-1]
    answer = answer_of(last)
    if answer.items is None:
        return unknown(answer.why_unknown)
    if answer.paging.has_more:
        return unknown("the list has more than one page")
    means = "It has no rating, or the list lags. A lookup does not find it."
    return Found(f"not within {last.seconds:g} s", means)


def _rating(trial: Trial) -> Found:
    if not trial.first.is_success:
        return _no_contact(trial)
    general = [row for look in trial.looks for row in look.by_email.rows]
    own = [row for look in trial.looks for row in (*look.of_submitted.rows, *look.of_owner.rows)]
    shown = [trial.first.row, *(row for row in (*general, *own) if trial.is_new(row))]
    ratings = [row.fields.get("rating") for row in shown if row is not None]
    for rating in ratings:
        if isinstance(rating, (int, float)):
            return Found("below 1" if rating < 1 else "1 or above")
    if any(trial.is_new(row) for row in general):
        return Found("not shown, but `GET /contacts` lists the contact")
    return unknown("no answer shows it, and `GET /contacts` does not list it")


def _repeat(trial: Trial) -> Found:
    """Return what became of the second of two equal creations."""
    response, status = trial.repeat.response, trial.repeat.status
    # The first was accepted, so the repeat is refused because of the first.
    if response is not None and status in _REFUSED:
        found = f"refused with {status}: {error_form_of(response)}"
        details = (response.error or {}).get("details")
        if isinstance(details, Mapping) and isinstance(details.get("existing"), Mapping):
            found += ", with the contact"
        return Found(found, _NO_SECOND_CONTACT, setting=Known.YES)
    if not trial.repeat.is_success:
        return unknown(trial.repeat.why_unknown)
    first, second = trial.first.row, trial.repeat.row
    email = trial.contact.email
    listed = ([row for row in look.by_email.rows if has_email(row, email)] for look in trial.looks)
    has_two_ids = first is not None and second is not None and str(first.id) != str(second.id)
    if has_two_ids or any(len(rows) > 1 for rows in listed):
        means = "A repeat makes a second contact. The gateway never repeats a creation blindly."
        return Found(f"{status}: a second contact", means, setting=Known.NO)
    if first is None or second is None:
        return unknown("the answer has no id, and no list shows two contacts")
    found = f"{status} with the first contact{_merged(first, second)}"
    return Found(found, _NO_SECOND_CONTACT, setting=Known.YES)


def _merged(first: Row, second: Row) -> str:
    """Return whether the first contact was updated, as far as its times show it."""
    before, after = first.fields.get("updated_at"), second.fields.get("updated_at")
    if before is None or after is None:
        return ""
    return ", unchanged" if before == after else ", updated"


def _dry_run(trial: Trial) -> Found:
    """Return what became of a creation with `?dry_run=true`."""
    status, response, row = trial.dry_run.status, trial.dry_run.response, trial.dry_run.row
    if status in _REFUSED:
        return unknown(f"it was refused with {status}")
    if response is None or not response.is_success:
        return unknown(trial.dry_run.why_unknown)
    email = trial.contact.dry_run_email
    is_listed = any(has_email(row, email) for row in trial.after_dry_run.rows)
    if says_dry_run(response.body) and not is_listed:
        means = "Dry runs can be forwarded."
        return Found(f"honoured: {status} says `dry_run`", means, setting=Known.YES)
    if is_listed or row is not None:
        means = "Dry runs are not forwarded: each would create a contact."
        return Found(f"ignored: {status} with a contact", means, setting=Known.NO)
    return unknown(f"{status} without a numeric id or `dry_run`")


def _no_contact(trial: Trial) -> Found:
    return unknown("the answer has no id" if trial.first.is_success else trial.first.why_unknown)
