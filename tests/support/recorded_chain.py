"""A gateway in this process, in front of an upstream that answers what was recorded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from contact_gateway.settings import Settings
from support.recorded_upstream import Answering, RecordedUpstream, recorded_upstream
from support.running_gateway import Gateway, database_url, serving

KEY: Final = "hienergy-key"
_KEYS: Final = dict.fromkeys(
    ("admin", "other_admin", "member", "expired", "revoked", "unknown"), KEY
)


@asynccontextmanager
async def recorded_chain(
    answering: Answering, folder: Path, *, timeout_seconds: float = 5.0, **settings: object
) -> AsyncIterator[tuple[Gateway, RecordedUpstream]]:
    """Serve with a ledger in a folder."""
    async with recorded_upstream(answering) as upstream:
        own = {
            "database_url": database_url(folder),
            "upstream_url": upstream.url,
            "upstream_timeout_seconds": timeout_seconds,
            **settings,
        }
        async with serving(Settings.model_validate(own), database_url(folder), _KEYS) as gateway:
            yield gateway, upstream
