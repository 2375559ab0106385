"""Advertisers: the records of a brand, one of which is its HiEnergy record."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from contact_gateway.contacts.text import folded

HIENERGY_NETWORK: Final = "HiEnergy"
"""The network that marks the HiEnergy record of a brand in the gateway's own store."""

_FOLDED_HIENERGY: Final = folded(HIENERGY_NETWORK)

FIELD_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "id": "The record's 64-bit id.",
    "name": "The brand's name on this network.",
    "display_name": "The name to display.",
    "slug": "The name in URLs.",
    "domain": "The brand's domain.",
    "network_name": (
        f"The affiliate network of this record, or `{HIENERGY_NETWORK}` on the canonical one. Null "
        "only if HiEnergy does not show it."
    ),
    "publisher_name": "The publisher's name on the network.",
    "status": "The status on the network.",
    "hienergy_id": (
        "The id of the brand's HiEnergy record. Null if it has none, or HiEnergy does not show it."
    ),
}
"""The descriptions of an advertiser's fields in the API's schemas."""


def is_named_hienergy(name: str) -> bool:
    """Return whether a name is HiEnergy, in any case and with any blanks around it."""
    return folded(name) == _FOLDED_HIENERGY


class Advertiser(NamedTuple):
    """One record of a brand: its HiEnergy record, or its record on an affiliate network.

    `hienergy_id` is the id of the brand's HiEnergy record: its own id on a HiEnergy record, None on
    a network record without a HiEnergy equivalent, or where HiEnergy does not show it. Ids are
    64-bit.
    """

    id: int
    name: str
    display_name: str | None = None
    slug: str | None = None
    domain: str | None = None
    network_name: str | None = None
    publisher_name: str | None = None
    status: str | None = None
    hienergy_id: int | None = None

    @property
    def is_hienergy(self) -> bool:
        """Whether this is the canonical record, the one that owns contacts.

        Not decided by the network: HiEnergy may mark the record by its publisher.
        """
        return self.hienergy_id == self.id

    @property
    def title(self) -> str:
        """The name to display: the display name if there is one."""
        return self.display_name or self.name
