from .late_dividends import due_again as due_again
from .price_basis import on_another_basis as on_another_basis
from .reconciler import Reconciler as Reconciler
from .result import Base as Base
from .result import Reconciled as Reconciled
from .stale_feed import FrozenFeed as FrozenFeed
from .stored_levels import StoredLevels as StoredLevels
