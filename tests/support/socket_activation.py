"""Sockets passed to a gateway as systemd passes them."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.gateway import Store
from support.process import GatewayProcess, gateway_process


@contextmanager
def activated(
    folder: Path,
    *listeners: socket.socket,
    options: Sequence[str] = (),
    store: Store | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[GatewayProcess]:
    """Run the gateway on these sockets."""
    descriptors = [each.fileno() for each in listeners]
    with gateway_process(
        folder,
        *options,
        address=(),
        listeners=descriptors,
        store=store,
        environment=environment,
    ) as process:
        yield process
