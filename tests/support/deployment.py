"""The files in `deploy/`, with and without their options."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from contact_gateway.server.stopping import CLOSING_SECONDS
from contact_gateway.settings import SECRETS, Settings
from contact_gateway.variables import PREFIX
from support.documentation import ROOT

DEPLOY: Final = ROOT / "deploy"


def with_options(text: str) -> str:
    """Return a file with the lines that are commented out: those of `#name`, and below them."""
    return re.sub(r"^( *)#(?=\S|  )", r"\1", text, flags=re.MULTILINE)


# Any: YAML is what the assertions say that it is.
def documents(path: Path, *, options: bool) -> list[Any]:
    """Return the documents of a YAML file."""
    text = path.read_text(encoding="utf-8")
    loaded = yaml.safe_load_all(with_options(text) if options else text)
    return list(loaded)


def settings_of(environment: dict[str, str]) -> Settings:
    """Return the settings that the gateway has with an environment. An unknown one fails."""
    names = {name: name.removeprefix(PREFIX).lower() for name in environment}
    given = {names[name]: value for name, value in environment.items() if name.startswith(PREFIX)}
    files = {name for name in given if name.removesuffix("_file") in SECRETS}
    return Settings.model_validate({name: given[name] for name in given.keys() - files})


def seconds_of_stop(settings: Settings) -> float:
    """Return the time that a stop may take."""
    return settings.shutdown_seconds + CLOSING_SECONDS
