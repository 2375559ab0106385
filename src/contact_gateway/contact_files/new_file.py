"""A file that gets its name only when it is complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class NewFileError(RuntimeError):
    """A file cannot be written. The message says which one and why."""


@contextmanager
def new_file(target: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    """Open a temporary file in UTF-8 beside the target, which it becomes durably at the end.

    After an exception, nothing is left of it. Only its owner may read it.

    Raises:
        NewFileError: the target exists, is no regular file, or cannot be written.
    """
    with errors_of(target):
        # A rename would replace a device or a link itself, such as /dev/null and /dev/stdout.
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise NewFileError(f"{target} is not a regular file. Name another file")
        if target.exists() and not overwrite:
            raise NewFileError(f"{target} exists. Use --force to replace it")
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            newline="",
            dir=target.parent,
            prefix=f"{target.name}.",
            suffix=".partial",
            delete=False,
        ) as partial:
            try:
                yield partial.file
                complete(partial.file, Path(partial.name), target)
            except BaseException:
                Path(partial.name).unlink(missing_ok=True)
                raise


def complete(file: IO[str], partial: Path, target: Path) -> None:
    """Give an open file its name, durably, in place of its partial one."""
    file.flush()
    os.fsync(file.fileno())
    partial.replace(target)


@contextmanager
def errors_of(target: Path) -> Iterator[None]:
    """Raise `NewFileError` for what the operating system refuses."""
    try:
        yield
    except OSError as error:
        raise NewFileError(f"{target}: {error.strerror}") from error
