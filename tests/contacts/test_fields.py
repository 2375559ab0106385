"""The fast path for e-mail addresses agrees with the e-mail library."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from contact_gateway.contacts.fields import normalize_email

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
