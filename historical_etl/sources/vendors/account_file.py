"""What is kept of a vendor's account between runs, in the user's state folder. To lose it costs requests, no more."""

import logging
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from platformdirs import user_state_path

from historical_etl.durable import write_atomic
from historical_etl.regular_files import read_regular

if TYPE_CHECKING:
    from historical_etl.vendor_settings import VendorSettings

__all__ = ["AccountFile", "state_file"]

_log: Final = logging.getLogger(__name__)


class AccountFile:
    """A small file of one account.

    Args:
        vendor: the vendor's name.
        settings: whose base URL tells accounts of other places apart.
        key: of the account; only a hash of it is in the file's name.
        name: the end of the file's name.
        folder: instead of the user's state folder.
    """

    def __init__(
        self, vendor: str, settings: "VendorSettings", key: str, name: str, folder: Path | None = None
    ) -> None:
        account = sha256(key.encode()).hexdigest()[:8]
        self._path = state_file(vendor, settings.base_url, f"{account}.{name}", folder)

    def read(self) -> bytes:
        """What is in it; nothing where it cannot be read."""
        try:
            return read_regular(self._path)
        except OSError:
            return b""

    def remove(self) -> None:
        """Keep nothing any more; where it cannot be removed, that is logged."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("What was found out of an account stays in %s: %s", self._path, error.strerror)

    def write(self, content: bytes) -> None:
        """Replace what is in it. Where that cannot be done, it is logged: the next run finds it out again."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, content)
        except OSError as error:
            _log.warning("What was found out of an account could not be kept in %s: %s", self._path, error.strerror)


def state_file(vendor: str, base_url: str, name: str, folder: Path | None) -> Path:
    """A file of a vendor in the user's state folder, or in another; one for each address that it is asked at."""
    address = sha256(base_url.encode()).hexdigest()[:8] if base_url else "default"
    return (folder or user_state_path("historical_etl", appauthor=False)) / f"{vendor}-{address}.{name}"
