"""The commands `contact-gateway attempts`: creations in HiEnergy whose outcome is unknown."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from sqlalchemy import Connection

from contact_gateway import output
from contact_gateway.command_line import (
    JsonOption,
    minute,
    print_table,
    timestamp,
    with_database,
)
from contact_gateway.contacts.fields import MAX_ID
from contact_gateway.contacts.ledger import Attempt
from contact_gateway.settings import load_settings
from contact_gateway.store import ledger as ledger_rows

attempts = typer.Typer(
    help="Settle creations in HiEnergy whose outcome is unknown.", no_args_is_help=True
)

_ID_DIGITS: Final = 12


@attempts.command("list")
def list_attempts(
    show_addresses: Annotated[
        bool, typer.Option("--show-addresses", help="Show the contacts' e-mail addresses.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """List the creations in HiEnergy whose outcome is unknown, the oldest first."""
    now = datetime.now(UTC)
    opened = with_database(
        load_settings(), lambda database: database.read(ledger_rows.open_attempts)
    )
    if json_output:
        output.write_json(
            [
                {
                    "id": key.hex()[:_ID_DIGITS],
                    "sent_at": timestamp(attempt.sent_at),
                    "advertiser_id": attempt.advertiser_id,
                    "state": _state(attempt, now),
                    **({"email": attempt.email} if show_addresses else {}),
                }
                for key, attempt in opened
            ]
        )
        return
    rows = (
        (
            key.hex()[:_ID_DIGITS],
            minute(attempt.sent_at),
            _age(now - attempt.sent_at),
            str(attempt.advertiser_id),
            _state(attempt, now),
            *((attempt.email,) if show_addresses else ()),
        )
        for key, attempt in opened
    )
    address = ("Address",) if show_addresses else ()
    print_table(("ID", "Sent", "Age", "Advertiser", "State", *address), rows)


@attempts.command("settle")
def settle_attempt(
    attempt_id: Annotated[str, typer.Argument(metavar="ID", help="As `attempts list` shows it.")],
    contact: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_ID, help="The id of the contact that it created in HiEnergy."),
    ] = None,
    not_created: Annotated[
        bool, typer.Option("--not-created", help="It created no contact in HiEnergy.")
    ] = False,
) -> None:
    """Record what became of a creation whose outcome is unknown. Look for it in HiEnergy first."""
    # It would be the beginning of every id.
    if not attempt_id:
        raise typer.BadParameter("It is empty.", param_hint="'ID'")
    if (contact is None) != not_created:
        raise typer.BadParameter("Use either --contact UPSTREAM_ID or --not-created.")

    def settle(connection: Connection) -> str | None:
        """Settle the attempt, or return why it cannot be settled."""
        now = datetime.now(UTC)
        opened = [
            each
            for each in ledger_rows.open_attempts(connection)
            if each.key.hex().startswith(attempt_id.lower())
        ]
        if not opened:
            return f"No open attempt {attempt_id}. Run `contact-gateway attempts list`."
        if len(opened) > 1:
            return f"Several attempts begin with {attempt_id}. Use more digits."
        attempt = opened[0].attempt
        if attempt.is_in_flight(now) or (contact is None and attempt.held_until > now):
            return (
                f"HiEnergy may still be processing attempt {attempt_id}. Try again in two minutes."
            )
        ledger_rows.settle(connection, opened[0], contact)
        return None

    problem = with_database(load_settings(), lambda database: database.write(settle))
    if problem is not None:
        output.fail(problem)
    message = (
        f"Settled attempt {attempt_id}: no contact was created. Its key may create one now."
        if contact is None
        else f"Settled attempt {attempt_id}: it created contact {contact}."
    )
    output.note(message)


def _state(attempt: Attempt, now: datetime) -> str:
    if attempt.is_unnamed:
        return "created, id unknown"
    return "in flight" if attempt.is_in_flight(now) else "answer lost"


def _age(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"
