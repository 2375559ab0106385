"""A file has its name only when it is complete."""

import os
import stat
from pathlib import Path

import pytest

from contact_gateway.contact_files.new_file import FileError, new_file


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    with new_file(tmp_path / "contacts.csv", overwrite=False) as file:
        file.write("Séoul\r\n")
        assert "contacts.csv" not in _names(tmp_path)

    assert _names(tmp_path) == ["contacts.csv"]
    assert (tmp_path / "contacts.csv").read_bytes() == "Séoul\r\n".encode()
    assert stat.S_IMODE((tmp_path / "contacts.csv").stat().st_mode) == 0o600


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_file_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "contacts.csv").write_text("old", encoding="utf-8")

    def write() -> None:
        with new_file(tmp_path / "contacts.csv", overwrite=True) as file:
            file.write("new")
            raise error

    with pytest.raises(error):
        write()

    assert _names(tmp_path) == ["contacts.csv"]
    assert (tmp_path / "contacts.csv").read_text(encoding="utf-8") == "old"


def test_an_interrupt_after_the_rename_leaves_the_complete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def replace_and_interrupt(file: Path, target: Path) -> None:
        replace(file, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace_and_interrupt)

    with (
        pytest.raises(KeyboardInterrupt),
        new_file(tmp_path / "contacts.csv", overwrite=False) as file,
    ):
        file.write("new")

    assert (tmp_path / "contacts.csv").read_text(encoding="utf-8") == "new"


def test_an_existing_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    target = tmp_path / "contacts.csv"
    target.write_text("old", encoding="utf-8")

    with (
        pytest.raises(FileError, match=r"contacts\.csv exists\. Use --force to replace it"),
        new_file(target, overwrite=False),
    ):
        pass
    assert target.read_text(encoding="utf-8") == "old"
    with new_file(target, overwrite=True) as file:
        file.write("new")
    assert target.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("kind", ["pipe", "link", "dangling link", "folder"])
def test_only_regular_files_are_replaced(tmp_path: Path, kind: str) -> None:
    target, linked = tmp_path / "contacts.csv", tmp_path / "linked.csv"
    match kind:
        case "pipe":
            os.mkfifo(target)
        case "folder":
            target.mkdir()
        case _:
            target.symlink_to(linked)
    if kind == "link":
        linked.write_text("old", encoding="utf-8")
    before = _names(tmp_path)

    with (
        pytest.raises(FileError, match="is not a regular file"),
        new_file(target, overwrite=True),
    ):
        pass

    assert _names(tmp_path) == before


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing/contacts.csv", "No such file or directory"),
        (f"{'a' * 300}.csv", "File name too long"),
    ],
    ids=["folder", "name"],
)
def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(FileError, match=message), new_file(tmp_path / target, overwrite=False):
        pass


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with new_file(tmp_path / "contacts.csv", overwrite=False) as file:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, file.fileno())
            os.close(full)
            file.write("new")

    with pytest.raises(FileError, match="No space left on device"):
        write()

    assert _names(tmp_path) == []
