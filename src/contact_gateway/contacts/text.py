"""The normal form of stored text, and the folded form that text is compared and searched by.

Source: Unicode Standard Annex 15 (normal forms), The Unicode Standard, section 3.13 (caseless
matching), RFC 5891 and UTS 46 (domain names).
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import idna

# The property White_Space of Unicode; `str.strip` also takes U+001C to U+001F.
_WHITE_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Characters without width. The variation selectors are not among them: they belong to an emoji.
_ZERO_WIDTH: Final = "\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
# The other characters that show nothing: fillers, joiners and selectors of Default_Ignorable, and
# the blank of Braille.
_OTHER_INVISIBLE: Final = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)

BLANK_CLASS: Final = (
    r"[\t-\r \x85\xa0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]"
)
"""The characters that are trimmed, as a character class of JSON Schema's patterns."""


# `str.strip` takes characters, not ranges of them.
_BLANKS: Final = re.sub(
    "(.)-(.)",
    lambda found: "".join(map(chr, range(ord(found[1]), ord(found[2]) + 1))),
    _WHITE_SPACE + _ZERO_WIDTH,
    flags=re.DOTALL,
)
_ASCII_BLANKS: Final = "".join(filter(str.isascii, _BLANKS))
_INVISIBLE: Final = re.compile(f"[{_WHITE_SPACE}{_ZERO_WIDTH}{_OTHER_INVISIBLE}]*")


def trimmed(text: str) -> str:
    """Return the text without white space and characters of no width at its ends.

    Text of invisible characters only is empty.
    """
    # Most texts: a creation trims ten of them.
    if text.isascii():
        return text.strip(_ASCII_BLANKS)
    return "" if _INVISIBLE.fullmatch(text) else text.strip(_BLANKS)


def normal(text: str) -> str:
    """Return the form that text is stored in: NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """Return the form that text is compared and searched by: trimmed, and the same in any case.

    Equal for the composed and decomposed forms of a text, and for its wide, ligature and other
    compatible characters. Folding twice changes nothing.
    """
    # Most texts: a creation folds seven of them.
    if text.isascii():
        return text.strip(_ASCII_BLANKS).lower()
    compatible = unicodedata.normalize("NFKC", trimmed(text))
    # Case folding may take a composed character apart, so the text is normalised again.
    return trimmed(unicodedata.normalize("NFKC", compatible.casefold()))


@lru_cache(maxsize=4096)
def domain_key(domain: str) -> str:
    """Return the form that a domain is compared by: its ASCII form (IDNA), in lower case.

    A text that is not a domain is folded.
    """
    if not domain.isascii():
        try:
            return idna.encode(trimmed(domain), uts46=True).decode("ascii").lower()
        except UnicodeError:
            pass
    return folded(domain)


def domain_of(text: str) -> str:
    """Return the domain of a URL, or a domain itself, without `www.` and the port."""
    try:
        host = urlsplit(text if "//" in text else f"//{text}").hostname
    except ValueError:
        host = None
    # Never empty: HiEnergy may ignore an empty filter, and return the whole list.
    return (host or text).removeprefix("www.") or text


def email_key(email: str) -> str:
    """Return the form that an address is compared by: folded, with its domain in ASCII.

    The whole address is not folded at once: by IDNA, `straße.example` and `strasse.example` are two
    domains.
    """
    local_part, _, domain = email.rpartition("@")
    return f"{folded(local_part)}@{domain_key(domain)}"
