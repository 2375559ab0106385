"""A transport without a socket, which records the calls of its methods."""

import asyncio


class RecordedTransport(asyncio.Transport):
    """Records writes, that it was closed, half-closed or aborted, and whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes | str] = []
        self.is_closed = False
        self.is_paused = False

    @property
    def written(self) -> bytes:
        """Return all bytes written so far."""
        return b"".join(call for call in self.calls if isinstance(call, bytes))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert "eof" not in self.calls, "a transport raises an error"
        self.calls.append(bytes(data))

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")
        self.is_closed = True

    def abort(self) -> None:
        self.calls.append("abort")
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """Record it only: a test decides what is received."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Likewise."""
        self.is_paused = False
