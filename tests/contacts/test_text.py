"""Folded text: equal for all forms of a text, different for texts that a person distinguishes."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contact_gateway.contacts.fields import normalize_email
from contact_gateway.contacts.text import (
    BLANK_CLASS,
    domain_key,
    domain_of,
    email_key,
    folded,
    normal,
    trimmed,
)

texts = st.text(st.characters())
# Letters with marks, letters of Korean, ligatures and wide characters: texts with several forms.
letters = st.text(
    st.sampled_from("aeios\u017f\u00df\u0130\u0131\u03c3\u03c2\u0345\u0301\u0308\u0323\u0307")
    | st.characters(min_codepoint=0x1100, max_codepoint=0x11FF)
    | st.characters(min_codepoint=0x1F00, max_codepoint=0x1FFF)
    | st.characters(min_codepoint=0xFB00, max_codepoint=0xFB06)
    | st.characters(min_codepoint=0xFF01, max_codepoint=0xFF5E)
)
blanks = st.text(st.sampled_from(" \t\n\r\x85\xa0\u2003\u2028\u3000\u00ad\u200b\u200d\u2060\ufeff"))


@given(texts | letters)
@example("\u03b1\u0323\u0345")
@example("\u00a8\u0301")
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@given(texts | letters)
@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_every_normal_form_folds_alike(form: str, text: str) -> None:
    assert folded(unicodedata.normalize(form, text)) == folded(text)  # type: ignore[arg-type]


@given(blanks, texts | letters, blanks)
def test_blanks_around_a_text_change_nothing(before: str, text: str, after: str) -> None:
    assert trimmed(f"{before}{text}{after}") == trimmed(text)
    assert folded(f"{before}{text}{after}") == folded(text)


@given(texts | letters)
def test_trimming_twice_changes_nothing(text: str) -> None:
    assert trimmed(trimmed(text)) == trimmed(text)
    assert trimmed(normal(trimmed(text))) == normal(trimmed(text))


@given(st.text(st.characters(max_codepoint=0x24F, categories=["L"])))
def test_the_case_of_latin_letters_changes_nothing(text: str) -> None:
    # Lower case without a dot has no capital of its own.
    text = text.replace("\u0131", "")

    assert folded(text.upper()) == folded(text) == folded(text.lower())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("jose", "jos\u00e9", id="accent"),
        pytest.param("\u0131", "i", id="letter without a dot"),
        pytest.param("a b", "ab", id="space"),
        pytest.param("ma\u200bya", "maya", id="a character of no width inside"),
    ],
)
def test_different_texts_fold_differently(one: str, other: str) -> None:
    assert folded(one) != folded(other)


@pytest.mark.parametrize("text", ["\u2764\ufe0f", "\U0001f469\u200d\U0001f4bb"], ids=ascii)
def test_an_emoji_keeps_its_selector(text: str) -> None:
    assert trimmed(f" {text} ") == text


def test_the_pattern_of_json_schema_has_the_characters_that_are_trimmed() -> None:
    blank = re.compile(BLANK_CLASS)
    characters = map(chr, range(0x110000))
    differing = [
        hex(ord(character))
        for character in characters
        if (trimmed(f"a{character}") == "a") != bool(blank.fullmatch(character))
    ]

    assert differing == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("B\u00dcCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "XN--BCHER-KVA.EXAMPLE"),
        ("\uff25xample.com", "example.com"),
        ("b\u00fccher\u3002example", "b\u00fccher.example"),
        (" example.com\n", "example.com"),
    ],
    ids=ascii,
)
def test_a_domain_has_one_key(one: str, other: str) -> None:
    assert domain_key(one) == domain_key(other)


def test_domains_that_idna_tells_apart_have_two_keys() -> None:
    assert domain_key("stra\u00dfe.example") != domain_key("strasse.example")
    assert email_key("a@stra\u00dfe.example") != email_key("a@strasse.example")


@pytest.mark.parametrize(
    "text", ["", "no domain", "\u00fc..example", "\u00fc_\u00fc", "\ud800"], ids=ascii
)
def test_a_text_that_is_no_domain_is_folded(text: str) -> None:
    assert domain_key(text) == folded(text)


@given(st.emails() | st.sampled_from(["jos\u00e9@b\u00fccher.com", "\u017fam@example.com"]))
def test_the_key_of_an_address_is_that_of_its_key(text: str) -> None:
    key = email_key(text)

    assert email_key(key) == key
    assert email_key(text.upper()) == key
    assert email_key(f"\t{text}\u00a0") == key


@pytest.mark.parametrize("text", ["jose\u0301@bu\u0308cher.com", "MAYA@B\u00dcCHER.com"], ids=ascii)
def test_the_key_of_an_address_is_that_of_the_stored_address(text: str) -> None:
    assert email_key(normalize_email(text)) == email_key(text)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("northwind.example", "northwind.example"),
        ("WWW.Northwind.example", "northwind.example"),
        ("//northwind.example", "northwind.example"),
        ("https://maya@www.northwind.example:8443/a?b=https://c.example", "northwind.example"),
        ("northwind.example/shoes", "northwind.example"),
        ("bücher.example", "bücher.example"),
        ("http://[", "http://["),
        ("/", "/"),
        ("www.", "www."),
        ("https://www./", "https://www./"),
    ],
)
def test_the_domain_of_a_url_or_a_domain(text: str, domain: str) -> None:
    assert domain_of(text) == domain
