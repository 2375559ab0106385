"""A PostgreSQL server for one run, with the durability of its defaults."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import servers
from benchmarks.servers import BenchmarkError

_USER: Final = "postgres"
_OPTIONS: Final = (
    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
    *("-c", "max_connections=200", "-c", "shared_buffers=1GB", "-c", "max_wal_size=4GB"),
)


@contextmanager
def postgresql(core: int, folder: Path | None = None) -> Iterator[str]:
    """Run a server on a core; yield the URL of its database `postgres`.

    Args:
        core: where its processes run.
        folder: keeps its data for the next run. By default they are removed.

    Raises:
        BenchmarkError: PostgreSQL is not installed, or does not start.
    """
    if folder is None:
        with (
            TemporaryDirectory(prefix="postgresql-") as temporary,
            _running(core, Path(temporary)) as url,
        ):
            yield url
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with _running(core, folder) as url:
            yield url


@contextmanager
def _running(core: int, folder: Path) -> Iterator[str]:
    data, log, port = folder / "data", folder / "log", servers.free_port()
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        shutil.chown(folder, _USER)
    if not (data / "PG_VERSION").exists():
        _run("initdb", "--pgdata", str(data), "--auth=trust", "--username", _USER, "--no-sync")
    options = " ".join((*_OPTIONS, "-p", str(port)))
    control = ("pg_ctl", "--pgdata", str(data), "--wait")
    pinned = (servers.tool("taskset", "util-linux"), "--cpu-list", str(core))
    _run(*control, "--log", str(log), "--options", options, "start", before=pinned)
    try:
        yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
    finally:
        _run(*control, "--mode", "fast", "stop")


def _run(program: str, *words: str, before: tuple[str, ...] = ()) -> None:
    """Run one of PostgreSQL's programs, as its own user if this one is root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise BenchmarkError("PostgreSQL is missing. Install Debian's package postgresql.")
    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        group = pwd.getpwnam(_USER).pw_gid
        as_user = (
            *(servers.tool("setpriv", "util-linux"), f"--reuid={_USER}", f"--regid={group}"),
            "--clear-groups",
        )
    command = (*before, *as_user, str(programs[-1] / program), *words)
    # Its output would keep a pipe open as long as the server runs.
    done = subprocess.run(  # noqa: S603 - the commands are the benchmarks' own
        command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{program} failed with status {done.returncode}.")
