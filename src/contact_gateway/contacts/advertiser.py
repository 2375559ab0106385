"""Advertisers, and which record of a brand is the HiEnergy one."""

from dataclasses import dataclass
from typing import Final

HIENERGY_NETWORK: Final = "HiEnergy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertiser:
    """One record of a brand: its HiEnergy record, or its record on an affiliate network.

    `hienergy_id` is the id of the brand's HiEnergy record: a HiEnergy record's own id, and None
    on a network record that has no HiEnergy equivalent. Ids are 64-bit.
    """

    id: int
    name: str
    display_name: str | None = None
    slug: str | None = None
    domain: str | None = None
    network_name: str
    publisher_name: str | None = None
    status: str | None = None
    hienergy_id: int | None = None

    @property
    def is_hienergy(self) -> bool:
        """Tell whether this is the canonical record, the one that owns contacts."""
        return self.network_name == HIENERGY_NETWORK

    @property
    def title(self) -> str:
        """The name to show: the display name where there is one."""
        return self.display_name or self.name
