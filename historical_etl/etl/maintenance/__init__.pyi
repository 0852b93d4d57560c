from .archive import export_store as export_store
from .archive import import_store as import_store
from .maintenance import Maintenance as Maintenance
from .repair import RepairReport as RepairReport
from .repair import ToFetch as ToFetch
from .rollback import roll_back as roll_back
from .verification import NO_DAMAGE as NO_DAMAGE
