"""`contact-gateway upstream check`: what it finds of each trait, what it sends, what it reports."""

import asyncio
import dataclasses
import errno
import json
import os
import pty
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, TypeGuard

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from contact_gateway.access.principals import Credential
from contact_gateway.cli import main
from contact_gateway.settings import load_settings
from contact_gateway.upstream.check import calls
from contact_gateway.upstream.check.calls import Result as CheckResult
from contact_gateway.upstream.check.calls import check
from contact_gateway.upstream.check.report import report_of
from contact_gateway.upstream.check.trial import TrialContact
from contact_gateway.upstream.client import UpstreamClient
from support.clock import WATCHDOG_SECONDS
from support.documentation import ROOT, blocks_of
from support.faces import Json
from support.hienergy import (
    MEMBER_KEY,
    DryRun,
    Duplicates,
    ErrorBody,
    Fault,
    HiEnergy,
    Mark,
    Paging,
    Rows,
    Shown,
    Traits,
    fake_hienergy,
)
from support.process import Command, clean_environment
from support.upstream import KEY, Recording, Request, recorded, recorded_upstream

pytestmark = pytest.mark.anyio

NEW: Final = "maya@example.com"
CREATE: Final = ("--create-test-contact", "2001", NEW, "--yes")
DRY_RUN: Final = (*CREATE, "--try-dry-run")
REFUSES: Final = "CONTACT_GATEWAY_UPSTREAM_REFUSES_DUPLICATES"
HONOURS: Final = "CONTACT_GATEWAY_UPSTREAM_HONOURS_DRY_RUN"


@dataclass(frozen=True, slots=True)
class Checked:
    """The end of a check, and its report: what was found by the question's key."""

    result: Result
    found: Mapping[str, str]
    settings: Mapping[str, str]


CheckApi = Callable[..., Awaitable[Checked]]


class Case(NamedTuple):
    """What a check finds where HiEnergy has some traits."""

    traits: Mapping[str, Json]
    key: str
    found: str
    arguments: tuple[str, ...] = ()
    setting: tuple[str, str] | None = None


def create(
    traits: Mapping[str, Json], key: str, found: str, setting: tuple[str, str] | None = None
) -> Case:
    """Return a case with a test contact."""
    return Case(traits, key, found, CREATE, setting)


def repeat(traits: Mapping[str, Json], found: str, value: str) -> Case:
    """Return a case of the same creation again."""
    return Case(traits, "duplicates", found, CREATE, (REFUSES, value))


def dry_run(traits: Mapping[str, Json], found: str, value: str) -> Case:
    """Return a case of a dry run."""
    return Case(traits, "dry_run", found, DRY_RUN, (HONOURS, value))


