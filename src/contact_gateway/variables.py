"""The gateway's variables: of the environment, of a `.env` file, and of files with secrets."""

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from enum import StrEnum
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from dotenv.parser import Binding

PREFIX: Final = "CONTACT_GATEWAY_"
_ENV_FILE: Final = Path(".env")
_OWN_LINE: Final = re.compile(rf"\s*(?:export\s+)?{PREFIX}", re.IGNORECASE)
# Kubernetes injects these into every pod beside a service, here one named `contact-gateway` or
# `contact-gateway-…`: https://kubernetes.io/docs/concepts/services-networking/service/
_OF_A_SERVICE: Final = re.compile(
    r"(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)"
)
_SERVICE_PORT: Final = re.compile(r"(?:.+_)?PORT")
_SERVICE_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


class SettingsError(ValueError):
    """A setting is unknown or invalid. The message names it and says what is wrong."""


class Source(StrEnum):
    """Where the value of a setting comes from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    ENV_FILE = ".env"
    FILE = "file"


class Variable(NamedTuple):
    """A variable that is set, under the name that the operator gave it."""

    name: str
    value: str
    source: Source


def read_variables(settings: Collection[str], secrets: Collection[str]) -> dict[str, Variable]:
    """Return the variables that are set, by the name of their setting. An empty one is not set.

    Args:
        settings: the names of all settings, in lower case and without the prefix.
        secrets: those that may also be read from a file, which `…_FILE` names.

    Raises:
        SettingsError: a variable is unknown, or a file cannot be read.
    """
    files = {secret: f"{secret}_file" for secret in secrets}
    known = {*settings, *files.values()}
    found = _platform_variables()
    for source, values in ((Source.ENV_FILE, _env_file()), (Source.ENVIRONMENT, os.environ)):
        given = _own(values, source)
        _refuse_unknown(given, known, settings)
        for secret, file in files.items():
            if secret in given and file in given:
                raise SettingsError(
                    f"{given[secret].name} and {given[file].name} are both set. Unset one."
                )
            if file in given:
                given[secret] = given.pop(file)._replace(source=Source.FILE)
        found |= given
    return {
        setting: _content(variable) if variable.source is Source.FILE else variable
        for setting, variable in found.items()
    }


def read_named(settings: Collection[str]) -> dict[str, Variable]:
    """Return those of some settings that are set, as `read_variables` does. Ignore all others.

    Raises:
        SettingsError: the file `.env` cannot be read.
    """
    found = (
        _platform_variables()
        | _own(_env_file(), Source.ENV_FILE)
        | _own(os.environ, Source.ENVIRONMENT)
    )
    return {name: variable for name, variable in found.items() if name in settings}


def _platform_variables() -> dict[str, Variable]:
    """Return `HOST` and `PORT` as hosting platforms set them: an IP address and a number."""
    found = {}
    host, port = (os.environ.get(name, "").strip() for name in ("HOST", "PORT"))
    # Other programs use both names too: conda sets HOST to a compiler's target, csh to a name.
    with suppress(ValueError):
        ip_address(host)
        found["host"] = Variable("HOST", host, Source.ENVIRONMENT)
    if port.isdecimal():
        found["port"] = Variable("PORT", port, Source.ENVIRONMENT)
    return found


def _own(values: Mapping[str, str], source: Source) -> dict[str, Variable]:
    """Return the gateway's variables, by their names in lower case and without the prefix."""
    found = {}
    # Where a name is given in several cases, the one in upper case wins.
    for name in sorted(values, key=str.isupper):
        bare, value = name.upper().removeprefix(PREFIX), values[name].strip()
        is_of_a_service = _OF_A_SERVICE.fullmatch(bare) or (
            _SERVICE_PORT.fullmatch(bare) and _SERVICE_ADDRESS.match(value)
        )
        if bare != name.upper() and value and not is_of_a_service:
            found[bare.lower()] = Variable(name, value, source)
    return found


def _refuse_unknown(
    given: Mapping[str, Variable], known: Collection[str], settings: Collection[str]
) -> None:
    for bare in sorted(given.keys() - known):
        # Compared without the prefix, which would make any two names similar.
        nearest = get_close_matches(bare, known, n=1)
        names = ", ".join(f"{PREFIX}{each.upper()}" for each in sorted(settings))
        advice = (
            f"Did you mean {PREFIX}{nearest[0].upper()}?"
            if nearest
            else f"The settings are {names}."
        )
        raise SettingsError(f"Unknown setting {given[bare].name}. {advice}")


def _content(file: Variable) -> Variable:
    """Return the variable with the content of the file that it names."""
    try:
        value = Path(file.value).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{file.name}: cannot read {file.value}: {error.strerror}.") from None
    except ValueError:
        raise SettingsError(f"{file.name}: {file.value} is not a text in UTF-8.") from None
    if not value:
        raise SettingsError(f"{file.name}: {file.value} is empty.")
    return file._replace(value=value)


def _env_file() -> dict[str, str]:
    """Return the variables of the working directory's `.env`."""
    try:
        content = _ENV_FILE.read_bytes()
    # A folder of this name is often a virtual environment.
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(f"{_ENV_FILE}: cannot be read: {error.strerror}.") from None
    # Health checks read variables too, and mostly there is no such file.
    from dotenv import dotenv_values  # noqa: PLC0415
    from dotenv.parser import parse_stream  # noqa: PLC0415

    bindings = list(parse_stream(StringIO(_decoded(content))))
    for binding in bindings:
        _refuse_unreadable(binding)
    # The library prints a warning of its own for each line that is not of the form NAME=value.
    lines = "".join(each.original.string for each in bindings if not each.error)
    values = dotenv_values(stream=StringIO(lines))
    return {name: value for name, value in values.items() if value is not None}


def _decoded(content: bytes) -> str:
    # UTF-16 without a byte order mark is valid UTF-8 with NUL characters.
    end = content.find(b"\0")
    if end < 0:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            end = error.start
    line = content.count(b"\n", 0, end) + 1
    raise SettingsError(f"{_ENV_FILE}, line {line}: not UTF-8. Save the file in UTF-8.")


def _refuse_unreadable(binding: "Binding") -> None:
    text = binding.original.string.lstrip()
    skipped = binding.original.string[: -len(text)] if text else ""
    line = binding.original.line + skipped.count("\n")
    name = binding.key or ""
    is_readable = not binding.error and binding.value is not None and name.isidentifier()
    if not is_readable and PREFIX in (text if binding.error else name).upper():
        raise SettingsError(
            f"{_ENV_FILE}, line {line}: cannot be read. Write NAME=value, "
            "with both quotes of the value or none."
        )
    # A missing quote makes the next lines a part of the value.
    if binding.key is not None and any(map(_OWN_LINE.match, text.splitlines()[1:])):
        raise SettingsError(
            f"{_ENV_FILE}, line {line}: the value includes the settings of the lines below. "
            "Add the quote that is missing."
        )
