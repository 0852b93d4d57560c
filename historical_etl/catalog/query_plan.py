"""Which committed files a query will open, by DuckDB's own plan: those are proven before any row is read.

Where the plan tells too little, the query meets a view that refuses (see `query`).

Each year's branch of `daily_prices` is bounded by its dates (see `views`), and DuckDB keeps a lower bound that lies in
that year however it tightens it. So the date literals in the filters of a scan name its year.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from historical_etl.models import LedgerFile, Partition, SyncManifest
from historical_etl.store.ledger_schemas import SCHEMAS

__all__ = ["all_files", "files_opened"]

_BOUND: Final = re.compile(r"date (?:>=|>|=) '(\d{4})-\d\d-\d\d'::DATE")
_Node = Mapping[str, object]


def all_files(manifest: SyncManifest) -> list[Partition | LedgerFile]:
    """All files of a version that a query may open."""
    return [*manifest.partitions, *(file for files in manifest.ledgers.values() for file in files)]


def files_opened(plan: str, manifest: SyncManifest) -> list[Partition | LedgerFile]:
    """The files of a version that a statement over its views opens, as far as the plan tells.

    Args:
        plan: DuckDB's, as JSON.
        manifest: the version.
    """
    try:
        roots = cast("list[_Node]", json.loads(plan))
    except ValueError:
        return all_files(manifest)
    years: set[int] = set()
    ledgers: set[str] = set()
    for scan in (node for root in roots for node in _nodes(root) if "PARQUET" in str(node.get("name"))):
        facts = cast("_Node", scan.get("extra_info") or {})
        found = {int(year) for year in _BOUND.findall(str(facts.get("Filters", "")))}
        years |= found
        if not found:
            columns = facts.get("Projections") or ()
            asked = {columns} if isinstance(columns, str) else {*cast("Sequence[str]", columns)}
            ledgers |= {name for name in manifest.ledgers if asked <= {*SCHEMAS[name]}}
    return [
        *(file for name, files in manifest.ledgers.items() if name in ledgers for file in files),
        *(partition for partition in manifest.partitions if partition.year in years),
    ]


def _nodes(node: _Node) -> Iterator[_Node]:
    yield node
    for child in cast("Sequence[_Node]", node.get("children", ())):
        yield from _nodes(child)
