"""Ledgers: what each commit changed, and what is known of symbols, gaps and holds. Committed with the data.

A *log* only grows: a commit adds a file, and merges the newest files once they are no larger than what is added, so
that their number grows with the logarithm of the rows. A *state* is one file that a commit replaces. All files are
immutable and named by their content; the manifest says which of them a version consists of.
"""

import difflib
import io
import logging
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.durable import storage_errors, sync_stream, temporary_beside
from historical_etl.errors import ChecksumMismatchError, ConfigurationError
from historical_etl.models import LedgerFile, SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import ADDED_COLUMNS, SCHEMAS, STATES, VIEWS, empty_ledger

__all__ = [
    "REBUILT",
    "EncodedLedgers",
    "LedgerChanges",
    "Ledgers",
    "encode_ledgers",
    "read_ledger",
    "read_named_ledger",
    "read_undamaged",
    "write_ledgers",
]

_log = logging.getLogger(__name__)
#: What repairs a damaged ledger.
REBUILT: Final = "run `historical-etl repair`: what follows from the data is rebuilt; prices are not affected"
#: Columns that make no version by themselves where the file of a state is too old to have them.
_IGNORED_COLUMNS: Final = {name: ADDED_COLUMNS[name] for name in ("open_holds", "symbols")}
#: What files hold, by ledger and SHA-256: a run reads most of them several times, and so does the next one.
_decoded: Final[dict[tuple[str, str], pl.DataFrame]] = {}
_MOST_DECODED, _MOST_BYTES = 64, 64 * 2**20
#: Rows to add to logs, and states to replace, by name.
LedgerChanges = Mapping[str, pl.DataFrame]
#: The files of each ledger, oldest first.
Ledgers = Mapping[str, tuple[LedgerFile, ...]]


def read_ledger(layout: Layout, manifest: SyncManifest | None, name: str) -> pl.DataFrame:
    """All rows of a ledger in one version, oldest first; none where nothing was recorded.

    Raises:
        ChecksumMismatchError: a file of it is missing or is not what was committed.
    """
    files = manifest.ledgers.get(name, ()) if manifest else ()
    if not files:
        return empty_ledger(name)
    return pl.concat([_read(layout, name, file) for file in files])


def read_undamaged(layout: Layout, manifest: SyncManifest | None, name: str) -> pl.DataFrame:
    """The rows of a ledger that can still be read, for a run that must go on; what cannot is warned of."""
    parts = [empty_ledger(name)]
    for file in manifest.ledgers.get(name, ()) if manifest else ():
        try:
            parts.append(_read(layout, name, file))
        except ChecksumMismatchError as damage:
            _log.warning("%s The run goes on without what was in it", damage)
    return pl.concat(parts)


def read_named_ledger(layout: Layout, manifest: SyncManifest | None, name: str) -> pl.DataFrame:
    """All rows of a ledger by the name that readers use; for `gaps` and `holds` open and closed ones.

    Raises:
        ConfigurationError: there is no such ledger.
        ChecksumMismatchError: as `read_ledger`.
    """
    if name not in VIEWS:
        near = difflib.get_close_matches(name.lower(), VIEWS, n=1)
        todo = f"{f'did you mean {near[0]}? Else ' if near else ''}use one of {', '.join(VIEWS)}"
        raise ConfigurationError(f"There is no ledger {name!r}", where="ledger", todo=todo)
    return pl.concat([read_ledger(layout, manifest, part) for part in VIEWS[name]], how="diagonal")


@dataclass(frozen=True)
class EncodedLedgers:
    """What a commit changes of the ledgers, in memory.

    Attributes:
        files: of all ledgers, as the version will name them.
        contents: file → the ledger's name and the bytes, of those that are to be written.
    """

    files: Ledgers
    contents: Mapping[Path, tuple[str, bytes]]

    def write(self) -> None:
        """Write the files; saving the manifest makes them durable.

        Raises:
            StorageError: the file system refused.
        """
        for target, (name, content) in self.contents.items():
            with storage_errors(f"writing the ledger {name}", target):
                if not target.is_file() or target.read_bytes() != content:
                    with temporary_beside(target) as (temp, stream):
                        stream.write(content)
                        sync_stream(stream)
                        temp.chmod(stat.S_IMODE(temp.stat().st_mode) & ~0o222)
                        temp.replace(target)


def encode_ledgers(layout: Layout, base: Ledgers, changes: LedgerChanges) -> EncodedLedgers:
    """Encode what a commit changes of the ledgers; no file is written yet.

    Raises:
        StorageError: a file that is to be appended to cannot be read.
    """
    ledgers, contents = dict(base), dict[Path, tuple[str, bytes]]()
    for name, rows in changes.items():
        before = ledgers.get(name, ())
        if name not in STATES:
            if not rows.is_empty():
                unchanged, newest = _appended(layout, name, before, rows)
                ledgers[name] = (*unchanged, _encode(layout, name, newest, contents))
        elif (not rows.is_empty() or before) and not _says_nothing_new(layout, name, before, rows):
            ledgers[name] = (_encode(layout, name, rows, contents),)
    return EncodedLedgers(ledgers, contents)


