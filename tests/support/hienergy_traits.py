"""What HiEnergy's API may do: a switch for each trait that is documented, seen, or open."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal


class Duplicates(Enum):
    """The answer to a second contact with one e-mail address on one HiEnergy record."""

    CREATED_AGAIN = auto()
    CONFLICT = auto()
    """409 without the contact."""

    CONFLICT_WITH_CONTACT = auto()
    """409 with the contact as `details.existing`."""

    TAKEN_ENVELOPE = auto()
    """422 with the error envelope, as all that follow are 422."""

    TAKEN_RAILS = auto()
    """`{"errors": {"email": ["has already been taken"]}}`."""

    TAKEN_FLAT = auto()
    """`{"email": ["has already been taken"]}`."""

    TAKEN_SENTENCES = auto()
    """`{"errors": ["Email has already been taken"]}`."""

    TAKEN_POINTER = auto()
    """JSON:API: `{"errors": [{"source": {"pointer": …}, "detail": …}]}`."""

    TAKEN_FIELDS = auto()
    """`{"errors": [{"field": "email", "message": …}]}`."""

    MERGED = auto()
    """A success with the id of the old contact, whose fields are updated."""

    RETURNED = auto()
    """A success with the old contact as it was."""


class DryRun(Enum):
    """The answer to `dry_run=true` of a creation."""

    IGNORED = auto()
    """A contact is made: 201."""

    MESSAGE = auto()
    """As another operation answers: an id, `dry_run: true` and a message."""

    GATEWAY = auto()
    """The contact as it would be: its id is null, and `meta.dry_run` is true."""


class Mark(Enum):
    """The attribute that marks a brand's HiEnergy record."""

    PUBLISHER = auto()
    """The publisher is HiEnergy, and the network another."""

    NETWORK = auto()
    """The network is HiEnergy, and there is no publisher."""


class Rows(Enum):
    """The shape of a record."""

    RESOURCE = auto()
    """`{id, type, attributes}`."""

    FLAT = auto()


class Paging(Enum):
    """Where a list says that there is more."""

    META = auto()
    """`meta: {current_page, next_page, per_page, has_more}`."""

    PAGINATION_IN_META = auto()
    """The same in `meta.pagination`."""

    PAGINATION = auto()
    """The same in `pagination`, beside `data`."""

    HAS_MORE_ALONE = auto()
    """`has_more` beside `data`."""

    HAS_MORE_IN_META = auto()
    """`meta: {has_more}`."""

    LIMIT_ALONE = auto()
    """`meta: {limit}`."""

    NOTHING = auto()
    CURSOR = auto()
    """`meta: {per_page, next_cursor}`; the parameter is `cursor` or `after`."""


class ErrorBody(Enum):
    """The body of an error."""

    ENVELOPE = auto()
    """`{"error": {code, message, details, request_id, timestamp}}`."""

    TEXT = auto()
    """`{"error": "a text"}`."""

    JSON_API = auto()
    """`{"errors": [{status, title, detail}]}`."""

    RAILS = auto()
    """`{"errors": {"field": ["a text"]}}`."""

    HTML = auto()
    EMPTY = auto()


class Shown(Enum):
    """What the answer to a creation shows."""

    FULL = auto()
    ID_ALONE = auto()
    """`{"data": {"id": "1"}}`."""

    EMPTY_DATA = auto()
    """`{"data": {}}`."""

    NO_CONTENT = auto()
    """204 without a body."""


class DomainSearch(Enum):
    """What `GET /advertisers/search_by_domain` answers: "another shape" than that of a list."""

    LIST = auto()
    """The list."""

    GROUPED = auto()
    """The domain and a list, below `data`."""

    ONE = auto()
    """One record, or an error if there is none."""

    ABSENT = auto()
    """There is no such operation."""


