"""What HiEnergy is known to do where its documentation is silent.

Known is what the operator has set, or what HiEnergy's answers have shown to this process.
Everything else may be either way.
"""

from typing import Final

import structlog

from contact_gateway.settings import Known

_log = structlog.get_logger(__name__)


class Traits:
    """The undocumented traits of one upstream API.

    Attributes:
        honours_dry_run: whether a dry run may be forwarded.
        has_refused_a_duplicate: whether HiEnergy has answered a creation with a conflict, or with
            an older contact.
        shows_single_contacts: whether `GET /contacts/{id}` has returned a contact, so its 404 means
            that the contact does not exist.
    """

    def __init__(
        self,
        refuses_duplicates: Known = Known.UNKNOWN,
        honours_dry_run: Known = Known.UNKNOWN,
    ) -> None:
        self._refuses_duplicates: Final = refuses_duplicates
        self.honours_dry_run = honours_dry_run is Known.YES
        self.has_refused_a_duplicate = False
        self.shows_single_contacts = False

    @property
    def needs_a_look_first(self) -> bool:
        """Whether a creation may make a second contact, so the address is looked up before it."""
        return self._refuses_duplicates is not Known.YES

    @property
    def absorbs_repeats(self) -> bool:
        """Whether a repeated creation surely makes no second contact."""
        if self._refuses_duplicates is Known.UNKNOWN:
            return self.has_refused_a_duplicate
        return self._refuses_duplicates is Known.YES

    def record_ignored_dry_run(self) -> None:
        """Remember that a forwarded dry run created a contact."""
        self.honours_dry_run = False
        _log.error(
            "a dry run created a contact: HiEnergy ignores dry_run, so none is forwarded again; "
            "unset CONTACT_GATEWAY_UPSTREAM_HONOURS_DRY_RUN"
        )
