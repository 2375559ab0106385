"""The report of a check, for bug reports: it has no key, name, address, id or text of upstream."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from contact_gateway.upstream.check.answers import Answer
from contact_gateway.upstream.check.calls import Result
from contact_gateway.upstream.check.shapes import header_names, names_and_types

_HIENERGY_HOST: Final = "hienergy.ai"


def report_of(result: Result, url: str) -> Mapping[str, object]:
    """Return a report as JSON values, without anything that identifies a person or a key."""
    host = urlsplit(url).hostname or ""
    is_hienergy = host == _HIENERGY_HOST or host.endswith(f".{_HIENERGY_HOST}")
    return {
        "versions": {
            "contact-gateway": version("contact-gateway"),
            "python": platform.python_version(),
        },
        "host": host if is_hienergy else "another host",
        "findings": [
            {"key": one.key, "question": one.question, "found": one.found, "means": one.means}
            for one in result.findings
        ],
        "settings": dict(result.settings),
        "calls": [_call_of(answer) for answer in result.answers],
    }


def _call_of(answer: Answer) -> Mapping[str, object]:
    response = answer.response
    if response is None:
        return {"call": answer.asked, "failure": answer.reason}
    return {
        "call": answer.asked,
        "status": response.status,
        "headers": ", ".join(header_names(response)),
        "types": names_and_types(response.body),
    }
