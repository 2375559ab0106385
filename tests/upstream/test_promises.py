"""What the gateway promises in front of HiEnergy, whatever HiEnergy does and whatever fails.

A state machine tries every trait of the fake HiEnergy, with a fault at any point of any call, by
two gateways that share a ledger. `scripts/promises` runs it for longer.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final, TypeVar, get_type_hints
from unittest.mock import patch

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.ledger import Attempt
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    IdempotencyKeyReused,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Unauthorized,
)
from contact_gateway.contacts.source import (
    ContactFilter,
    Creation,
    Page,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.settings import Known
from contact_gateway.store import ledger as ledger_rows
from contact_gateway.store.database import Database
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.upstream import creations
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.creations import keyed
from contact_gateway.upstream.source import UpstreamAccess, UpstreamSource
from contact_gateway.upstream.traits import Traits as KnownTraits
from support.clock import WATCHDOG_SECONDS
from support.contacts import submitted
from support.databases import current_engine, database_at, databases_on, plain_connection
from support.gateway import empty_store, ledger_address
from support.hienergy import (
    ADVERTISERS,
    Duplicates,
    Fault,
    HiEnergy,
    Shown,
    StoredContact,
    Traits,
    fake_hienergy,
    jwt,
)

T = TypeVar("T")
# Any: a strategy of values of several types.
AnyStrategy = st.SearchStrategy[Any]

CREATE_SECONDS: Final = 0.3
READ_SECONDS: Final = 2.0
STEPS_PER_RUN: Final = 30
IS_LONG: Final = "PROMISE_RUNS" in os.environ
RUNS: Final = int(os.environ.get("PROMISE_RUNS", "15"))

SUBMISSIONS: Final = (
    submitted(advertiser_id=2001, email="maya@example.com", name="Maya"),
    submitted(advertiser_id=1001, email="maya@example.com", name="Maya"),
    submitted(advertiser_id=2002, email="noor@example.com", name="Noor"),
    # The address of another brand's contact.
    submitted(advertiser_id=1002, email="maya@example.com"),
    submitted(advertiser_id=3001, email="olga@example.com"),
)
PEOPLE: Final = ("maya", "noor")
CUT: Final = (Fault.TRUNCATED_AFTER, Fault.HTML_SUCCESS)
"""Only a list may name the contact, and it may name another one."""

STALLS: Final = (Fault.STALLED_BEFORE, Fault.STALLED_AFTER, Fault.STALLED_UNTIL_LATER)


class LedgerFault(Enum):
    """What goes wrong with a write to the ledger."""

    NONE = auto()
    FAILS = auto()
    FAILS_AFTER_THE_WRITE = auto()


class FaultyLedger:
    """A ledger whose next writes meet faults."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger: Final = ledger
        self.faults: deque[LedgerFault] = deque()

    async def find(self, key: bytes) -> Attempt | None:
        return await self._ledger.find(key)

    async def claim(self, key: bytes, wanted: Attempt) -> Attempt:
        return await self._write(lambda: self._ledger.claim(key, wanted))

    async def put(self, key: bytes, holder: str, attempt: Attempt | None) -> bool:
        return await self._write(lambda: self._ledger.put(key, holder, attempt))

    async def has_contact(self, contact_id: int) -> bool:
        return await self._ledger.has_contact(contact_id)

    async def contact(self, scope: bytes, contact_id: int) -> Contact | None:
        return await self._ledger.contact(scope, contact_id)

    async def close(self) -> None:
        await self._ledger.close()

    # Any: a coroutine's send type.
    async def _write(self, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        fault = self.faults.popleft() if self.faults else LedgerFault.NONE
        if fault is LedgerFault.FAILS:
            raise SourceUnavailable("the ledger fails")
        written = await write()
        if fault is LedgerFault.FAILS_AFTER_THE_WRITE:
            raise SourceUnavailable("the ledger fails after the write")
        return written


@dataclass(slots=True)
class Process:
    """One gateway's source of truth."""

    client: UpstreamClient
    database: Database
    ledger: FaultyLedger
    source: UpstreamSource

    async def access(self, token: str) -> UpstreamAccess:
        access = await self.source.authenticate(Credential.of(token))
        assert not isinstance(access, KeyRefusal)
        return access

    async def kill(self) -> None:
        """End all creations where they are, without a record."""
        running = self.source.creations
        # A test of a crash.
        for task in (running._recording, *(one.task for one in running._in_flight.values())):  # noqa: SLF001
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        await self._close()

    async def close(self) -> None:
        await self.source.close()
        await self._close()

    async def _close(self) -> None:
        await self.client.__aexit__()
        await self.ledger.close()
        await self.database.close()


async def _started(hienergy: HiEnergy, folder: Path, known: KnownTraits) -> Process:
    client = UpstreamClient(
        hienergy.url,
        timeout_seconds=READ_SECONDS,
        create_timeout_seconds=CREATE_SECONDS,
        max_connections=20,
    )
    await client.__aenter__()
    database = database_at(empty_store(folder, {}).url)
    ledger = FaultyLedger(SqlLedger(database))
    return Process(client, database, ledger, UpstreamSource(client, ledger, known))


def _trait_strategies() -> dict[str, AnyStrategy]:
    """Return a strategy for each trait: a new one is tried without a change here."""
    special: dict[str, AnyStrategy] = {
        # Half of the runs are of the case in which a repeat makes a second contact.
        "duplicates": st.just(Duplicates.CREATED_AGAIN) | st.sampled_from(Duplicates),
        "list_lag": st.sampled_from((0, 1, 4)),
        "calls_per_hour": st.sampled_from((1000, 1000, 1000, 25)),
        # HiEnergy documents caps of 100 and more.
        "page_cap": st.just(100),
    }
    hints = get_type_hints(Traits)
    return {
        field.name: special.get(field.name, st.from_type(hints[field.name]))
        for field in fields(Traits)
    }


# Where a documented filter is ignored, the owner of a row that shows a slug cannot be known.
TRAITS: Final = st.builds(Traits, **_trait_strategies()).filter(
    lambda traits: traits.filters_work or not traits.owner_as_slug
)
CLOCKS: Final = st.sampled_from((timedelta(0), timedelta(hours=1), timedelta(hours=-1)))
FAULTS: Final = st.sampled_from([Fault.NONE, Fault.NONE, Fault.NONE, *Fault])
LEDGER_FAULTS: Final = st.lists(
    st.sampled_from([LedgerFault.NONE, LedgerFault.NONE, *LedgerFault]), max_size=3
)
KEYS: Final = st.sampled_from(("k1", "k2"))
PROCESSES: Final = st.sampled_from((0, 1))
SUBMITTED: Final = st.sampled_from(SUBMISSIONS)
TOKENS: Final = st.builds(jwt, st.sampled_from(PEOPLE), n=st.integers(1, 3))


class Promises(RuleBasedStateMachine):
    """Callers, two gateways, and one HiEnergy."""

    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.databases = ExitStack()
        self.databases.enter_context(databases_on(current_engine()))
        self.margin = patch.object(creations, "_LEASE_MARGIN", timedelta(milliseconds=50))
        self.margin.start()
        self.acknowledged: dict[str, int] = {}
        self.submissions: dict[str, set[NewContact]] = {}
        self.may_be_forgotten: set[str] = set()
        self.has_faulty_ledger = False
        self.has_settled = False
        self.fresh = 0
        self.knows_that_dry_runs_create: set[int] = set()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine. Every call is answered within a bound."""
        return self.runner.run(asyncio.wait_for(coroutine, WATCHDOG_SECONDS))

    @initialize(
        traits=TRAITS,
        sets_refuses=st.booleans(),
        honours_dry_run=st.sampled_from(Known),
        ahead=CLOCKS,
    )
    def start(
        self, *, traits: Traits, sets_refuses: bool, honours_dry_run: Known, ahead: timedelta
    ) -> None:
        """Start HiEnergy and two gateways. The operator knows no more than what is true."""
        refuses = traits.duplicates is not Duplicates.CREATED_AGAIN
        self.refuses = Known.YES if refuses and sets_refuses else Known.UNKNOWN
        self.honours_dry_run = honours_dry_run
        self.server = fake_hienergy(traits)
        self.hienergy = self.run(self.server.__aenter__())
        self.hienergy.now = lambda: datetime.now(UTC) + ahead
        self.processes = [self.run(self._start_process()) for _ in range(2)]

    async def _start_process(self) -> Process:
        known = KnownTraits(self.refuses, self.honours_dry_run)
        return await _started(self.hienergy, Path(self.folder.name), known)

    # What callers do.

    @rule(
        submission=SUBMITTED,
        key=KEYS,
        token=TOKENS,
        process=PROCESSES,
        fault=FAULTS,
        ledger_faults=LEDGER_FAULTS,
    )
    def create(
        self,
        submission: NewContact,
        key: str,
        token: str,
        process: int,
        fault: Fault,
        ledger_faults: list[LedgerFault],
    ) -> None:
        self.hienergy.faults.append(fault)
        self.processes[process].ledger.faults.extend(ledger_faults)
        if any(one is not LedgerFault.NONE for one in ledger_faults):
            self.has_faulty_ledger = True
        self._create_and_check(submission, key, token, process, fault)
        self.hienergy.faults.clear()
        self.processes[process].ledger.faults.clear()

    @rule(
        fault=st.just(Fault.NONE) | st.sampled_from(Fault),
        token=TOKENS,
        process=PROCESSES,
        older=st.booleans(),
        ends_leases=st.booleans(),
    )
    def create_and_repeat(
        self, fault: Fault, token: str, process: int, *, older: bool, ends_leases: bool
    ) -> None:
        """A new key and address, so that no earlier step decides the outcome."""
        self.fresh += 1
        key, email = f"fresh-{self.fresh}", f"fresh-{self.fresh}@example.com"
        submission = submitted(advertiser_id=1001, email=email)
        old = None
        if older:
            moment = self.hienergy.now() - timedelta(days=1)
            old = self.hienergy.add(email, rating=0, created_at=moment)
        self.hienergy.faults.append(fault)
        self._create_and_check(submission, key, token, process, fault)
        self.hienergy.faults.clear()
        if old is not None:
            old.rating = 1
        if ends_leases:
            self.leases_end()
        for other in (1 - process, process):
            answer = self._create_and_check(submission, key, token, other)
            merges = self.hienergy.traits.duplicates is not Duplicates.CREATED_AGAIN
            if old is not None and not merges and isinstance(answer, Created):
                assert answer.contact.id != old.id

    @rule(submission=SUBMITTED, key=KEYS, person=st.sampled_from(PEOPLE), fault=FAULTS)
    def create_at_the_same_time(
        self, submission: NewContact, key: str, person: str, fault: Fault
    ) -> None:
        self.hienergy.faults.append(fault)
        tokens = (jwt(person, n=1), jwt(person, n=1), jwt(person, n=2), jwt(person, good=False))
        answers = self.run(self._create_at_the_same_time(submission, key, tokens))
        self.hienergy.faults.clear()
        *honest, forged, forged_elsewhere = answers
        for answer in (forged, forged_elsewhere):
            assert isinstance(answer, (Unauthorized, SourceUnavailable)), answer
        # Callers in flight, with whatever input, share the outcome of one call.
        self._check_that_one_is_acknowledged(honest)
        header = self._header(submission, key, tokens[0])
        # One caller may learn that it is unknown, while another one finds the contact.
        for answer in sorted(honest, key=lambda one: isinstance(one, Created)):
            self._check_key(submission, header, answer, made=0)

    def _check_that_one_is_acknowledged(
        self, answers: Iterable[CreateContactOutcome | SourceUnavailable]
    ) -> None:
        created = {answer.contact.id for answer in answers if isinstance(answer, Created)}
        assert len(created) <= 1

    @rule(key=KEYS, person=st.sampled_from(PEOPLE), fault=FAULTS)
    def create_two_inputs_at_the_same_time(self, key: str, person: str, fault: Fault) -> None:
        """One input is created at most; the others are refused, or get no contact."""
        self.hienergy.faults.append(fault)
        token, inputs = jwt(person, n=1), (SUBMISSIONS[0], SUBMISSIONS[2])
        header = self._header(inputs[0], key, token)
        acknowledged = self.acknowledged.get(header)
        answers = self.run(self._create_two_inputs(inputs, key, token))
        self.hienergy.faults.clear()
        created = [one for one in answers if isinstance(one, Created)]
        self._check_that_one_is_acknowledged(created)
        for submission, answer in zip((*inputs, *inputs), answers, strict=True):
            if isinstance(answer, Created):
                assert acknowledged in {None, answer.contact.id}
                self.acknowledged[header] = answer.contact.id
                self._check_truth(submission, answer, made=0)
            self.submissions.setdefault(header, set()).add(submission)

    async def _create_two_inputs(
        self, inputs: Iterable[NewContact], key: str, token: str
    ) -> list[CreateContactOutcome | SourceUnavailable]:
        return await asyncio.gather(
            *(
                self._create(submission, key, token, process)
                for process in range(len(self.processes))
                for submission in inputs
            )
        )

    async def _create_at_the_same_time(
        self, submission: NewContact, key: str, tokens: Iterable[str]
    ) -> list[CreateContactOutcome | SourceUnavailable]:
        return await asyncio.gather(
            *(
                self._create(submission, key, token, process)
                for token in tokens
                for process in range(len(self.processes))
            )
        )

    @rule(submission=SUBMITTED, token=TOKENS, process=PROCESSES, fault=FAULTS)
    def create_without_a_key(
        self, submission: NewContact, token: str, process: int, fault: Fault
    ) -> None:
        self.hienergy.faults.append(fault)
        before = len(self.hienergy.contacts)
        answer = self.run(self._create(submission, None, token, process))
        self.hienergy.faults.clear()
        made = self.hienergy.contacts[before:]
        assert len(made) <= 1
        self._check_truth(submission, answer, made=len(made))

    @rule(
        submission=SUBMITTED,
        key=st.none() | KEYS,
        token=TOKENS,
        process=PROCESSES,
    )
    def dry_run(self, submission: NewContact, key: str | None, token: str, process: int) -> None:
        before = len(self.hienergy.contacts)
        answer = self.run(self._create(submission, key, token, process, dry_run=True))
        made = self.hienergy.contacts[before:]
        if self.honours_dry_run is not Known.YES:
            assert not made
        shown = self.hienergy.traits.creation_shows
        if made and shown is Shown.NO_CONTENT:
            # The operator's setting is wrong, and nothing in the answer says so.
            return
        if key is not None and isinstance(answer, (Created, OutcomeUnknown)):
            self._remember(submission, key, token)
        if made:
            assert isinstance(answer, (Created, OutcomeUnknown)), answer
            assert process not in self.knows_that_dry_runs_create
            self.knows_that_dry_runs_create.add(process)
        elif isinstance(answer, Created):
            # The setting is wrong again: HiEnergy answers with a contact that it already had.
            assert self.honours_dry_run is Known.YES
            assert self.hienergy.traits.duplicates in {Duplicates.RETURNED, Duplicates.MERGED}
        if isinstance(answer, Created) and not answer.replayed and key is not None:
            self.acknowledged[self._header(submission, key, token)] = answer.contact.id

    @rule(
        submission=SUBMITTED,
        key=KEYS,
        token=TOKENS,
        process=PROCESSES,
        fault=st.sampled_from(STALLS),
    )
    def kill_during_a_call(
        self, submission: NewContact, key: str, token: str, process: int, fault: Fault
    ) -> None:
        self.hienergy.faults.append(fault)
        self.run(self._kill_during_a_call(submission, key, token, process))
        self.hienergy.faults.clear()
        self._remember(submission, key, token)

    async def _kill_during_a_call(
        self, submission: NewContact, key: str, token: str, process: int
    ) -> None:
        self.hienergy.upstream.is_stalled.clear()
        call = asyncio.create_task(self._create(submission, key, token, process))
        stalled = asyncio.create_task(self.hienergy.upstream.is_stalled.wait())
        await asyncio.wait({call, stalled}, return_when=asyncio.FIRST_COMPLETED)
        stalled.cancel()
        await self.processes[process].kill()
        await asyncio.gather(call, return_exceptions=True)
        self.may_be_forgotten |= set(self.acknowledged) if self.has_faulty_ledger else set()
        self.processes[process] = await self._start_process()
        self.knows_that_dry_runs_create.discard(process)

    @rule(token=st.builds(jwt, st.sampled_from(PEOPLE), good=st.just(value=False)), key=KEYS)
    def use_a_forged_token(self, token: str, key: str) -> None:
        for submission in SUBMISSIONS[:4]:
            answer = self.run(self._create(submission, key, token, 0))
            assert isinstance(answer, (Unauthorized, SourceUnavailable)), answer

    @rule(person=st.sampled_from(PEOPLE), key=KEYS, process=PROCESSES)
    def read_what_was_acknowledged(self, person: str, key: str, process: int) -> None:
        token = jwt(person, n=4)
        header = self._header(SUBMISSIONS[0], key, token)
        contact_id = self.acknowledged.get(header)
        if contact_id is not None and header not in self.may_be_forgotten:
            read = self.run(self._read(contact_id, token, process))
            assert isinstance(read, (RateLimited, SourceUnavailable)) or (
                isinstance(read, Contact) and read.id == contact_id
            ), read

    async def _read(self, contact_id: int, token: str, process: int) -> object:
        access = await self.processes[process].access(token)
        try:
            return await access.contact(contact_id)
        except SourceUnavailable as error:
            return error

    @rule(process=PROCESSES)
    def list_contacts(self, process: int) -> None:
        rows = sum(1 for one in self.hienergy.contacts if one.rating and not one.lag)
        listed = self.run(self._list(process))
        if isinstance(listed, Page):
            shown = len(listed.items) + listed.skipped
            assert shown >= rows or listed.has_more

    async def _list(self, process: int) -> object:
        access = await self.processes[process].access(jwt())
        try:
            return await access.contacts(ContactFilter(), PageRequest(1, 100))
        except SourceUnavailable as error:
            return error

    # What happens meanwhile.

    @rule()
    def leases_end(self) -> None:
        with plain_connection(ledger_address(Path(self.folder.name))) as connection:
            connection.exec_driver_sql("UPDATE attempts SET held_until = sent_at")

    @rule()
    def late_creations_arrive(self) -> None:
        self.hienergy.process_late()

    @rule(
        submission=SUBMITTED,
        rating=st.integers(0, 1),
        age=st.sampled_from((timedelta(0), timedelta(days=1))),
    )
    def a_contact_comes_by_another_way(
        self, submission: NewContact, rating: int, age: timedelta
    ) -> None:
        owner = ADVERTISERS[submission.advertiser_id].hienergy_id
        if owner is not None:
            moment = self.hienergy.now() - age
            self.hienergy.add(submission.email, owner, rating=rating, created_at=moment)

    @rule()
    def contacts_are_rated(self) -> None:
        for contact in self.hienergy.contacts:
            contact.rating, contact.lag = 1, 0

    @rule()
    def the_operator_settles_all(self) -> None:
        """The operator looks into HiEnergy once nothing is in flight."""
        self.hienergy.process_late()
        self.leases_end()
        self.run(self._settle_all())
        self.has_settled = True

    async def _settle_all(self) -> None:
        database = self.processes[0].database
        for opened in await database.read(ledger_rows.open_attempts):
            header = _header(opened.key)
            made = [one.id for one in self.hienergy.contacts if _made_by(one) == header]
            contact_id = made[0] if made else None
            await database.write(partial(ledger_rows.settle, opened=opened, contact_id=contact_id))

    # What must hold.

    @invariant()
    def no_key_has_two_contacts(self) -> None:
        Promises.steps += 1
        if not hasattr(self, "hienergy"):
            return
        made = [_made_by(one) for one in self.hienergy.contacts if one.made_by is not None]
        assert len(made) == len(set(made))

    def teardown(self) -> None:
        """In the end HiEnergy shows everything, and every contact is acknowledged or unknown."""
        try:
            if hasattr(self, "processes"):
                self._check_the_end()
        finally:
            for process in getattr(self, "processes", ()):
                self.run(process.close())
            if hasattr(self, "server"):
                self.run(self.server.__aexit__(None, None, None))
            self.margin.stop()
            self.runner.close()
            self.databases.close()
            self.folder.cleanup()

    def _check_the_end(self) -> None:
        self.hienergy.process_late()
        self.leases_end()
        self.hienergy.traits = Traits(
            duplicates=self.hienergy.traits.duplicates,
            shows_times=True,
            shows_hienergy_id=True,
            lists_own_unrated=True,
            calls_per_hour=10_000,
        )
        self.contacts_are_rated()
        for person in PEOPLE:
            for key in ("k1", "k2"):
                for submission in SUBMISSIONS[:4]:
                    self._check_that_it_is_known(submission, key, jwt(person, n=9))

    def _check_that_it_is_known(self, submission: NewContact, key: str, token: str) -> None:
        header = self._header(submission, key, token)
        made = [one for one in self.hienergy.contacts if _made_by(one) == header]
        if not made or submission not in self.submissions.get(header, ()):
            return
        answer = self._create_and_check(submission, key, token, 1)
        assert isinstance(answer, (Created, OutcomeUnknown, IdempotencyKeyReused)), answer

    def _create_and_check(
        self,
        submission: NewContact,
        key: str,
        token: str,
        process: int,
        fault: Fault = Fault.NONE,
    ) -> CreateContactOutcome | SourceUnavailable:
        header = self._header(submission, key, token)
        before = len(self.hienergy.contacts)
        answer = self.run(self._create(submission, key, token, process))
        made = [one.id for one in self.hienergy.contacts[before:] if _made_by(one) == header]
        self._check_key(submission, header, answer, len(made))
        names_it = self.hienergy.traits.creation_shows in {Shown.FULL, Shown.ID_ALONE}
        if made and names_it and fault not in CUT and isinstance(answer, Created):
            assert answer.contact.id == made[0]
        return answer

    def _check_key(
        self,
        submission: NewContact,
        header: str,
        answer: CreateContactOutcome | SourceUnavailable,
        made: int,
    ) -> None:
        self._check_truth(submission, answer, made)
        acknowledged = self.acknowledged.get(header)
        others = self.submissions.get(header, set()) - {submission}
        match answer:
            case Created(contact):
                assert acknowledged in {None, contact.id}
                if not made and self.hienergy.traits.duplicates is Duplicates.CREATED_AGAIN:
                    # Two attempts of one address may be confused, but not be given one contact.
                    of_others = {
                        an_id for name, an_id in self.acknowledged.items() if name != header
                    }
                    assert contact.id not in of_others or self.has_settled
                self.acknowledged[header] = contact.id
            case IdempotencyKeyReused():
                assert others
            case OutcomeUnknown() if header in self.may_be_forgotten:
                pass
            case Unauthorized() | RateLimited() | SourceUnavailable():
                pass
            case _:
                assert acknowledged is None, answer
        self.submissions.setdefault(header, set()).add(submission)

    def _check_truth(
        self,
        submission: NewContact,
        answer: CreateContactOutcome | SourceUnavailable,
        made: int,
    ) -> None:
        """What an answer says is true in HiEnergy."""
        owner = ADVERTISERS[submission.advertiser_id].hienergy_id
        of_address = {
            one.id
            for one in self.hienergy.contacts
            if one.advertiser_id == owner and one.email == submission.email
        }
        if made:
            assert isinstance(answer, (Created, OutcomeUnknown)), answer
        match answer:
            case Created(contact):
                assert contact.id in of_address
            case Conflict(existing):
                assert of_address
                assert existing is None or existing.id in of_address
            case NotFound():
                assert owner is None
            case InvalidInput():
                # The answer that the address is taken was cut, so its status alone is known.
                assert of_address
            case OutcomeUnknown():
                assert answer.sent_at <= datetime.now(UTC)
                assert answer.advertiser_id in {one.advertiser_id for one in SUBMISSIONS}
            case IdempotencyKeyReused() | Unauthorized() | RateLimited() | SourceUnavailable():
                pass
            case _:
                raise AssertionError(answer)

    async def _create(
        self,
        submission: NewContact,
        key: str | None,
        token: str,
        process: int,
        *,
        dry_run: bool = False,
    ) -> CreateContactOutcome | SourceUnavailable:
        access = await self.processes[process].access(token)
        try:
            return await access.create_contact(Creation(submission, key, dry_run))
        except SourceUnavailable as error:
            return error

    def _header(self, submission: NewContact, key: str, token: str) -> str:
        """Return the name of a person's idempotency key in HiEnergy's contacts."""
        return self.run(self._derived(submission, key, token))

    async def _derived(self, submission: NewContact, key: str, token: str) -> str:
        access = await self.processes[0].access(token)
        return _header(keyed(access, submission, key).ledger_key)

    def _remember(self, submission: NewContact, key: str, token: str) -> None:
        header = self._header(submission, key, token)
        self.submissions.setdefault(header, set()).add(submission)


def _header(ledger_key: bytes) -> str:
    """Return what is the same in the headers of all inputs under a key."""
    return creations.derived_header(ledger_key, b"").removesuffix("-")


def _made_by(contact: StoredContact) -> str | None:
    return contact.made_by and contact.made_by.partition("-")[0]


@pytest.mark.usefixtures("engine")
def test_every_promise_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run_state_machine_as_test(
        Promises,
        settings=hypothesis_settings(
            max_examples=RUNS,
            stateful_step_count=STEPS_PER_RUN,
            # The suite tries the same runs each time, the script others.
            derandomize=not IS_LONG,
            database=None,
        ),
    )
    if IS_LONG:
        with capsys.disabled():
            print(f"{Promises.steps} steps without a broken promise")  # noqa: T201 - a report
