"""The calls that each client in Python makes. The test copies this file beside each `use.py`."""

import os
import sys
from collections.abc import Callable
from typing import Protocol


class Create(Protocol):
    """Creates a contact with an e-mail address and an API key, and describes the outcome."""

    def __call__(self, email: str, key: str, *, dry_run: bool = False) -> str: ...


def run(create: Create, read: Callable[[str, str], str]) -> None:
    """Print one outcome per line. `read` takes an id and an API key."""
    email, key = sys.argv[1], os.environ["API_KEY"]
    print(create(email, key, dry_run=True))
    created = create(email, key)
    print(created)
    print(create(email, key))
    print(create("", key))
    print(create(email, "cgw_unknown"))
    print(read(created.removeprefix("contact "), key))
