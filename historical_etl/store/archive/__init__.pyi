from .transfer import export_version as export_version
from .transfer import import_version as import_version
