"""The encoding of a file of contacts, recognised by its first bytes.

A Windows spreadsheet saves CSV as Windows-1252 or UTF-8, and "Unicode text" as UTF-16.
"""

import codecs
import io
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from contact_gateway.contact_files.rows import MAX_ROW_LENGTH, ContactFileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_SIZE: Final = 2**20
"""How many bytes the encoding is recognised by: the first ones of a longer file."""

# The offset of the surrogates that stand for undecodable bytes, as in PEP 383.
_SURROGATES: Final = 0xDC00
_KEEP_BYTES: Final = "contact_gateway.keep_bytes"
_UTF_16_SAMPLE: Final = 512


class Encoding(StrEnum):
    """An encoding, by its name for people, which Python's codecs know too."""

    UTF_8 = "UTF-8"
    UTF_16_LE = "UTF-16 LE"
    UTF_16_BE = "UTF-16 BE"
    WINDOWS_1252 = "Windows-1252"


_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF8: Encoding.UTF_8,
    codecs.BOM_UTF16_LE: Encoding.UTF_16_LE,
    codecs.BOM_UTF16_BE: Encoding.UTF_16_BE,
}
# A spreadsheet's own formats: a ZIP archive, and a compound file of before 2007.
_WORKBOOKS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


class DecodedFile(NamedTuple):
    """The lines of a file, each with its line end. A byte that is no text is a lone surrogate."""

    encoding: Encoding
    lines: Iterator[str]


def decoded(file: BinaryIO) -> DecodedFile:
    """Return the lines of a buffered file, which may be a pipe.

    A line of more than `MAX_ROW_LENGTH` characters is cut after the next one.

    Raises:
        ContactFileError: the file is a workbook, or cannot be read.
    """
    head = read_part(file, HEAD_SIZE)
    if head.startswith(_WORKBOOKS):
        raise ContactFileError("The file is a workbook. Save it as CSV (UTF-8) and import that.")
    mark, encoding = next(
        (each for each in _BYTE_ORDER_MARKS.items() if head.startswith(each[0])), (b"", None)
    )
    if encoding is None:
        encoding = _recognised(head)
    start = io.BytesIO(head[len(mark) :])
    joined = ReadingFile(lambda size: start.read(size) or read_part(file, size))
    text = io.TextIOWrapper(io.BufferedReader(joined), encoding, errors=_KEEP_BYTES, newline="")
    return DecodedFile(encoding, _lines(text))


def read_part(file: BinaryIO, size: int) -> bytes:
    """Return so many bytes of a buffered file, or what is left of it.

    Raises:
        ContactFileError: the file cannot be read, for example because of a lost network drive.
    """
    try:
        return file.read(size)
    except OSError as error:
        raise ContactFileError(f"The file cannot be read: {error.strerror}.") from error


class ReadingFile(io.RawIOBase):
    """A file whose bytes a function reads: at most a number of them, and none at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read bytes into a buffer; return how many."""
        view = memoryview(buffer)
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)


def why_undecodable(text: str, encoding: Encoding) -> str | None:
    """Return the sentence that says which byte of the text is not in the encoding, or None."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - _SURROGATES
        return f"The byte 0x{byte:02X} is not {encoding}. Save the file as UTF-8."
    return None


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that are no text into a lone surrogate, which no encoding here decodes to.

    The handler `surrogateescape` fails on UTF-16, and "strict" does not say which line is wrong.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return chr(_SURROGATES + error.object[error.start]), error.end


codecs.register_error(_KEEP_BYTES, _keep_bytes)


def _recognised(head: bytes) -> Encoding:
    """Return the encoding of a file without a byte order mark."""
    sample = head[:_UTF_16_SAMPLE]
    zeros_first, zeros_second = (sample[start::2].count(0) for start in (0, 1))
    # Text that is not UTF-16 has no zero bytes, and delimiters and line ends have one in UTF-16.
    if max(zeros_first, zeros_second) > len(sample) // 4:
        if not zeros_first:
            return Encoding.UTF_16_LE
        if not zeros_second:
            return Encoding.UTF_16_BE
    is_whole = len(head) < HEAD_SIZE
    text = codecs.getincrementaldecoder("utf-8")(_KEEP_BYTES).decode(head, is_whole)
    ascii_only = len(text.encode("ascii", "ignore"))
    wrong = len(text) - len(text.encode("utf-8", "ignore").decode())
    correct = len(text) - ascii_only - wrong
    # One wrong byte in a text that is otherwise UTF-8 is an error, and not Windows-1252.
    if wrong <= correct:
        return Encoding.UTF_8
    try:
        head.decode(Encoding.WINDOWS_1252)
    except UnicodeDecodeError:
        return Encoding.UTF_8
    return Encoding.WINDOWS_1252


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines, which end with CR, LF or both."""
    while line := text.readline(MAX_ROW_LENGTH + 1):
        yield line
        while len(line) > MAX_ROW_LENGTH and not line.endswith(("\r", "\n")):
            line = text.readline(MAX_ROW_LENGTH + 1)
