"""What HiEnergy is known to do where its documentation is silent.

Known is what the operator has set, or what HiEnergy's answers have shown to this process.
Everything else may be either way.
"""

from typing import Final

import structlog

from contact_gateway.settings import Known

_log = structlog.get_logger(__name__)


class Traits:
    """The undocumented traits of one upstream API."""

    def __init__(
        self,
        refuses_duplicates: Known = Known.UNKNOWN,
        honours_dry_run: Known = Known.UNKNOWN,
    ) -> None:
        self._refuses_duplicates: Final = refuses_duplicates
        self._honours_dry_run: Final = honours_dry_run
        self._has_refused_a_duplicate = False
        self._has_ignored_a_dry_run = False
        self._has_shown_a_contact = False

    @property
    def needs_a_look_first(self) -> bool:
        """Whether a creation may make a second contact, so the address is looked up before it."""
        return self._refuses_duplicates is not Known.YES

    @property
    def absorbs_repeats(self) -> bool:
        """Whether a repeated creation surely makes no second contact."""
        if self._refuses_duplicates is Known.UNKNOWN:
            return self._has_refused_a_duplicate
        return self._refuses_duplicates is Known.YES

    @property
    def honours_dry_run(self) -> bool:
        """Whether a dry run may be forwarded."""
        return self._honours_dry_run is Known.YES and not self._has_ignored_a_dry_run

    @property
    def shows_single_contacts(self) -> bool:
        """Whether `GET /contacts/{id}` exists, so its 404 means that the contact does not."""
        return self._has_shown_a_contact

    def record_refused_duplicate(self) -> None:
        """Remember that HiEnergy answered a creation with a conflict, or with an older contact."""
        self._has_refused_a_duplicate = True

    def record_ignored_dry_run(self) -> None:
        """Remember that a forwarded dry run created a contact."""
        self._has_ignored_a_dry_run = True
        _log.error(
            "a dry run created a contact: HiEnergy ignores dry_run, so none is forwarded again; "
            "unset CONTACT_GATEWAY_UPSTREAM_HONOURS_DRY_RUN"
        )

    def record_shown_contact(self) -> None:
        """Remember that `GET /contacts/{id}` returned a contact."""
        self._has_shown_a_contact = True
