"""Cells of CSV files that a spreadsheet would run as formulas.

The rule is OWASP's: https://owasp.org/www-community/attacks/CSV_Injection
"""

import re
from typing import Final

# The full-width forms are formulas in spreadsheets with a Japanese or Chinese locale.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# Most texts begin with another character, and a lookup takes a third of the time of a match.
_BEGINNINGS: Final = frozenset("'=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_ESCAPED_FORMULA: Final = re.compile(f"'{_FORMULA.pattern}")


def escaped(text: str) -> str:
    """Return the text with an apostrophe before it if a spreadsheet could run it as a formula.

    Apostrophes before a formula are escaped too, so that `unescaped` reverses every text.
    """
    return f"'{text}" if text[:1] in _BEGINNINGS and _FORMULA.match(text) else text


def unescaped(text: str) -> str:
    """Return the text that `escaped` was given."""
    return text[1:] if _ESCAPED_FORMULA.match(text) else text