@dataclass(slots=True, kw_only=True)
class Traits:
    """The traits of one HiEnergy. A test may change them while it runs.

    The defaults are what is documented or seen; elsewhere, mostly the case that is harder for a
    client.
    """

    duplicates: Duplicates = Duplicates.CREATED_AGAIN
    status_of_repeat: Literal[200, 201] = 200
    """The status of a repeat that is merged or returned."""

    dry_run: DryRun = DryRun.IGNORED
    mark: Mark = Mark.PUBLISHER
    rows: Rows = Rows.RESOURCE
    paging: Paging = Paging.META
    error_body: ErrorBody = ErrorBody.ENVELOPE
    rates_new_contacts: bool = False
    """Without a rating, a contact is in no `GET /contacts`."""

    lists_own_unrated: bool = False
    """Whether `GET /advertisers/{id}/contacts` lists contacts without a rating."""

    list_lag: int = 0
    """How many list calls a new contact is missing from."""

    shows_hienergy_id: bool = False
    shows_owner: bool = True
    """Whether the answer to a creation shows the advertiser."""

    shows_advertiser_name: bool = True
    shows_times: bool = False
    """Whether contacts have `created_at` and `updated_at`."""

    shows_days: bool = False
    """Whether these times are days: `2026-01-31`."""

    shows_blank: bool = True
    """Whether attributes without a value are null, or absent."""

    creation_shows: Shown = Shown.FULL
    ids_as_numbers: bool = False
    root_key: bool = False
    """Whether documents are `{"contacts": {"data": …}}`, lists and single records alike."""

    owner_as_slug: bool = False
    nested_advertiser: bool = False
    """Whether a contact has `advertiser: {id, name}` for `advertiser_id` and `advertiser_name`."""

    renamed_fields: bool = False
    """`title`, `linkedin_url`, and `program_status` of an advertiser."""

    sparse_advertisers: bool = False
    """Whether advertisers lack `display_name`, `status`, and a `network_name` that is no mark."""

    rows_without_email: bool = False
    """Whether Northwind has a rated contact without an e-mail address."""

    odd_rows: bool = False
    """Whether every list begins with rows that cannot be read: null, and one without an id."""

    has_contact_operation: bool = False
    """Whether `GET /contacts/{id}` exists. An absent operation is a web framework's HTML 404."""

    domain_search: DomainSearch = DomainSearch.LIST
    has_advertiser_contacts: bool = True
    """Whether `GET /advertisers/{id}/contacts` exists."""

    filters_work: bool = True
    """Whether a list of contacts heeds `email` and `advertiser_id`."""

    finds_by_network_record: bool = False
    """Whether the id of a network record finds the contacts of its HiEnergy record."""

    honours_idempotency_key: bool = False
    """Whether a repeat with the same header gets the answer of the first creation.

    Another input with the same header is a 422, even if the first one was refused.
    """

    calls_per_hour: int = 1000
    reset_in_seconds_from_now: bool = False
    """Whether `X-RateLimit-Reset` is in seconds from now, or since 1970."""

    sends_retry_after: bool = False
    """Whether a 429 has `Retry-After`."""

    page_cap: int = 100
    """The largest page. Larger sizes are clamped."""

    status_of_bad_input: Literal[400, 422] = 422


class Fault(Enum):
    """What goes wrong with a POST. BEFORE: it has no effect. AFTER: its effect is complete."""

    NONE = auto()
    REFUSED_BEFORE = auto()
    """HiEnergy's own 503."""

    CLOSED_BEFORE = auto()
    CLOSED_AFTER = auto()
    RESET_BEFORE = auto()
    RESET_AFTER = auto()
    TRUNCATED_AFTER = auto()
    """The connection ends before the last 20 bytes of the answer."""

    SERVER_ERROR_BEFORE = auto()
    SERVER_ERROR_AFTER = auto()
    BAD_GATEWAY_BEFORE = auto()
    BAD_GATEWAY_AFTER = auto()
    GATEWAY_TIMEOUT_BEFORE = auto()
    GATEWAY_TIMEOUT_AFTER = auto()
    ROUTER_TIMEOUT_BEFORE = auto()
    """503 with HTML, as Heroku's router answers after 30 s."""

    ROUTER_TIMEOUT_AFTER = auto()
    ROUTER_TIMEOUT_UNTIL_LATER = auto()
    """The same; the effect comes with `HiEnergy.process_late`."""

    STALLED_BEFORE = auto()
    """There is no answer, and the connection stays open."""

    STALLED_AFTER = auto()
    STALLED_UNTIL_LATER = auto()
    """There is no answer; the effect comes with `HiEnergy.process_late`."""

    HTML_SUCCESS = auto()
    """The effect is complete, and the answer is 200 with HTML."""
