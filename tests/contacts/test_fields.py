"""The fast paths for addresses and plain texts agree with the general ones."""

import unicodedata

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from contact_gateway.contacts.fields import MAX_TEXT_LENGTH, Text, normalize_email
from contact_gateway.contacts.problems import ProblemCode, problems_of
from contact_gateway.contacts.text import trimmed

local_parts = st.from_regex(r"[a-z0-9._+-]{1,70}", fullmatch=True) | st.sampled_from(
    [
        "maya",
        "postmaster",
        "POSTMASTER",
        "Maya",
        "a..b",
        ".a",
        "a.",
        "a+b",
        "-a",
        "_",
        "o'neil",
        '"a b"',
    ]
)
labels = st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True) | st.sampled_from(
    ["example", "EXAMPLE", "com", "xn--bcher-kva", "xn--a", "ab--c", "-a", "local", "test", ""]
)
domains = st.lists(labels, min_size=1, max_size=5).map(".".join)
blanks = st.sampled_from(["", " ", "\n", "\u200b", "\x85", "\x1c"])
repeated = st.builds(
    lambda character, length: character * length,
    st.sampled_from(["a", "e\u0301", "\U0001f600", "\u0958"]),
    st.sampled_from([127, 128, 255, 256, 510, 1020, 1021]),
)
texts = st.builds(
    "{}{}{}".format,
    blanks,
    st.text(st.characters(codec=None)) | st.from_regex(r"[ -~]*", fullmatch=True) | repeated,
    blanks,
)
addresses = st.builds("{}@{}".format, local_parts, domains) | st.emails()


def _by_the_library(text: str) -> str | None:
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        return None


@given(addresses)
@settings(max_examples=200)
@example("maya@example.com")
@example("maya@EXAMPLE.com")
@example("POSTMASTER@example.com")
@example("maya@xn--bcher-kva.com")
@example(f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 57}.com")
@example(f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 58}.com")
@example("a@" + ".".join(["xn--fiqs8s"] * 22))
def test_an_address_is_read_as_the_library_reads_it(text: str) -> None:
    expected = _by_the_library(text)
    if expected is None:
        with pytest.raises(PydanticCustomError):
            normalize_email(text)
    else:
        assert normalize_email(text) == expected
        assert normalize_email(expected) == expected


def _text_or_code(text: str) -> str | ProblemCode | None:
    """Return what a text is stored as, or why it is refused, step by step."""
    bare = trimmed(text)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in bare):
        return ProblemCode.INVALID_CHARACTERS
    if len(bare) > 4 * MAX_TEXT_LENGTH:
        return ProblemCode.TOO_LONG
    composed = unicodedata.normalize("NFC", bare)
    return ProblemCode.TOO_LONG if len(composed) > MAX_TEXT_LENGTH else composed or None


@given(texts)
@example("a" * 255 + "  ")
@example("a" * 256)
def test_a_plain_text_is_read_as_any_other(text: str) -> None:
    found: str | ProblemCode | None
    try:
        found = TypeAdapter[str | None](Text).validate_python(text)
    except ValidationError as error:
        (problem,) = problems_of(error)
        found = problem.code

    assert found == _text_or_code(text)
    assert isinstance(found, ProblemCode) == isinstance(_text_or_code(text), ProblemCode)
