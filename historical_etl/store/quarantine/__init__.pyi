from .entries import QuarantineEntry as QuarantineEntry
from .entries import find_entry as find_entry
from .entries import older_than as older_than
from .entries import purge_entries as purge_entries
from .entries import read_entries as read_entries
from .entries import restore_entry as restore_entry
from .write import Quarantine as Quarantine
