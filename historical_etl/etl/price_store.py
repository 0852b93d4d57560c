"""PriceStore: a store without a source. It is read, its versions are handled, it is maintained; nothing is fetched."""

from historical_etl.etl.context import StoreContext, VersionState
from historical_etl.etl.maintenance import Maintenance
from historical_etl.etl.reader import StoredPrices, StoreVersions

__all__ = ["PriceStore"]


class PriceStore:
    """What can be done with a store that nothing fills.

    Attributes:
        context: the open data folder.
        state: what the ledgers of its versions say.
        prices: reads bars and ledgers.
        versions: lists, compares, cites and pins versions.
        maintenance: verifies, repairs, rolls back and exports.
    """

    def __init__(self, context: StoreContext) -> None:
        self.context = context
        self.state = VersionState(context)
        self.prices = StoredPrices(self.state)
        self.versions = StoreVersions(self.state)
        self.maintenance = Maintenance(self.state)
