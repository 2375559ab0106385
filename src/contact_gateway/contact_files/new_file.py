"""A file that gets its name only when it is complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class FileError(RuntimeError):
    """A file cannot be read or written. The message says which one and why."""


@contextmanager
def new_file(target: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    """Open a temporary file in UTF-8 beside the target, which it becomes durably at the end.

    After an exception, nothing is left of it. Only its owner may read it.

    Raises:
        FileError: the target exists, is no regular file, or cannot be written.
    """
    with errors_of(target):
        check_target(target, overwrite=overwrite)
        descriptor, name = tempfile.mkstemp(".partial", f"{target.name}.", target.parent)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                yield file
                complete(file, partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a complete file may get the name of the target.

    Raises:
        FileError: the target exists, or is no regular file.
    """
    # A rename would replace a device or a link itself, such as /dev/null and /dev/stdout.
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise FileError(f"{target} is not a regular file. Name another file")
    if target.exists() and not overwrite:
        raise FileError(f"{target} exists. Use --force to replace it")


def complete(file: IO[str], partial: Path, target: Path) -> None:
    """Give an open file its name, durably, in place of its partial one."""
    file.flush()
    os.fsync(file.fileno())
    partial.replace(target)


@contextmanager
def errors_of(target: Path) -> Iterator[None]:
    """Raise `FileError` for what the operating system refuses."""
    try:
        yield
    except OSError as error:
        # The error's own name may be that of the partial file.
        raise FileError(f"{target}: {error.strerror}") from error