RATED: Final = {"rates_new_contacts": True}
REFUSED_WITH_409: Final = "refused with 409: `error` is an object"
COMMAND: Final = (sys.executable, "-m", "contact_gateway", "upstream", "check")
NOT_LISTED: Final = "not within 0.02 s"
CASES: Final = [
    Case({}, "envelope", "`data`"),
    Case({"root_key": True}, "envelope", "`data` in a root key"),
    Case({"rows": Rows.RESOURCE}, "rows", "`id`, `type`, `attributes`"),
    Case({"rows": Rows.FLAT}, "rows", "flat"),
    Case(
        {"odd_rows": True},
        "rows",
        "`id`, `type`, `attributes`; some rows are no object with a numeric id",
    ),
    Case({"odd_rows": True}, "email_filter", "obeyed"),
    Case({}, "id_types", "text"),
    Case({"ids_as_numbers": True}, "id_types", "number"),
    Case({}, "contact_names", "`job_title`, `linkedin_profile_url`"),
    Case({"renamed_fields": True}, "contact_names", "`title`, `linkedin_url`"),
    Case({}, "contact_gaps", "`family_name`, `phone`, `linkedin_profile_url`"),
    Case(
        {"rows_without_email": True, "shows_blank": False},
        "contact_gaps",
        "`email`, `given_name`, `family_name`, `phone`, `source`, `status`, `job_title`, "
        "`linkedin_profile_url`",
    ),
    Case({}, "blanks", "null"),
    Case({"shows_blank": False}, "blanks", "left out"),
    Case({}, "owner", "`advertiser_id` with an id"),
    Case({"owner_as_slug": True}, "owner", "`advertiser_id` with a slug"),
    Case({"nested_advertiser": True}, "owner", "`advertiser` with an id"),
    Case({"shows_advertiser_name": False}, "owner", "`advertiser_id` with an id; without a name"),
    Case({}, "times", "not shown"),
    Case({"shows_times": True}, "times", "`created_at`, `updated_at`"),
    Case({"shows_times": True, "shows_days": True}, "times", "not shown"),
    Case({}, "rating", "not shown"),
    Case({"paging": Paging.META}, "paging", "`meta`: current_page, has_more, next_page, per_page"),
    Case(
        {"paging": Paging.PAGINATION_IN_META},
        "paging",
        "`meta.pagination`: current_page, has_more, next_page, per_page",
    ),
    Case(
        {"paging": Paging.PAGINATION},
        "paging",
        "`pagination`: current_page, has_more, next_page, per_page",
    ),
    Case({"paging": Paging.HAS_MORE_ALONE}, "paging", "beside the rows: has_more"),
    Case({"paging": Paging.HAS_MORE_IN_META}, "paging", "`meta`: has_more"),
    Case({"paging": Paging.LIMIT_ALONE}, "paging", "`meta`: limit"),
    Case({"paging": Paging.CURSOR}, "paging", "`meta`: next_cursor, per_page"),
    Case({"paging": Paging.NOTHING}, "paging", "nowhere"),
    Case({}, "page_numbers", "obeyed"),
    Case({"page_cap": 1}, "page_numbers", "not known: the pages have too few contacts"),
    Case({"page_cap": 1000}, "largest_page", "not clamped"),
    Case({"page_cap": 50}, "largest_page", "clamped to 50"),
    Case({"page_cap": 3, "paging": Paging.HAS_MORE_ALONE}, "largest_page", "clamped to 3"),
    Case(
        {"page_cap": 3, "paging": Paging.NOTHING},
        "largest_page",
        "not known: the answer states no size, and may have all contacts",
    ),
    Case({}, "email_filter", "obeyed"),
    Case({"filters_work": False}, "email_filter", "ignored"),
    Case({}, "advertiser_filter", "obeyed"),
    Case({"owner_as_slug": True}, "advertiser_filter", "obeyed"),
    Case({"filters_work": False}, "advertiser_filter", "ignored"),
    Case({}, "single_contact", "no: 404 for a listed contact"),
    Case({"has_contact_operation": True}, "single_contact", "yes"),
    Case({}, "advertiser_contacts", "yes"),
    Case({"has_advertiser_contacts": False}, "advertiser_contacts", "no: 404"),
    Case({}, "advertiser_contacts_unrated", "none seen"),
    Case({"lists_own_unrated": True}, "advertiser_contacts_unrated", "yes"),
    Case(
        {"has_advertiser_contacts": False},
        "advertiser_contacts_unrated",
        "not known: GET /advertisers/{id}/contacts?per_page was answered with 404",
    ),
    Case({"mark": Mark.PUBLISHER}, "mark", "`publisher_name` is HiEnergy"),
    Case({"mark": Mark.NETWORK}, "mark", "`network_name` is HiEnergy"),
    Case({}, "hienergy_id", "no"),
    Case({"shows_hienergy_id": True}, "hienergy_id", "yes"),
    Case({}, "hienergy_id_filter", "ignored"),
    Case({}, "advertiser_gaps", "`display_name`; the status is `status`"),
    Case(
        {"renamed_fields": True},
        "advertiser_gaps",
        "`display_name`; the status is `program_status`",
    ),
    Case(
        {"sparse_advertisers": True},
        "advertiser_gaps",
        "`display_name`, `network_name`; no status is shown",
    ),
    Case({"error_body": ErrorBody.ENVELOPE}, "error_body", "404: `error` is an object"),
    Case({"error_body": ErrorBody.TEXT}, "error_body", "404: `error` is a text"),
    Case({"error_body": ErrorBody.JSON_API}, "error_body", "404: `errors` is a list of objects"),
    Case({"error_body": ErrorBody.RAILS}, "error_body", "404: `errors` is an object of fields"),
    Case({"error_body": ErrorBody.HTML}, "error_body", "404: HTML"),
    Case({"error_body": ErrorBody.EMPTY}, "error_body", "404: empty"),
    Case({}, "missing_operation", "404: HTML"),
    Case(
        {"has_contact_operation": True},
        "missing_operation",
        "not known: no operation that was called is missing",
    ),
    Case({}, "rate_limit", "1000 calls; with `Remaining`, `Reset`"),
    Case({"calls_per_hour": 10_000}, "rate_limit", "10000 calls; with `Remaining`, `Reset`"),
    Case({}, "rate_limit_reset", "seconds since 1970"),
    Case({"reset_in_seconds_from_now": True}, "rate_limit_reset", "seconds left"),
    Case({}, "retry_after", "not known: no call was answered with 429"),
    Case({"calls_per_hour": 3}, "retry_after", "not sent"),
    Case({"calls_per_hour": 3, "sends_retry_after": True}, "retry_after", "sent"),
    Case(
        {"calls_per_hour": 3}, "single_contact", "not known: an earlier call was answered with 429"
    ),
    Case({}, "creation", "not known: it needs --create-test-contact"),
    Case({}, "duplicates", "not known: it needs --create-test-contact", (), (REFUSES, "unknown")),
    Case({}, "dry_run", "not known: it needs --create-test-contact", (), (HONOURS, "unknown")),
    create({"creation_shows": Shown.FULL}, "creation", "201 with the contact"),
    create({"creation_shows": Shown.ID_ALONE}, "creation", "201 with the id alone"),
    create({"creation_shows": Shown.EMPTY_DATA}, "creation", "201 without a numeric id"),
    create({"creation_shows": Shown.NO_CONTENT}, "creation", "204 without a numeric id"),
    create({}, "new_contact_owner", "another one"),
    create({"shows_owner": False}, "new_contact_owner", "not shown"),
    create(
        {"creation_shows": Shown.NO_CONTENT}, "new_contact_owner", "not known: the answer has no id"
    ),
    create({}, "new_contact_times", "not shown"),
    create({"shows_times": True}, "new_contact_times", "shown"),
    create({"shows_times": True, "shows_days": True}, "new_contact_times", "not shown"),
    create({}, "new_contact_by_email", NOT_LISTED),
    create(RATED, "new_contact_by_email", "at once"),
    create({**RATED, "list_lag": 2}, "new_contact_by_email", "after 0.01 s"),
    create({**RATED, "filters_work": False}, "new_contact_by_email", "at once"),
    create(
        {"filters_work": False, "page_cap": 1},
        "new_contact_by_email",
        "not known: the list has more than one page",
    ),
    create({}, "new_contact_of_submitted", NOT_LISTED),
    create({"lists_own_unrated": True}, "new_contact_of_submitted", NOT_LISTED),
    create(
        {"lists_own_unrated": True, "finds_by_network_record": True},
        "new_contact_of_submitted",
        "at once",
    ),
    create({"lists_own_unrated": True}, "new_contact_of_owner", "at once"),
    create({}, "new_contact_of_owner", NOT_LISTED),
    create(
        {"shows_owner": False},
        "new_contact_of_owner",
        "not known: the answer to the creation shows no advertiser",
    ),
    create(
        {"has_advertiser_contacts": False},
        "new_contact_of_submitted",
        "not known: GET /advertisers/{id}/contacts?email&per_page was answered with 404",
    ),
    create(
        {},
        "new_contact_rating",
        "not known: no answer shows it, and `GET /contacts` does not list it",
    ),
    create(RATED, "new_contact_rating", "not shown, but `GET /contacts` lists the contact"),
    repeat({"duplicates": Duplicates.CREATED_AGAIN}, "201: a second contact", "no"),
    repeat({"duplicates": Duplicates.CONFLICT}, REFUSED_WITH_409, "yes"),
    repeat(
        {"duplicates": Duplicates.CONFLICT_WITH_CONTACT},
        f"{REFUSED_WITH_409}, with the contact",
        "yes",
    ),
    repeat(
        {"duplicates": Duplicates.TAKEN_ENVELOPE}, "refused with 422: `error` is an object", "yes"
    ),
    repeat(
        {"duplicates": Duplicates.TAKEN_RAILS},
        "refused with 422: `errors` is an object of fields",
        "yes",
    ),
    repeat({"duplicates": Duplicates.TAKEN_FLAT}, "refused with 422: an object of fields", "yes"),
    repeat(
        {"duplicates": Duplicates.TAKEN_SENTENCES},
        "refused with 422: `errors` is a list of texts",
        "yes",
    ),
    repeat(
        {"duplicates": Duplicates.TAKEN_POINTER},
        "refused with 422: `errors` is a list of objects",
        "yes",
    ),
    repeat(
        {"duplicates": Duplicates.TAKEN_FIELDS},
        "refused with 422: `errors` is a list of objects",
        "yes",
    ),
    repeat({"duplicates": Duplicates.MERGED}, "200 with the first contact", "yes"),
    repeat(
        {"duplicates": Duplicates.MERGED, "shows_times": True},
        "200 with the first contact, updated",
        "yes",
    ),
    repeat({"duplicates": Duplicates.RETURNED}, "200 with the first contact", "yes"),
    repeat(
        {"duplicates": Duplicates.RETURNED, "status_of_repeat": 201, "shows_times": True},
        "201 with the first contact, unchanged",
        "yes",
    ),
    repeat(
        {"duplicates": Duplicates.RETURNED, "creation_shows": Shown.NO_CONTENT},
        "not known: the answer has no id, and no list shows two contacts",
        "unknown",
    ),
    repeat({"creation_shows": Shown.NO_CONTENT, **RATED}, "204: a second contact", "no"),
    create({}, "dry_run", "not known: it needs --try-dry-run", (HONOURS, "unknown")),
    dry_run({"dry_run": DryRun.IGNORED}, "ignored: 201 with a contact", "no"),
    dry_run({"dry_run": DryRun.MESSAGE}, "honoured: 200 says `dry_run`", "yes"),
    dry_run({"dry_run": DryRun.GATEWAY}, "honoured: 200 says `dry_run`", "yes"),
    dry_run({"dry_run": DryRun.GATEWAY, "root_key": True}, "honoured: 200 says `dry_run`", "yes"),
    dry_run(
        {"dry_run": DryRun.IGNORED, "creation_shows": Shown.NO_CONTENT},
        "not known: 204 without a numeric id or `dry_run`",
        "unknown",
    ),
    dry_run({"creation_shows": Shown.NO_CONTENT, **RATED}, "ignored: 204 with a contact", "no"),
]
# No call of the check shows them.
NOT_CHECKED: Final = {"domain_search", "honours_idempotency_key", "status_of_bad_input"}


