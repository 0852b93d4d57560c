from .adjusted import Adjust as Adjust
from .stored_prices import StoredPrices as StoredPrices
from .versions import StoreVersions as StoreVersions
