"""Large databases: invented advertisers and contacts, the same in every database of a size.

Indexes are dropped while the rows are inserted, which takes a tenth of the time.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg

ADVERTISER_COLUMNS: Final = (
    "id, name, display_name, slug, domain, network_name, publisher_name, status, hienergy_id, "
    "slug_key, domain_key, folded_names, folded_text"
)
CONTACT_COLUMNS: Final = (
    "advertiser_id, email, email_key, name, given_name, family_name, phone, job_title, source, "
    "status, linkedin_profile_url, folded_text, created_at, updated_at"
)
CONTACTS_PER_ADVERTISER: Final = 10
NETWORKS: Final = ("CJ", "Awin", "Rakuten", "Impact", "FlexOffers", "Partnerize", "ShareASale")

_CREATED_AT: Final = "2026-01-02 03:04:05.678000"
_ONSETS: Final = (
    *("b", "br", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "kr", "l", "m", "n"),
    *("p", "pr", "qu", "r", "s", "sch", "sh", "sk", "st", "str", "t", "th", "tr", "v", "w", "y"),
)
_VOWELS: Final = ("a", "e", "i", "o", "u", "ai", "ei", "ou", "ie", "oo", "ea")
_CODAS: Final = ("", "n", "r", "l", "s", "t", "m", "ck", "nd", "ng", "rt", "st")
_SYLLABLES: Final = tuple(
    f"{onset}{vowel}{coda}" for onset in _ONSETS for vowel in _VOWELS for coda in _CODAS
)
_GIVEN_NAMES: Final = (
    *("Maya", "Anna", "Jose", "Omar", "Lena", "Noor", "Ivan", "Sofia", "Liam", "Emma", "Noah"),
    *(
        f"{first}{last}".title()
        for first in _SYLLABLES[::217]
        for last in ("a", "an", "ine", "ert")
    ),
)
_TRADES: Final = (
    *("Outfitters", "Living", "Sports", "Home", "Beauty", "Travel", "Kitchen", "Garden", "Books"),
    *("Shoes", "Optics", "Toys", "Music", "Bikes", "Watches", "Coffee", "Pets", "Fashion"),
)
_JOBS: Final = (
    *("Buyer", "Affiliate Manager", "Head of Partnerships", "Publisher Manager", "Founder"),
    *("Marketing Manager", "Account Director", "Campaign Manager", "Content Editor"),
)
_ODD: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def scattered(number: int) -> int:
    """Return 64 bits that look random, always the same for a number (splitmix64)."""
    mixed = (number * _ODD) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def invented_name(number: int) -> str:
    """Return a name of two syllables, of which there are 19 million."""
    # The factor permutes the numbers: it has none in common with the number of syllables.
    rest, last = divmod(number * 7_368_787 % len(_SYLLABLES) ** 2, len(_SYLLABLES))
    return f"{_SYLLABLES[rest]}{_SYLLABLES[last]}".title()


def brand(number: int) -> str:
    """Return the name of a brand."""
    return f"{invented_name(number)} {_TRADES[number % len(_TRADES)]}"


def given_name(number: int) -> str:
    """Return the given name of a contact: few are frequent, most are rare."""
    share = scattered(number) % 2**16 / 2**16
    return _GIVEN_NAMES[int(share * share * len(_GIVEN_NAMES))]


def family_name(number: int) -> str:
    """Return the family name of a contact."""
    return invented_name(scattered(number) >> 20)


def domain(brand_id: int) -> str:
    """Return the domain of a brand."""
    return f"{brand(brand_id)}.example".lower().replace(" ", "-")


def email(number: int, brands: int) -> str:
    """Return the address of a contact."""
    name = f"{given_name(number)}.{family_name(number)}".lower()
    return f"{name}@{domain(owner(number, brands))}"


def owner(number: int, brands: int) -> int:
    """Return the id of the HiEnergy record of a contact."""
    return scattered(number + 10**9) % brands + 1


def brands_of(contacts: int) -> int:
    """Return how many brands a database with so many contacts has. Each has two records."""
    return max(contacts // CONTACTS_PER_ADVERTISER // 2, 1)


def advertiser_rows(contacts: int) -> Iterator[Sequence[object]]:
    """Yield the advertisers: each brand has a HiEnergy record and one of a network."""
    brands = brands_of(contacts)
    for number in range(2 * brands):
        brand_id = number % brands + 1
        title = brand(brand_id)
        slug = title.lower().replace(" ", "-")
        network = "HiEnergy" if number < brands else NETWORKS[number % len(NETWORKS)]
        name = title if number < brands else f"{title} {network}"
        own_domain, names = f"{slug}.example", name.lower()
        yield (
            *(number + 1, name, None, slug, own_domain, network, None, "active", brand_id),
            *(slug, own_domain, names, f"{names}\n{own_domain}"),
        )


def contact_rows(contacts: int) -> Iterator[Sequence[object]]:
    """Yield the contacts, oldest first."""
    brands = brands_of(contacts)
    for number in range(1, contacts + 1):
        mixed = scattered(number)
        given, family = given_name(number), family_name(number)
        job = _JOBS[mixed % len(_JOBS)]
        address = email(number, brands)
        phone = f"+1 555 {mixed % 10**7:07}"
        name = f"{given} {family}"
        text = f"{address}\n{name.lower()}\n{job.lower()}\n{phone}"
        yield (
            *(owner(number, brands), address, address, name, given, family, phone, job),
            *("website", "active"),
            *(None, text, _CREATED_AT, _CREATED_AT),
        )


def fill_sqlite(file: Path, contacts: int) -> None:
    """Fill a migrated database file."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=-2000000")
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        dropped = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND "
            "(type = 'trigger' OR type = 'index') AND tbl_name IN ('contacts', 'advertisers')"
        ).fetchall()
        connection.execute("BEGIN")
        for kind, name, _ in dropped:
            connection.execute(f"DROP {kind} {name}")
        for table, columns, rows in (
            ("advertisers", ADVERTISER_COLUMNS, advertiser_rows(contacts)),
            ("contacts", CONTACT_COLUMNS, contact_rows(contacts)),
        ):
            marks = ", ".join("?" * len(columns.split(",")))
            connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608 - constants
        for _, _, statement in dropped:
            connection.execute(statement)
        for table in ("advertisers", "contacts"):
            connection.execute(f"INSERT INTO {table}_text ({table}_text) VALUES ('rebuild')")  # noqa: S608 - constants
        connection.execute("UPDATE contacts_text_indexed SET last_id = ?", (contacts,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")


def fill_postgresql(url: str, contacts: int) -> None:
    """Fill a migrated database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '2GB'")
        connection.execute("SET synchronous_commit = off")
        dropped = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('contacts', "
            "'advertisers') AND schemaname = current_schema() AND indexname LIKE 'ix!_%' ESCAPE '!'"
        ).fetchall()
        for name, _ in dropped:
            connection.execute(f'DROP INDEX "{name}"')
        with connection.transaction():
            for table, columns, rows in (
                ("advertisers", ADVERTISER_COLUMNS, advertiser_rows(contacts)),
                ("contacts", CONTACT_COLUMNS, contact_rows(contacts)),
            ):
                with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
        for _, statement in dropped:
            connection.execute(statement)
        connection.execute("VACUUM (ANALYZE)")
