"""What a glob over `daily/` finds at every point of a restatement over three years, before anybody puts anything right.

The writer is stopped in each call that changes the disk: what is there then is what a kill at that point leaves. DuckDB
and Polars read it as any other program would, and `verify` is asked about a copy, which no writer holds.
"""

from collections.abc import Callable
from datetime import date
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import duckdb
import polars as pl
import pytest

from historical_etl import ManifestManager
from historical_etl.store.layout import Layout
from historical_etl.store.verify.store import verify_store
from historical_etl_tests.proofs.crash.checks import copy_store
from historical_etl_tests.proofs.crash.commands import BEFORE, SPLIT, SYMBOLS, Acknowledge, in_place, store_on
from historical_etl_tests.proofs.crash.intercept import Answer, Step, intercepted
from historical_etl_tests.proofs.crash.test_crash_matrix import is_idle

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(7200)]

OLD, NEW = 3, 4
BEHIND = f"it shows version {OLD}, all of it, and not version {NEW}, the current one"


def filled(root: Path, _: Acknowledge) -> None:
    store_on(root, BEFORE).run_full_etl(SYMBOLS, date(2003, 12, 15), BEFORE)


def restated(root: Path, acknowledge: Acknowledge) -> None:
    result = store_on(root, SPLIT).run_incremental_etl()
    assert (result.version, result.years_written) == (NEW, (2003, 2004, 2005))
    acknowledge(result.version)


def by_polars(daily: Path) -> str:
    return summed(pl.read_parquet(daily / "*.parquet"))


def by_duckdb(daily: Path) -> str:
    return summed(pl.DataFrame(duckdb.sql(f"FROM '{daily}/*.parquet'")))


def summed(rows: pl.DataFrame) -> str:
    return sha256(rows.sort("date", "symbol").write_csv().encode()).hexdigest()


def stopped_everywhere(root: Path, look: Callable[[], None]) -> int:
    """Restate, and look before every call that changes the disk; returns how many there were."""
    points = 0

    def decide(step: Step) -> Answer:
        nonlocal points
        if step.changes and not is_idle(step):
            points += 1
            look()

    ended = intercepted(restated, root, root.parent.with_name("marks"), decide)
    assert (ended.exitcode, ended.error, ended.acknowledged) == (0, "", (NEW,)), ended.reported
    return points


def said_of_daily(root: Path, aside: Path) -> list[tuple[str, str, str]]:
    """What `verify` says of it after a kill."""
    copy_store(root, aside)
    found = verify_store(ManifestManager(aside)).findings
    return [(each.severity, each.field, each.message) for each in found if each.field.startswith("daily/")]


def mixture(new: str, old: str) -> list[tuple[str, str, str]]:
    years = f"{new} as in version {NEW}, {old} as in version {OLD}"
    return [("error", "daily/", f"it mixes versions: {years}; whoever reads daily/ gets all of it")]


def test_a_glob_is_one_version_wherever_a_restatement_over_three_years_is_killed(root, tmp_path, tried):
    filled(root, lambda _: None)
    layout, manager = Layout(root), ManifestManager(root)
    old, seen, said = by_polars(layout.daily), list[str](), list[tuple[bool, list[tuple[str, str, str]]]]()

    def look() -> None:
        found = by_polars(layout.daily)
        assert by_duckdb(layout.daily) == found
        seen.append(found)
        manifest = manager.load_manifest()
        assert manifest is not None
        if manifest.version == NEW:
            said.append((found == old, said_of_daily(root, tmp_path / "copy")))

    points = stopped_everywhere(root, look)
    new = by_polars(layout.daily)
    assert [found for found, _ in groupby([*seen, new])] == [old, new], "one rename is all that can be seen"
    assert [reported for reported, _ in groupby(said)] == [(True, [("warning", "daily/", BEHIND)]), (False, [])]
    tried(f"read by both at all {points} points of a restatement, {sum(late for late, _ in said)} of them behind")


def test_where_files_must_be_replaced_one_by_one_verify_calls_a_mixture_by_its_name(root, tmp_path):
    """`daily` is somebody else's link here, which is left to them."""
    in_place(root, lambda _: None)
    filled(root, lambda _: None)
    layout = Layout(root)
    seen: dict[str, list[tuple[str, str, str]]] = {}

    def look() -> None:
        found = by_duckdb(layout.daily)
        if found not in seen:
            seen[found] = said_of_daily(root, tmp_path / "copy")

    stopped_everywhere(root, look)
    assert list(seen.values()) == [[], *(mixture("2003", "2004 and 2005"), mixture("2003 and 2004", "2005")), []]
    assert str(layout.daily.readlink()) == "elsewhere"
