import codecs
import errno
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from contact_gateway.contact_files.encodings import (
    HEAD_SIZE,
    DecodedFile,
    Encoding,
    decoded,
    why_undecodable,
)
from contact_gateway.contact_files.rows import MAX_ROW_LENGTH, ContactFileError

TEXT = "email;name\r\nzoe@example.com;Zoë “Z” Müller\r\n"


def _read(data: bytes) -> tuple[Encoding, str]:
    encoding, lines = decoded(io.BytesIO(data))
    return encoding, "".join(lines)


def _faults(file: DecodedFile) -> list[tuple[int, str]]:
    return [
        (number, reason)
        for number, line in enumerate(file.lines, start=1)
        if (reason := why_undecodable(line, file.encoding))
    ]


class TestRecognition:
    @pytest.mark.parametrize(
        ("data", "encoding"),
        [
            pytest.param(TEXT.encode(), Encoding.UTF_8, id="UTF-8"),
            pytest.param(TEXT.encode("utf-8-sig"), Encoding.UTF_8, id="UTF-8 with a mark"),
            pytest.param(TEXT.encode("cp1252"), Encoding.WINDOWS_1252, id="Windows-1252"),
            pytest.param(
                codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
                Encoding.UTF_16_LE,
                id="UTF-16 LE with a mark",
            ),
            pytest.param(
                codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
                Encoding.UTF_16_BE,
                id="UTF-16 BE with a mark",
            ),
            pytest.param(TEXT.encode("utf-16-le"), Encoding.UTF_16_LE, id="UTF-16 LE"),
            pytest.param(TEXT.encode("utf-16-be"), Encoding.UTF_16_BE, id="UTF-16 BE"),
        ],
    )
    def test_the_encodings_of_spreadsheets_are_recognised(
        self, data: bytes, encoding: Encoding
    ) -> None:
        assert _read(data) == (encoding, TEXT)

    @pytest.mark.parametrize("data", [b"", b"email\n"], ids=["empty", "ASCII"])
    def test_ascii_is_utf_8(self, data: bytes) -> None:
        assert _read(data) == (Encoding.UTF_8, data.decode())

    def test_a_mark_counts_more_than_the_bytes_after_it(self) -> None:
        file = decoded(io.BytesIO(codecs.BOM_UTF8 + b"caf\xe9\n"))

        assert file.encoding is Encoding.UTF_8
        assert _faults(file) == [(1, "The byte 0xE9 is not UTF-8. Save the file as UTF-8.")]

    def test_a_windows_1252_file_may_end_with_a_letter_that_begins_a_utf_8_sequence(self) -> None:
        assert _read(b"email,name\na@example.com,caf\xe9") == (
            Encoding.WINDOWS_1252,
            "email,name\na@example.com,café",
        )

    def test_a_letter_cut_by_the_end_of_the_first_bytes_is_utf_8(self) -> None:
        text = "a" * (HEAD_SIZE - 1) + "é\n"

        assert decoded(io.BytesIO(text.encode())).encoding is Encoding.UTF_8

    def test_zero_bytes_in_any_place_are_not_utf_16(self) -> None:
        data = b"\0\0\0a" * 100

        assert _read(data) == (Encoding.UTF_8, data.decode())

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"PK\x03\x04\x14\x00\x06\x00", id="xlsx"),
            pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", id="xls"),
        ],
    )
    def test_a_workbook_is_refused(self, data: bytes) -> None:
        with pytest.raises(ContactFileError, match="Save it as CSV"):
            decoded(io.BytesIO(data))


class TestUndecodableBytes:
    @pytest.mark.parametrize(
        ("encode", "last", "reason"),
        [
            pytest.param(str.encode, b"caf\xe9\n", "0xE9 is not UTF-8", id="UTF-8"),
            pytest.param(str.encode, b"\xed\xa0\x80\n", "0xED is not UTF-8", id="a surrogate"),
            pytest.param(str.encode, b"caf\xc3", "0xC3 is not UTF-8", id="cut UTF-8"),
            pytest.param(
                lambda text: text.encode("cp1252"),
                b"\x81\n",
                "0x81 is not Windows-1252",
                id="Windows-1252",
            ),
            pytest.param(
                lambda text: text.encode("utf-16-le"),
                b"\x00\xdca\x00\n\x00",
                "0x00 is not UTF-16 LE",
                id="half a pair in UTF-16",
            ),
            pytest.param(
                lambda text: text.encode("utf-16-le"),
                b"a",
                "0x61 is not UTF-16 LE",
                id="cut UTF-16",
            ),
        ],
    )
    def test_they_are_reported_with_their_line_beyond_the_first_bytes(
        self, encode: Callable[[str], bytes], last: bytes, reason: str
    ) -> None:
        lines = 2 * HEAD_SIZE // len(TEXT) * 2
        file = decoded(io.BytesIO(encode(TEXT * (lines // 2)) + last))

        assert _faults(file) == [
            (lines + 1, f"The byte {reason}. Save the file as UTF-8."),
        ]

    def test_one_wrong_byte_among_utf_8_letters_is_an_error_and_not_windows_1252(self) -> None:
        file = decoded(io.BytesIO("Zoë\nMüller\n".encode() + b"caf\xe9\nJos\xe9\n"))

        assert file.encoding is Encoding.UTF_8
        assert [line for line, _ in _faults(file)] == [3, 4]

    def test_only_decoding_keeps_bytes(self) -> None:
        with pytest.raises(UnicodeEncodeError):
            "é".encode("ascii", errors="contact_gateway.keep_bytes")

    def test_bytes_that_are_neither_are_reported_as_not_utf_8(self) -> None:
        file = decoded(io.BytesIO(b"caf\xe9\n\x81\n"))

        assert [line for line, _ in _faults(file)] == [1, 2]


class TestLines:
    def test_they_end_with_any_line_end_and_with_no_other_separator(self) -> None:
        text = "a\nb\rc\r\nd\x0b\x0c\x1c\x85\u2028e"

        assert list(decoded(io.BytesIO(text.encode())).lines) == [
            "a\n",
            "b\r",
            "c\r\n",
            "d\x0b\x0c\x1c\x85\u2028e",
        ]

    def test_a_line_that_is_too_long_is_cut(self) -> None:
        first, second = decoded(io.BytesIO(b"a" * (3 * MAX_ROW_LENGTH) + b"\nb")).lines

        assert (len(first), second) == (MAX_ROW_LENGTH + 1, "b")

    def test_a_pipe_is_read_whose_writer_sends_a_byte_at_a_time(self) -> None:
        reading, writing = os.pipe()

        def write() -> None:
            with os.fdopen(writing, "wb", buffering=0) as end:
                for byte in TEXT.encode("utf-16"):
                    end.write(bytes([byte]))

        with os.fdopen(reading, "rb") as pipe, ThreadPoolExecutor() as pool:
            pool.submit(write)
            assert "".join(decoded(pipe).lines) == TEXT

    @pytest.mark.parametrize("size", [0, HEAD_SIZE])
    def test_a_file_whose_disk_fails_is_refused(self, size: int) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if data := super().read(size):
                    return data
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with pytest.raises(ContactFileError, match="cannot be read: Input/output error"):
            list(decoded(Failing(b"a\n" * (size // 2))).lines)