def is_enum(kind: object) -> TypeGuard[type[Enum]]:
    return isinstance(kind, type) and issubclass(kind, Enum)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a new contact three times without long pauses."""
    monkeypatch.setattr(calls, "LOOK_AFTER_SECONDS", (0.0, 0.01, 0.02))


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIENERGY_API_KEY", KEY)


def fill(hienergy: HiEnergy) -> None:
    """Add contacts of two advertisers, one of them unrated."""
    for number in range(5):
        hienergy.add(
            f"c{number}@example.com",
            1001 if number else 1002,
            name="Buyer",
            given_name="Buyer",
            job_title="Buyer",
            source="import",
            status="active",
        )
    hienergy.add("unrated@example.com", 1001, rating=0, name="Unrated")


@asynccontextmanager
async def filled(**traits: Json) -> AsyncIterator[HiEnergy]:
    ticks = count()
    async with fake_hienergy(Traits(**traits)) as hienergy:
        # No two events have the same time.
        hienergy.now = lambda: datetime.now(UTC) + timedelta(milliseconds=next(ticks))
        fill(hienergy)
        yield hienergy


@pytest.fixture
def check_api(run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> CheckApi:
    """Return a function that runs the command against an API, and reads its report."""

    async def run_check(url: str, *arguments: str) -> Checked:
        monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", url)
        # The command has an event loop of its own.
        result = await asyncio.to_thread(
            run, "upstream", "check", "--report", "report.json", *arguments
        )
        file = folder / "report.json"
        report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        found = {each["key"]: each["found"] for each in report.get("findings", ())}
        return Checked(result, found, report.get("settings", {}))

    return run_check


class TestFindings:
    @pytest.mark.usefixtures("key")
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.key}: {case.found[:40]}")
    async def test_each_trait_is_found(self, check_api: CheckApi, case: Case) -> None:
        async with filled(**case.traits) as hienergy:
            checked = await check_api(hienergy.url, *case.arguments)

        assert checked.result.exit_code == 0
        assert checked.found[case.key] == case.found
        if case.setting is not None:
            name, value = case.setting
            assert checked.settings[name] == value
            assert f"{name}={value}\n" in checked.result.stdout

    def test_the_table_has_every_switch_of_the_fake(self) -> None:
        switched = {name for case in CASES for name in case.traits}
        values = {value for case in CASES for value in case.traits.values()}
        checked = {
            each.name: each.type
            for each in dataclasses.fields(Traits)
            if each.name not in NOT_CHECKED
        }
        members = {member for kind in checked.values() if is_enum(kind) for member in kind}

        assert switched == checked.keys()
        assert members <= values

    @pytest.mark.usefixtures("key")
    async def test_a_clock_that_differs(self, check_api: CheckApi) -> None:
        async with filled() as hienergy:
            hienergy.now = lambda: datetime.now(UTC) - timedelta(days=2)
            checked = await check_api(hienergy.url)

        assert checked.found["clock"].startswith("1728")
        assert checked.found["clock"].endswith(" s behind this machine")

    @pytest.mark.usefixtures("key")
    async def test_an_empty_hienergy_answers_few_questions(self, check_api: CheckApi) -> None:
        async with fake_hienergy() as hienergy:
            checked = await check_api(hienergy.url)

        assert checked.result.exit_code == 0
        assert checked.found["envelope"] == "`data`"
        assert checked.found["times"] == "not known: no contact was listed"
        assert checked.found["single_contact"] == "not known: no contact is listed"
        assert (
            checked.found["advertiser_filter"]
            == "not known: no listed contact shows its advertiser"
        )

    @pytest.mark.usefixtures("key")
    async def test_every_settings_line_is_a_setting(
        self,
        check_api: CheckApi,
        folder: Path,
    ) -> None:
        async with filled() as hienergy:
            checked = await check_api(hienergy.url, *DRY_RUN)

        _, _, lines = checked.result.stdout.partition("Settings that follow:\n")
        (folder / ".env").write_text(lines, encoding="utf-8")
        loaded = load_settings()
        assert (loaded.upstream_refuses_duplicates, loaded.upstream_honours_dry_run) == ("no", "no")

    @pytest.mark.usefixtures("key")
    async def test_the_page_shows_lines_that_are_printed(self, check_api: CheckApi) -> None:
        (shown,) = (
            block.text.splitlines()
            for block in blocks_of(ROOT / "docs" / "upstream.md")
            if block.text.startswith("A page of 1000 contacts")
        )
        async with filled() as hienergy:
            checked = await check_api(hienergy.url)

        assert set(shown) <= set(checked.result.stdout.splitlines())


class TestCalls:
    @pytest.mark.usefixtures("key")
    async def test_without_a_test_contact_it_sends_twelve_reads_at_most(
        self, check_api: CheckApi
    ) -> None:
        async with filled() as hienergy:
            await check_api(hienergy.url)

        assert {request.method for request in hienergy.requests} == {"GET"}
        assert len(hienergy.requests) == 12
        assert not [one for one in hienergy.requests if "schema" in one.target]

    @pytest.mark.usefixtures("key")
    async def test_a_test_contact_is_created_twice_and_the_dry_run_has_another_address(
        self, check_api: CheckApi
    ) -> None:
        async with filled() as hienergy:
            checked = await check_api(hienergy.url, *DRY_RUN)

        posts = [request for request in hienergy.requests if request.method == "POST"]
        first, second, third = (json.loads(request.body)["contact"] for request in posts)
        assert first == second
        assert (first["advertiser_id"], first["email"]) == (2001, NEW)
        assert third == {**first, "email": "maya+dry-run@example.com"}
        assert [request.target.partition("?")[2] for request in posts] == ["", "", "dry_run=true"]
        # The repeat is sent at once, before any read.
        methods = "".join(request.method[0] for request in hienergy.requests)
        assert methods.count("PP") == 1
        assert "maya@example.com, twice, and maya+dry-run@example.com" in checked.result.stderr

    @pytest.mark.usefixtures("key")
    async def test_an_address_that_is_listed_is_not_created(self, check_api: CheckApi) -> None:
        async with filled() as hienergy:
            hienergy.add(NEW.upper())
            checked = await check_api(hienergy.url, *DRY_RUN)

        reason = "not known: the address has a contact already; use another one"
        assert {checked.found[name] for name in ("creation", "duplicates", "dry_run")} == {reason}
        assert hienergy.creations == []

    @pytest.mark.usefixtures("key")
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (Fault.SERVER_ERROR_AFTER, "POST /contacts was answered with 500"),
            (Fault.BAD_GATEWAY_AFTER, "POST /contacts was answered with 502"),
            (Fault.CLOSED_AFTER, "POST /contacts was not answered"),
        ],
    )
    async def test_a_creation_without_an_answer_is_not_repeated(
        self, check_api: CheckApi, fault: Fault, reason: str
    ) -> None:
        async with filled() as hienergy:
            hienergy.faults.append(fault)
            checked = await check_api(hienergy.url, *DRY_RUN)

        assert checked.result.exit_code == 0
        assert checked.found["creation"] == f"not known: {reason}"
        assert checked.found["duplicates"] == "not known: the creation did not succeed"
        assert len(hienergy.creations) == 1

    async def test_a_members_key_reads_and_its_creation_is_refused(
        self,
        check_api: CheckApi,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HIENERGY_API_KEY", MEMBER_KEY)
        async with filled() as hienergy:
            checked = await check_api(hienergy.url, *CREATE)

        assert checked.result.exit_code == 0
        assert checked.found["creation"] == "refused with 403"
        assert checked.settings[REFUSES] == "unknown"

    @pytest.mark.usefixtures("key")
    async def test_a_refused_first_creation_says_nothing_of_duplicates(
        self, check_api: CheckApi
    ) -> None:
        async with filled(duplicates=Duplicates.CONFLICT) as hienergy:
            hienergy.add(NEW, rating=0)
            checked = await check_api(hienergy.url, *CREATE)

        assert checked.found["creation"] == REFUSED_WITH_409
        assert checked.found["duplicates"] == "not known: the creation did not succeed"

    @pytest.mark.usefixtures("key")
    async def test_nothing_is_sent_without_a_confirmation(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with filled() as hienergy:
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)
            arguments = ["upstream", "check", "--create-test-contact", "2001", NEW]
            result = await asyncio.to_thread(CliRunner().invoke, main, arguments, "n\n")

        assert result.exit_code == 1
        assert f"This creates contacts on advertiser 2001 at {hienergy.url}" in result.stderr
        assert hienergy.requests == []

    @pytest.mark.usefixtures("key")
    async def test_a_confirmation_creates(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with filled() as hienergy:
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)
            arguments = ["upstream", "check", "--create-test-contact", "2001", NEW]
            result = await asyncio.to_thread(CliRunner().invoke, main, arguments, "y\n")

        assert result.exit_code == 0
        assert len(hienergy.creations) == 2


class TestErrors:
    def test_without_the_url_the_setting_is_named(self, run: Command) -> None:
        result = run("upstream", "check")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: CONTACT_GATEWAY_UPSTREAM_URL is not set.")

    @pytest.mark.parametrize("value", [None, "", "  "])
    def test_without_a_key_the_variable_is_named(
        self, run: Command, monkeypatch: pytest.MonkeyPatch, value: str | None
    ) -> None:
        monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "http://127.0.0.1:1/api/v1")
        monkeypatch.delenv("HIENERGY_API_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("HIENERGY_API_KEY", value)

        result = run("upstream", "check")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: HIENERGY_API_KEY is not set.")

    def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(
        self, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "http://127.0.0.1:1/api/v1")
        monkeypatch.setenv("HIENERGY_API_KEY", "secret\r\nX-Other: 1")

        result = run("upstream", "check")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: HIENERGY_API_KEY: ")
        assert "secret" not in result.stderr

    async def test_a_refused_key(
        self, check_api: CheckApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HIENERGY_API_KEY", "wrong-key")
        async with filled() as hienergy:
            checked = await check_api(hienergy.url, *CREATE)

        assert (checked.result.exit_code, checked.result.stdout) == (1, "")
        assert checked.result.stderr.endswith(
            "Error: HIENERGY_API_KEY: HiEnergy refuses the key with 401.\n"
        )
        assert len(hienergy.requests) == 1

    @pytest.mark.usefixtures("key")
    async def test_a_key_without_calls_left(self, check_api: CheckApi) -> None:
        async with filled(calls_per_hour=0) as hienergy:
            checked = await check_api(hienergy.url)

        assert checked.result.exit_code == 1
        assert checked.result.stderr.startswith("Error: HIENERGY_API_KEY: the key has no calls")

    @pytest.mark.usefixtures("key")
    async def test_an_unreachable_host(self, check_api: CheckApi) -> None:
        with closing(socket.socket()) as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/api/v1"
            checked = await check_api(url)

        assert (checked.result.exit_code, checked.result.stdout) == (1, "")
        assert checked.result.stderr.startswith(
            "Error: CONTACT_GATEWAY_UPSTREAM_URL: HiEnergy's API does not answer: "
        )
        assert checked.result.stderr.endswith(" Connection refused.\n")

    @pytest.mark.usefixtures("key")
    @pytest.mark.parametrize(
        "answer",
        [
            recorded(200, "<h1>Welcome</h1>", media_type="text/html"),
            recorded(404, "<h1>Not found</h1>", media_type="text/html"),
            recorded(301, headers={"Location": "https://www.example.com/"}),
        ],
        ids=["a page", "404", "a redirect"],
    )
    async def test_the_url_of_another_site(self, check_api: CheckApi, answer: Recording) -> None:
        async with recorded_upstream(lambda _: answer) as upstream:
            checked = await check_api(upstream.url)

        assert (checked.result.exit_code, checked.result.stdout) == (1, "")
        assert checked.result.stderr.startswith(
            "Error: CONTACT_GATEWAY_UPSTREAM_URL: GET /contacts is answered with "
        )
        assert len(upstream.requests) == 1

    @pytest.mark.usefixtures("key")
    @pytest.mark.parametrize(
        "arguments",
        [
            ("--try-dry-run",),
            ("--create-test-contact", "2001", "maya"),
            ("--create-test-contact", "0", NEW),
            ("--create-test-contact", "northwind", NEW),
            ("--report", "missing/report.json"),
            ("--report", "."),
            ("--key", "secret"),
        ],
        ids=" ".join,
    )
    def test_wrong_options_are_usage_errors(self, run: Command, arguments: tuple[str, ...]) -> None:
        result = run("upstream", "check", *arguments)

        assert (result.exit_code, result.stdout) == (2, "")


def marked(value: Json) -> Json:
    """Return a JSON value with a marker for each text and number in it."""
    match value:
        case None | bool():
            return value
        case str():
            return f"marker-{value}@marker.example"
        case int() | float():
            return 770_000_000_000 + int(value)
        case list():
            return [marked(item) for item in value]
        case _:
            return {name: marked(member) for name, member in value.items()}


@dataclass(frozen=True, slots=True)
class Marked:
    """A HiEnergy whose answers have a marker in each header, and in each value if `everywhere`.

    It is down for one call.
    """

    hienergy: HiEnergy
    everywhere: bool
    down_at: int
    calls: Iterator[int] = field(default_factory=count)

    def answer(self, request: Request) -> Recording:
        if next(self.calls) == self.down_at:
            # Without a long `Retry-After`, a read is repeated.
            return recorded(503, headers={"Retry-After": "77", "X-Request-Id": "marker"})
        head, _, body = self.hienergy.answer(request).raw.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        is_json = b"application/json" in head
        if self.everywhere and is_json:
            body = json.dumps(marked(json.loads(body))).encode()
        headers = dict.fromkeys(("Server", "Via", "Retry-After", "Date", "X-Request-Id"), "marker")
        headers |= {"Set-Cookie": "marker=marker", "X-RateLimit-Limit": "marker"}
        media_type = "application/json" if is_json else "text/html; charset=marker"
        return recorded(status, body, media_type=media_type, headers=headers)


def fill_with_markers(hienergy: HiEnergy) -> None:
    for number in range(4):
        contact = hienergy.add(
            f"marker-{number}@marker.example",
            1002 if number else 1001,
            name="marker",
            phone="+77 0000 0000",
            job_title="marker",
            linkedin_profile_url="https://marker.example/marker",
        )
        contact.id = 770_000_000_000 + number


TRAITS: Final = st.builds(
    Traits,
    **{
        each.name: st.sampled_from(each.type) if is_enum(each.type) else st.booleans()
        for each in dataclasses.fields(Traits)
        if each.type is bool or is_enum(each.type)
    },
)


class TestReport:
    @settings(max_examples=40)
    @given(traits=TRAITS, everywhere=st.booleans(), down_at=st.integers(1, 40))
    def test_it_has_no_value_of_hienergy(
        self,
        traits: Traits,
        everywhere: bool,  # noqa: FBT001 - an example
        down_at: int,
    ) -> None:
        report = asyncio.run(self.report(traits, everywhere=everywhere, down_at=down_at))

        assert "findings" in report
        for secret in ("marker", "7700000", "77 0000", KEY, "maya", "127.0.0.1", "2001", "1002"):
            assert secret not in report
        assert "northwind" not in report.lower()

    async def report(self, traits: Traits, *, everywhere: bool, down_at: int) -> str:
        hienergy = HiEnergy(traits)
        fill_with_markers(hienergy)
        trial = TrialContact(2001, NEW, tries_dry_run=True)
        async with (
            recorded_upstream(Marked(hienergy, everywhere, down_at).answer) as upstream,
            UpstreamClient(
                upstream.url, timeout_seconds=WATCHDOG_SECONDS, max_connections=1
            ) as client,
        ):
            result = await check(client.send, Credential.of(KEY), trial)
            return json.dumps(report_of(result, upstream.url))

    @pytest.mark.usefixtures("key")
    async def test_it_has_statuses_header_names_field_names_and_types(
        self, check_api: CheckApi, folder: Path
    ) -> None:
        async with filled() as hienergy:
            await check_api(hienergy.url)

        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        first = report["calls"][0]
        assert first["call"] == "GET /contacts?page&per_page"
        assert first["status"] == 200
        assert "Date, X-RateLimit-Limit" in first["headers"]
        assert first["types"]["data[].attributes.email"] == "text"
        assert first["types"]["data[].attributes.phone"] == "null"
        assert report["versions"].keys() == {"contact-gateway", "python"}

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("https://app.hienergy.ai/api/v1", "app.hienergy.ai"),
            ("https://hienergy.ai/api/v1", "hienergy.ai"),
            ("https://nothienergy.ai/api/v1", "another host"),
            ("https://hienergy.ai.example.com/api/v1", "another host"),
        ],
    )
    def test_it_has_hienergys_host_alone(self, url: str, host: str) -> None:
        assert report_of(CheckResult((), {}, ()), url)["host"] == host

    @pytest.mark.usefixtures("key")
    async def test_a_name_that_may_be_data_is_left_out(
        self, check_api: CheckApi, folder: Path
    ) -> None:
        row = {"id": 1, "attributes": {"maya@example.com": 1, "notes": {"maya": 1}, "email": NEW}}
        answer = recorded(200, json.dumps({"data": [row], "Maya Smith": 1}))
        async with recorded_upstream(lambda _: answer) as upstream:
            checked = await check_api(upstream.url)

        report = (folder / "report.json").read_text(encoding="utf-8")
        assert checked.result.exit_code == 0
        assert '"data[].attributes.notes": "object"' in report
        assert "maya" not in report.lower()


def read_until(screen: FileIO, end: bytes | None) -> bytes:
    """Read what a process shows in a terminal, until some text or until it ends."""
    shown = b""
    while end is None or end not in shown:
        assert select.select([screen], [], [], WATCHDOG_SECONDS)[0], shown
        try:
            shown += screen.read(1024) or b""
        except OSError as error:
            # Linux reports so that the process has closed its side.
            if error.errno != errno.EIO:
                raise
            break
    return shown


class TestProcess:
    async def test_a_pipe_gets_a_line_for_each_finding(self, folder: Path) -> None:
        async with filled() as hienergy:
            ended = await asyncio.to_thread(self.run_process, folder, hienergy.url)

        lines, _, follow = ended.stdout.partition("\n\n")
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""
        assert "Envelope of a document | `data` | As documented." in lines.splitlines()
        assert follow == f"Settings that follow:\n{REFUSES}=unknown\n{HONOURS}=unknown\n"

    async def test_a_terminal_gets_a_table_and_is_asked_for_the_key(self, folder: Path) -> None:
        async with filled() as hienergy:
            shown = await asyncio.to_thread(self.run_in_terminal, folder, hienergy.url)

        assert "HiEnergy API key" in shown
        assert "Question" in shown
        assert "┃" in shown
        assert "…" not in shown
        assert KEY not in shown
        assert hienergy.requests[0].headers["x-api-key"] == KEY

    def run_process(self, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            COMMAND,
            cwd=folder,
            env={
                **clean_environment(),
                "CONTACT_GATEWAY_UPSTREAM_URL": url,
                "HIENERGY_API_KEY": KEY,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=WATCHDOG_SECONDS,
            check=False,
        )

    def run_in_terminal(self, folder: Path, url: str) -> str:
        environment = {**clean_environment(), "CONTACT_GATEWAY_UPSTREAM_URL": url, "TERM": "xterm"}
        environment.pop("HIENERGY_API_KEY", None)
        controller, terminal = pty.openpty()
        with (
            os.fdopen(controller, "r+b", buffering=0) as screen,
            subprocess.Popen(
                COMMAND,
                cwd=folder,
                env=environment,
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
            ) as process,
        ):
            os.close(terminal)
            shown = read_until(screen, b"HiEnergy API key: ")
            screen.write(f"{KEY}\n".encode())
            shown += read_until(screen, None)
            assert process.wait(WATCHDOG_SECONDS) == 0, shown
        return shown.decode()
