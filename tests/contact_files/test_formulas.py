"""Cells that spreadsheets would run as formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.contact_files.formulas import escaped, unescaped

_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_cells = st.text() | st.text(alphabet=f"'{_STARTS}a")


@given(_cells)
def test_unescaping_an_escaped_cell_returns_it(text: str) -> None:
    assert unescaped(escaped(text)) == text


@given(_cells)
def test_no_escaped_cell_begins_like_a_formula(text: str) -> None:
    assert not escaped(text).startswith(tuple(_STARTS))


@given(_cells)
def test_escaping_adds_nothing_but_one_apostrophe(text: str) -> None:
    assert escaped(text) in {text, f"'{text}"}


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+46 8 123 456", "'+46 8 123 456"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"),
        ("'t Hart", "'t Hart"),
        ("Anna-Lena", "Anna-Lena"),
        ("", ""),
    ],
)
def test_only_cells_that_could_be_formulas_are_escaped(text: str, cell: str) -> None:
    assert escaped(text) == cell
