from .citation import Citation as Citation
from .store_context import StoreContext as StoreContext
from .store_folder import is_untouched as is_untouched
from .store_folder import nothing_stored as nothing_stored
from .version_state import VersionState as VersionState