def write_ledgers(layout: Layout, base: Ledgers, changes: LedgerChanges) -> Ledgers:
    """Write what a commit changes; returns the files of all ledgers.

    Raises: as `encode_ledgers` and `EncodedLedgers.write`.
    """
    encoded = encode_ledgers(layout, base, changes)
    encoded.write()
    return encoded.files


def _says_nothing_new(layout: Layout, name: str, files: Sequence[LedgerFile], rows: pl.DataFrame) -> bool:
    """Whether a state is what its file says, be it in other bytes, or differs in columns that alone make no version.

    Such are those that its file is too old to have; and how far back was asked for nothing, which every repetition of
    a backfill may widen.
    """
    if name not in ADDED_COLUMNS or len(files) != 1 or files[0].rows != rows.height:
        return False
    try:
        known = _read(layout, name, files[0])
        if known.equals(rows[list(SCHEMAS[name])]):
            return True
        ignored = set(_IGNORED_COLUMNS.get(name, ())).difference(pl.read_parquet_schema(layout.resolve(files[0].path)))
        ignored |= {"asked_from"} & set(SCHEMAS[name])
        others = [column for column in SCHEMAS[name] if column not in ignored]
        return bool(ignored) and rows[others].equals(known[others])
    except (ChecksumMismatchError, OSError, pl.exceptions.PolarsError):
        return False  # it is replaced


def _appended(
    layout: Layout, name: str, files: Sequence[LedgerFile], rows: pl.DataFrame
) -> tuple[list[LedgerFile], pl.DataFrame]:
    """The files of a log that stay, and the rows of the one after them: those of files as small are written again."""
    unchanged, parts = list(files), [_typed(name, rows)]
    size = rows.height
    while unchanged and unchanged[-1].rows <= size:
        try:
            parts.insert(0, _read(layout, name, unchanged[-1]))
        except ChecksumMismatchError as damage:
            _log.warning("%s It is left as it is; new entries go to another file", damage)
            break
        size += unchanged.pop().rows
    return unchanged, pl.concat(parts)


def _read(layout: Layout, name: str, file: LedgerFile) -> pl.DataFrame:
    path = layout.resolve(file.path)
    with storage_errors(f"reading the ledger {name}", path, "nothing was changed"):
        content = path.read_bytes() if path.is_file() else b""
    if sha256(content).hexdigest() != file.checksum:
        raise ChecksumMismatchError(
            f"A file of the ledger {name!r} is missing or was changed after its commit",
            where=path,
            todo=REBUILT,
        )
    known = _decoded.get((name, file.checksum))
    return _keep(name, file.checksum, _decode(name, content, path)) if known is None else known.clone()


def _decode(name: str, content: bytes, path: Path) -> pl.DataFrame:
    try:
        rows = pl.read_parquet(io.BytesIO(content))
        missing = [column for column in ADDED_COLUMNS.get(name, ()) if column not in rows.columns]
        # A flag that did not exist was not set.
        nothing = {column: False if SCHEMAS[name][column] == pl.Boolean else None for column in missing}
        return _typed(name, rows.with_columns(pl.lit(value).alias(column) for column, value in nothing.items()))
    # Damaged pages can make Polars panic, and its PanicException is no `Exception`.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ChecksumMismatchError(
            f"A file of the ledger {name!r} was committed, and holds no such ledger",
            where=path,
            todo=REBUILT,
        ) from error


def _keep(name: str, checksum: str, rows: pl.DataFrame) -> pl.DataFrame:
    if (size := rows.estimated_size()) <= _MOST_BYTES:
        size += sum(known.estimated_size() for known in _decoded.values())
        if len(_decoded) >= _MOST_DECODED or size > _MOST_BYTES:
            _decoded.clear()
        _decoded[name, checksum] = rows
    return rows.clone()


def _typed(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the columns of a ledger, and the types that they have in all of its files."""
    schema = SCHEMAS[name]
    return rows if rows.schema == schema else rows.select(pl.col(column).cast(kind) for column, kind in schema.items())


def _encode(layout: Layout, name: str, rows: pl.DataFrame, contents: dict[Path, tuple[str, bytes]]) -> LedgerFile:
    buffer, rows = io.BytesIO(), _typed(name, rows)
    rows.write_parquet(buffer)
    content = buffer.getvalue()
    checksum = sha256(content).hexdigest()
    target = layout.ledger_file(name, checksum)
    contents[target] = name, content
    _keep(name, checksum, rows)
    return LedgerFile(path=layout.relative(target), rows=rows.height, checksum=checksum, size_bytes=len(content))
