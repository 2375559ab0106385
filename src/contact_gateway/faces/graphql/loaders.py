"""What one document looks up together: each advertiser at most once, however often it is named."""

from collections.abc import Sequence
from typing import Final

from strawberry.dataloader import DataLoader

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.source import Source


class Loaders:
    """The look-ups of one document."""

    def __init__(self, source: Source) -> None:
        self._source: Final = source
        self.advertiser: Final = DataLoader(load_fn=self._advertisers)
        self.equivalents: Final = DataLoader(load_fn=self._equivalents)

    async def _advertisers(self, ids: list[int]) -> list[Advertiser | None]:
        found = await self._source.advertisers_by_id(ids)
        return [found.get(advertiser_id) for advertiser_id in ids]

    async def _equivalents(self, hienergy_ids: list[int]) -> list[Sequence[Advertiser]]:
        found = await self._source.equivalents(hienergy_ids)
        return [found.get(hienergy_id, ()) for hienergy_id in hienergy_ids]
