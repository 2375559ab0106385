"""The commands `contact-gateway keys`: API keys, their rotation and revocation."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Final, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from contact_gateway import output
from contact_gateway.access.api_keys import Rotation, RotationRefusal, mint, rotate
from contact_gateway.access.principals import Role
from contact_gateway.command_line import (
    JsonOption,
    minute,
    or_dash,
    print_table,
    timestamp,
    with_own_database,
)
from contact_gateway.contacts.fields import MAX_ID, RequiredText
from contact_gateway.contacts.problems import problems_of
from contact_gateway.store import api_keys as key_rows

keys = typer.Typer(help="Manage API keys.", no_args_is_help=True)

_LABEL: Final = TypeAdapter(RequiredText)
_DURATION: Final = re.compile(r"0|(?P<number>[0-9]{1,6})(?P<unit>[smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_OVERLAP: Final = timedelta(days=365)
_ROTATION_REFUSALS: Final = {
    RotationRefusal.REVOKED: "is revoked. Create another with `contact-gateway keys create`.",
    RotationRefusal.EXPIRED: "has expired. Create another with `contact-gateway keys create`.",
    RotationRefusal.OVERLAP: (
        "has two valid secrets already. Wait until the old one ends (`contact-gateway keys list`), "
        "or use --overlap 0 to end both now."
    ),
}

_KeyId = Annotated[
    int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="As `keys list` shows it.")
]


def _validated_label(text: str) -> str:
    try:
        return _LABEL.validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(problems_of(error)[0].message) from None


@keys.command("create")
def create_key(
    role: Annotated[Role, typer.Option(help="Admins create contacts; members read.")],
    label: Annotated[
        str, typer.Option(help="Name of the key's owner, for lists.", callback=_validated_label)
    ],
    expires_in_days: Annotated[
        int | None,
        typer.Option(min=1, max=36500, help="Days until the key expires; never by default."),
    ] = None,
) -> None:
    """Create an API key and print it. It cannot be printed again."""
    minted = mint()
    expires_at = _days_from(datetime.now(UTC), expires_in_days)

    def add(connection: Connection) -> int:
        key_id = key_rows.add(connection, minted, role=role, label=label, expires_at=expires_at)
        # Printed before the commit, so that a key that cannot be shown is not created.
        output.write(f"{minted.text}\n")
        return key_id

    key_id = with_own_database(lambda database: database.write(add))
    output.note(f"Created key {key_id} ({role}, {label}). It is not shown again.")


def _days_from(now: datetime, days: int | None) -> datetime | None:
    return None if days is None else now + timedelta(days=days)


def _overlap_of(text: str) -> timedelta:
    """Return the duration that a text such as `30m`, `24h` or `7d` stands for."""
    match = _DURATION.fullmatch(text)
    if match is not None:
        overlap = timedelta(**{_UNITS[match["unit"] or "s"]: int(match["number"] or 0)})
        if overlap <= _MAX_OVERLAP:
            return overlap
    raise typer.BadParameter(
        f"Use 0 or a number with a unit, such as 30m, 24h or 7d, up to {_MAX_OVERLAP.days}d.",
        param_hint="'--overlap'",
    )


@keys.command("rotate")
def rotate_key(
    key_id: _KeyId,
    overlap: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How long the old secret still works, such as 30m, 24h or 7d; 0 ends it now.",
        ),
    ] = "24h",
    expires_in_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=36500,
            help="Days until the key expires; by default its date does not change.",
        ),
    ] = None,
) -> None:
    """Give an API key a new secret and print it. Everything else about the key stays the same."""
    duration = _overlap_of(overlap)

    def replace(connection: Connection) -> Rotation | RotationRefusal | None:
        record = key_rows.by_id(connection, [key_id]).get(key_id)
        if record is None:
            return None
        now = datetime.now(UTC)
        rotation = rotate(record, duration, now, _days_from(now, expires_in_days))
        if isinstance(rotation, Rotation):
            key_rows.replace_secret(connection, rotation.record)
            # Before the commit, as in `keys create`.
            output.write(f"{rotation.minted.text}\n")
        return rotation

    rotation = with_own_database(lambda database: database.write(replace))
    if rotation is None:
        _fail_without_key(key_id)
    if isinstance(rotation, RotationRefusal):
        output.fail(f"Key {key_id} {_ROTATION_REFUSALS[rotation]}")
    rotated = rotation.record
    end = f"works until {minute(rotated.old_secret_expires_at)}" if duration else "ends now"
    note = (
        f"Rotated key {rotated.id} ({rotated.role}, {rotated.label}). "
        f"The new secret is not shown again, and the old one {end}."
    )
    if rotated.expires_at is not None:
        note += f" The key expires on {minute(rotated.expires_at)}."
    output.note(note)


def _fail_without_key(key_id: int) -> NoReturn:
    output.fail(f"There is no key {key_id}. Run `contact-gateway keys list`.")


@keys.command("list")
def list_keys(json_output: JsonOption = False) -> None:
    """List all API keys, without their secrets."""
    records = with_own_database(lambda database: database.read(key_rows.all_keys))
    if json_output:
        output.write_json(
            [
                {
                    "id": key.id,
                    "role": key.role,
                    "label": key.label,
                    "created_at": timestamp(key.created_at),
                    "last_used_on": key.last_used_on and key.last_used_on.isoformat(),
                    "expires_at": timestamp(key.expires_at),
                    "old_secret_expires_at": timestamp(key.old_secret_expires_at),
                    "revoked_at": timestamp(key.revoked_at),
                }
                for key in records
            ]
        )
        return
    rows = (
        (
            str(key.id),
            key.role,
            key.label,
            minute(key.created_at),
            or_dash(key.last_used_on),
            minute(key.expires_at),
            minute(key.old_secret_expires_at),
            minute(key.revoked_at),
        )
        for key in records
    )
    times = ("Created", "Last used", "Expires", "Old secret until", "Revoked")
    print_table(("ID", "Role", "Label", *times), rows)


@keys.command("revoke")
def revoke_key(key_id: _KeyId) -> None:
    """Revoke an API key permanently, with both secrets of a rotation."""
    revoke = partial(key_rows.revoke, key_id=key_id)
    before = with_own_database(lambda database: database.write(revoke))
    if before is None:
        _fail_without_key(key_id)
    message = (
        f"Revoked key {key_id}."
        if before.revoked_at is None
        else f"Key {key_id} was already revoked on {minute(before.revoked_at)}."
    )
    output.note(message)
