"""A container without an engine: the image's root file system, read-only, in its own namespaces."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Final, NamedTuple

import pytest

from support.clock import WATCHDOG_SECONDS
from support.documentation import ROOT
from support.process import child_processes
from support.programs import skip_or_fail

CONTAINERFILE: Final = ROOT / "deploy" / "Containerfile"
_IS_ROOT: Final = os.geteuid() == 0
# What an engine mounts. The arguments are the root, the folder for /data, and the command.
_MOUNT: Final = """
    root=$1 data=$2
    shift 2
    mount --bind "$root" "$root"
    mount --bind "$data" "$root/data"
    mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs "$root/tmp"
    mount -t tmpfs -o nosuid,noexec,mode=755 tmpfs "$root/dev"
    for device in null zero random urandom; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir -m 1777 "$root/dev/shm"
    mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs "$root/dev/shm"
    mount -o remount,bind,ro "$root"
    exec env -i "$@"
"""


class ImageConfiguration(NamedTuple):
    """What the last stage of the Containerfile says."""

    environment: Mapping[str, str]
    entrypoint: Sequence[str]
    command: Sequence[str]
    user: str
    folder: str
    labels: Mapping[str, str]


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile, each with its arguments."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    parted = (line.partition(" ") for line in lines if line)
    return [(name, arguments) for name, _, arguments in parted]


def configuration() -> ImageConfiguration:
    """Return the configuration of the image that the Containerfile makes."""
    stage: dict[str, str] = {}
    for name, arguments in instructions():
        if name == "FROM":
            stage.clear()
        stage[name] = arguments
    environment, labels = (
        dict(pair.split("=", 1) for pair in shlex.split(stage[name])) for name in ("ENV", "LABEL")
    )
    return ImageConfiguration(
        environment,
        json.loads(stage["ENTRYPOINT"]),
        json.loads(stage["CMD"]),
        stage["USER"],
        stage["WORKDIR"],
        labels,
    )


class Container:
    """A running container. The gateway is its first process."""

    def __init__(
        self, process: subprocess.Popen[str], image: ImageConfiguration, log_file: Path
    ) -> None:
        self._process = process
        self._image = image
        self._log_file = log_file

    @property
    def id(self) -> int:
        """Return the id of the first process, as it is outside of the container."""
        (first,) = child_processes(self._process.pid)
        return first

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a further command in the container, as its engine would."""
        uid, gid = self._image.user.split(":")
        namespaces = ("--mount", "--pid", "--root", "--wd")
        identity = (
            ("--setuid", uid, "--setgid", gid) if _IS_ROOT else ("--user", "--preserve-credentials")
        )
        environment = Path(f"/proc/{self.id}/environ").read_text(encoding="utf-8")
        return subprocess.run(
            (
                *(_program("nsenter"), "--target", str(self.id), *namespaces, *identity, "--"),
                *(*self._image.entrypoint, *arguments),
            ),
            env=dict(pair.split("=", 1) for pair in environment.split("\0") if pair),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=WATCHDOG_SECONDS,
            check=False,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the first process; return its exit status."""
        os.kill(self.id, number)
        return self._process.wait(WATCHDOG_SECONDS)

    def status(self) -> Mapping[str, str]:
        """Return the fields of the first process's `/proc/…/status`."""
        lines = Path(f"/proc/{self.id}/status").read_text(encoding="utf-8").splitlines()
        parted = (line.partition(":") for line in lines)
        return {name: value.strip() for name, _, value in parted}

    def log(self) -> str:
        """Return the text that the container has written to standard error."""
        return self._log_file.read_text(encoding="utf-8")


@contextmanager
def serving(
    root: Path, data: Path, *options: str, environment: Mapping[str, str]
) -> Iterator[Container]:
    """Run the image's command with options until it announces its address."""
    image = configuration()
    log_file = data.parent / "container.log"
    command = _command(root, data, (*image.entrypoint, *image.command, *options), environment)
    with (
        log_file.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        ) as process,
    ):
        container = Container(process, image, log_file)
        try:
            assert _announces(process), container.log()
            yield container
        finally:
            # The death of its first process ends all processes of a container.
            if process.poll() is None:
                for first in child_processes(process.pid):
                    os.kill(first, signal.SIGKILL)


def ran(
    root: Path, data: Path, *command: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as the only process of a container."""
    return subprocess.run(
        _command(root, data, command, environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )


def require_namespaces() -> None:
    """Skip where no namespaces can be made."""
    tried = subprocess.run(
        (*_outside(), _program("unshare"), "--pid", "--fork", *_identity("65532:65532"), "true"),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if sys.platform != "linux" or tried.returncode != 0:
        skip_or_fail(f"namespaces cannot be made: {tried.stderr.strip()}")


def lasting_port() -> int:
    """Return a port that is free, and is not given to connections while no container listens."""
    for number in range(20_000 + os.getpid() % 10_000, 32_768):
        with closing(socket.socket()) as tried, suppress(OSError):
            tried.bind(("127.0.0.1", number))
            return number
    pytest.fail("no port is free")


def make_data_folder(folder: Path) -> Path:
    """Make a folder for /data that belongs to the user of the container."""
    folder.mkdir(mode=0o700)
    if _IS_ROOT:
        uid, gid = configuration().user.split(":")
        os.chown(folder, int(uid), int(gid))
    return folder


def _command(
    root: Path, data: Path, command: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    """Return the command that mounts, changes the root and the user, and runs the command."""
    image = configuration()
    variables = {**image.environment, **environment}
    return [
        *_outside(),
        *("/bin/sh", "-euc", _MOUNT, "sh", str(root), str(data)),
        *(f"{name}={value}" for name, value in variables.items()),
        *(_program("setpriv"), "--no-new-privs"),
        *(_program("unshare"), "--mount", "--pid", "--fork", "--mount-proc"),
        *("--root", str(root), "--wd", image.folder, *_identity(image.user), "--"),
        *command,
    ]


def _outside() -> tuple[str, ...]:
    own_user = () if _IS_ROOT else ("--user", "--map-root-user")
    return (_program("unshare"), *own_user, "--mount")


def _identity(user: str) -> tuple[str, ...]:
    """Return the options for this user, who has no rights outside of the container."""
    uid, gid = user.split(":")
    if _IS_ROOT:
        return ("--setuid", uid, "--setgid", gid)
    return ("--user", f"--map-user={uid}", f"--map-group={gid}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        skip_or_fail(f"{name} is not installed")
    return found


def _announces(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    # Killing a silent process ends its output, and so the wait for a line.
    watchdog = Timer(WATCHDOG_SECONDS, process.kill)
    watchdog.start()
    try:
        return any(line.startswith("REST") for line in process.stdout)
    finally:
        watchdog.cancel()
