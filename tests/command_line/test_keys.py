"""`contact-gateway keys`: create, list without secrets, revoke permanently."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from support.process import Command

pytestmark = pytest.mark.usefixtures("database_url")

KEY = re.compile(r"cgw_[0-9A-Za-z]{50}")


@pytest.mark.parametrize("role", ["admin", "member"])
def test_create_prints_the_key_alone_on_standard_output(run: Command, role: str) -> None:
    result = run("keys", "create", "--role", role, "--label", "the importer")

    assert result.exit_code == 0
    assert KEY.fullmatch(result.stdout.removesuffix("\n"))
    assert f"Created key 1 ({role}, the importer)" in result.stderr
    assert not KEY.search(result.stderr)


def test_keys_are_unique(run: Command) -> None:
    keys = {run("keys", "create", "--role", "admin", "--label", "x").stdout for _ in range(3)}

    assert len(keys) == 3


def test_list_shows_all_keys_and_no_part_of_a_secret(run: Command) -> None:
    keys = [
        run("keys", "create", "--role", role, "--label", f"of {role}").stdout.strip()
        for role in ("admin", "member")
    ]

    result = run("keys", "list")

    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["1", "admin", "of", "admin"],
        ["2", "member", "of", "member"],
    ]
    for key in keys:
        pieces = {key[start : start + 8] for start in range(len("cgw_"), len(key) - 7)}
        assert not [piece for piece in pieces if piece in result.stdout]


def test_list_is_a_json_array_on_request(run: Command) -> None:
    run("keys", "create", "--role", "admin", "--label", "Café", "--expires-in-days", "1")
    run("keys", "create", "--role", "member", "--label", "b")
    run("keys", "revoke", "2")

    one, two = json.loads(run("keys", "list", "--json").stdout)

    assert {**one, "created_at": "", "expires_at": ""} == {
        "id": 1,
        "role": "admin",
        "label": "Café",
        "created_at": "",
        "last_used_on": None,
        "expires_at": "",
        "old_secret_expires_at": None,
        "revoked_at": None,
    }
    created_at, expires_at = (
        datetime.strptime(one[name], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        for name in ("created_at", "expires_at")
    )
    assert created_at < expires_at <= created_at + timedelta(days=1, seconds=1)
    assert (two["id"], two["expires_at"]) == (2, None)
    assert two["revoked_at"].endswith("Z")


def test_list_prints_each_key_on_one_line(run: Command) -> None:
    run("keys", "create", "--role", "admin", "--label", "wide 宽 " * 36)

    assert len(run("keys", "list").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    "label",
    [
        "Café Zürich",
        pytest.param("[team] importer", id="in brackets"),
        pytest.param("[/]", id="a closing tag"),
        pytest.param(":smile:", id="an emoji's name"),
    ],
)
def test_list_shows_labels_unchanged(run: Command, label: str) -> None:
    run("keys", "create", "--role", "admin", "--label", label)

    assert label in run("keys", "list").stdout


def test_a_key_expires_after_the_given_days(run: Command) -> None:
    before = datetime.now(UTC).replace(second=0, microsecond=0)
    run("keys", "create", "--role", "admin", "--label", "x", "--expires-in-days", "30")
    after = datetime.now(UTC)

    *_, day, minute, _, _ = run("keys", "list").stdout.split()

    expires_at = datetime.fromisoformat(f"{day} {minute}+00:00")
    assert before <= expires_at - timedelta(days=30) <= after


def test_revoke_shows_in_the_list_and_affects_no_other_key(run: Command) -> None:
    for label in ("one", "two"):
        run("keys", "create", "--role", "admin", "--label", label)

    result = run("keys", "revoke", "1")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Revoked key 1.\n"
    one, two = run("keys", "list").stdout.splitlines()[1:]
    assert not one.rstrip().endswith("-")
    assert two.rstrip().endswith("-")


def test_revoking_twice_does_not_change_the_time(run: Command) -> None:
    run("keys", "create", "--role", "admin", "--label", "x")
    run("keys", "revoke", "1")
    listed = run("keys", "list").stdout

    result = run("keys", "revoke", "1")

    assert result.exit_code == 0
    assert "Key 1 was already revoked on " in result.stderr
    assert run("keys", "list").stdout == listed


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_key_is_an_error(run: Command, command: str) -> None:
    result = run("keys", command, "41")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no key 41." in result.stderr
    assert "contact-gateway keys list" in result.stderr


def _listed(run: Command) -> list[dict[str, str | None]]:
    keys: list[dict[str, str | None]] = json.loads(run("keys", "list", "--json").stdout)
    return keys


def _time(text: str | None) -> datetime:
    assert text is not None
    return datetime.fromisoformat(text)


def test_rotate_prints_the_new_key_alone_and_changes_nothing_else(run: Command) -> None:
    old = run("keys", "create", "--role", "admin", "--label", "x", "--expires-in-days", "30").stdout
    (before,) = _listed(run)

    result = run("keys", "rotate", "1")

    (after,) = _listed(run)
    assert result.exit_code == 0
    assert KEY.fullmatch(result.stdout.removesuffix("\n"))
    assert result.stdout != old
    assert "Rotated key 1 (admin, x). " in result.stderr
    assert "the old one works until " in result.stderr
    assert "The key expires on " in result.stderr
    assert not KEY.search(result.stderr)
    assert after == {**before, "old_secret_expires_at": after["old_secret_expires_at"]}


@pytest.mark.parametrize(
    ("options", "overlap"),
    [
        pytest.param((), timedelta(hours=24), id="by default"),
        pytest.param(("--overlap", "90s"), timedelta(seconds=90), id="seconds"),
        pytest.param(("--overlap", "30m"), timedelta(minutes=30), id="minutes"),
        pytest.param(("--overlap", "36h"), timedelta(hours=36), id="hours"),
        pytest.param(("--overlap", "7d"), timedelta(days=7), id="days"),
        pytest.param(("--overlap", "0"), timedelta(), id="none"),
        pytest.param(("--overlap", "0h"), timedelta(), id="no hours"),
    ],
)
def test_the_old_secret_works_for_the_overlap(
    run: Command, options: tuple[str, ...], overlap: timedelta
) -> None:
    run("keys", "create", "--role", "admin", "--label", "x")
    before = datetime.now(UTC).replace(microsecond=0)

    result = run("keys", "rotate", "1", *options)

    (key,) = _listed(run)
    ends_at = _time(key["old_secret_expires_at"])
    assert before <= ends_at - overlap <= datetime.now(UTC)
    assert f"{ends_at:%Y-%m-%d %H:%M}" in run("keys", "list").stdout
    assert ("the old one ends now" in result.stderr) is not bool(overlap)


def test_a_rotation_may_set_another_expiry(run: Command) -> None:
    run("keys", "create", "--role", "admin", "--label", "x", "--expires-in-days", "1")
    (before,) = _listed(run)

    run("keys", "rotate", "1", "--overlap", "7d", "--expires-in-days", "90")

    (after,) = _listed(run)
    assert _time(after["expires_at"]) > datetime.now(UTC) + timedelta(days=89)
    assert after["old_secret_expires_at"] == before["expires_at"]


def test_a_second_rotation_is_refused_during_the_overlap_unless_it_ends_both(run: Command) -> None:
    run("keys", "create", "--role", "admin", "--label", "x")
    run("keys", "rotate", "1")
    listed = _listed(run)

    refused = run("keys", "rotate", "1", "--overlap", "1h")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "Key 1 has two valid secrets already." in refused.stderr
    assert _listed(run) == listed
    assert run("keys", "rotate", "1", "--overlap", "0").exit_code == 0


def test_a_revoked_key_is_not_rotated(run: Command) -> None:
    run("keys", "create", "--role", "admin", "--label", "x")
    run("keys", "revoke", "1")

    result = run("keys", "rotate", "1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Key 1 is revoked." in result.stderr


def test_in_front_of_upstream_a_rotation_is_refused(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are HiEnergy's there."""
    monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "http://127.0.0.1:1/api/v1")
    result = run("keys", "rotate", "1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "CONTACT_GATEWAY_UPSTREAM_URL" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(("create", "--role", "owner", "--label", "x"), "--role", id="unknown role"),
        pytest.param(("create", "--label", "x"), "--role", id="no role"),
        pytest.param(("create", "--role", "admin"), "--label", id="no label"),
        pytest.param(
            ("create", "--role", "admin", "--label", "x", "--expires-in-days", "0"),
            "--expires-in-days",
            id="no days",
        ),
        pytest.param(("revoke", "one"), "ID", id="not an id"),
        pytest.param(("rotate", "1", "--overlap", "24"), "--overlap", id="no unit"),
        pytest.param(("rotate", "1", "--overlap", "-1h"), "--overlap", id="negative"),
        pytest.param(("rotate", "1", "--overlap", "366d"), "--overlap", id="more than a year"),
        pytest.param(("rotate", "1", "--overlap", ""), "--overlap", id="empty"),
        pytest.param(
            ("rotate", "1", "--expires-in-days", "0"), "--expires-in-days", id="rotated for no days"
        ),
    ],
)
def test_an_invalid_argument_is_named_and_exits_with_2(
    run: Command, arguments: tuple[str, ...], named: str
) -> None:
    result = run("keys", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr


@pytest.mark.parametrize("label", ["", " ", "two\nlines", "x" * 256])
def test_a_label_that_would_break_the_list_is_refused(run: Command, label: str) -> None:
    assert run("keys", "create", "--role", "admin", "--label", label).exit_code == 2


def test_an_id_above_64_bits_is_refused_without_a_traceback(run: Command) -> None:
    result = run("keys", "revoke", "99999999999999999999")

    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
