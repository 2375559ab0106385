"""nginx and Caddy, configured as docs/operating.md says, in front of gateways."""

import grp
import os
import pwd
import re
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from support.clock import WATCHDOG_SECONDS
from support.documentation import ROOT, blocks_of
from support.programs import free_port, skip_or_fail

_PATHS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
_UPSTREAM = re.compile(r"^upstream .*?^}\n", re.MULTILINE | re.DOTALL)
UNIX_SOCKET = "/run/contact-gateway/gateway.sock"
"""The socket that the documentation names."""


def _documented(name: str) -> str:
    """Return a file that the documentation shows."""
    (text,) = (
        block.text
        for block in blocks_of(ROOT / "docs" / "operating.md")
        if block.notes.get("file") == name
    )
    return text


def _replaced(text: str, old: str, new: str) -> str:
    """Return a text with the only occurrence of `old` replaced."""
    assert text.count(old) == 1, f"{old!r} is not once in {text}"
    return text.replace(old, new)


class ReverseProxy(ABC):
    """A reverse proxy in a folder of its own.

    Args:
        folder: an empty folder.
    """

    program: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @abstractmethod
    def configure(self, *gateways: str | Path) -> None:
        """Write the configuration, for gateways at these URLs or Unix sockets."""

    @abstractmethod
    def _command(self, program: str) -> tuple[str, ...]: ...

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    @contextmanager
    def running(self) -> Iterator[None]:
        program = shutil.which(self.program, path=_PATHS)
        if program is None:
            skip_or_fail(f"{self.program} is not installed")
        log = self._folder / "log"
        with (
            log.open("w", encoding="utf-8") as file,
            subprocess.Popen(
                self._command(program), stderr=file, env=self._environment()
            ) as self._process,
        ):
            try:
                self._wait()
                yield
            finally:
                self._process.terminate()

    @retry(
        retry=retry_if_exception_type(httpx.ConnectError),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(WATCHDOG_SECONDS),
    )
    def _wait(self) -> None:
        assert self._process.poll() is None, (self._folder / "log").read_text("utf-8")
        httpx.get(self.url, timeout=WATCHDOG_SECONDS, trust_env=False)

    def client(self, address: str = "127.0.0.1") -> httpx.Client:
        """Return a client with this address, and with a connection for each request.

        nginx closes idle connections of clients when it is reloaded, which may meet a request.
        """
        limits = httpx.Limits(max_keepalive_connections=0)
        transport = httpx.HTTPTransport(local_address=address, trust_env=False, limits=limits)
        return httpx.Client(base_url=self.url, timeout=WATCHDOG_SECONDS, transport=transport)


class Nginx(ReverseProxy):
    program = "nginx"

    def configure(self, *gateways: str | Path) -> None:
        site = _replaced(_documented("nginx.conf"), "listen 8080", f"listen 127.0.0.1:{self._port}")
        (upstream,) = _UPSTREAM.findall(site)
        site = _replaced(site, upstream, self._upstream(upstream, gateways))
        temporary = "".join(
            f"{kind}_temp_path {self._folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "nginx.conf").write_text(
            f"daemon off;\npid {self._folder}/pid;\n{_user()}error_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n",
            encoding="utf-8",
        )

    def _upstream(self, documented: str, gateways: Sequence[str | Path]) -> str:
        if isinstance(gateways[0], Path):
            return _replaced(_documented("upstream.conf"), UNIX_SOCKET, str(gateways[0]))
        servers = (f"    server {httpx.URL(str(each)).netloc.decode()};\n" for each in gateways)
        return re.sub(r"(    server .*;\n)+", "".join(servers), documented)

    def _command(self, program: str) -> tuple[str, ...]:
        return (program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf"))

    def reload(self) -> None:
        """Load the configuration again. Workers with the earlier one finish their requests."""
        self._process.send_signal(signal.SIGHUP)


def _user() -> str:
    """Return the line by which nginx keeps this user, who owns the gateway's Unix socket."""
    if os.geteuid() != 0:
        return ""
    user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(os.getegid()).gr_name
    return f"user {user} {group};\n"


class Caddy(ReverseProxy):
    program = "caddy"

    def configure(self, *gateways: str | Path) -> None:
        """Write the configuration without TLS, for which Caddy would ask for a certificate."""
        site = _replaced(_documented("Caddyfile"), "api.example.com {", f"{self.url} {{")
        addresses = " ".join(
            f"unix/{each}" if isinstance(each, Path) else httpx.URL(each).netloc.decode()
            for each in gateways
        )
        site = _replaced(site, "127.0.0.1:8000 127.0.0.1:8001", addresses)
        (self._folder / "Caddyfile").write_text(
            f"{{\n\tadmin off\n\tauto_https off\n}}\n{site}", encoding="utf-8"
        )

    def _command(self, program: str) -> tuple[str, ...]:
        configuration = str(self._folder / "Caddyfile")
        return (program, "run", "--adapter", "caddyfile", "--config", configuration)

    def _environment(self) -> Mapping[str, str]:
        """Return an environment in which Caddy writes to its folder."""
        return {**os.environ, "HOME": str(self._folder), "XDG_DATA_HOME": str(self._folder)}
