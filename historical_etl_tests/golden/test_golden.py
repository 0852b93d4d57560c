"""Stores of earlier releases: they open, verify, answer, update and keep their bytes, whatever release reads them."""

import shutil
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL, Outcome
from historical_etl.etl.maintenance.archive import import_store
from historical_etl.store.failed_runs import read_notes
from historical_etl.store.parquet.month_blocks import read_blocks
from historical_etl.store.quarantine.entries import read_entries
from historical_etl.store.verify.findings import StoreFinding
from historical_etl_tests.golden.recorded import (
    Golden,
    as_listed,
    fingerprint,
    in_order,
    is_open,
    read_recorded,
    recorded_stores,
)
from historical_etl_tests.scenario import COLUMNS, KEYS, current_manifest, daily_bytes, tree

STORES = recorded_stores()
#: The release whose year files have today's layout.
LAYOUT_OF_TODAY = "release-4"
#: Those that a writer left in order.
SETTLED = [golden for golden in STORES if not golden.facts["interrupted"]]
GIVEN = ["open", "high", "low", "close", "volume", "adj_close"]
HOLDS = ("symbol", "code", "session", "status")
GAPS = ("symbol", "first_session", "last_session", "status")
#: What a person cannot accept.
BARRED = {"refused", "other_basis"}
Readable = Callable[[Golden], HistoricalETL]


def of(stores: Iterable[Golden]):
    return pytest.mark.parametrize("golden", list(stores), ids=str)


def opened(golden: Golden, root: Path) -> HistoricalETL:
    golden.unpack(root)
    return golden.open(root)


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Readable:
    """A store that is only read, unpacked once; the first test proves that reading changes nothing."""

    @cache
    def unpacked(golden: Golden) -> HistoricalETL:
        return opened(golden, tmp_path_factory.mktemp(str(golden)) / "data")

    return unpacked


def committed(root: Path) -> dict[str, bytes]:
    """Every file that a version consists of, the manifests, and the pins; not what says how far a run has come.

    And what `daily/` shows, whatever it is: a folder, or a link to one.
    """
    kept = ("historical/objects/", "historical/ledgers/", "manifests/history/", "manifests/pins/")
    kept += ("manifests/historical_daily.json",)
    shown = {f"historical/daily/{path.name}": path.read_bytes() for path in (root / "historical" / "daily").iterdir()}
    return {name: content for name, content in tree(root).items() if name.startswith(kept)} | shown


def by_year(golden: Golden, rows: pl.DataFrame) -> dict[str, str]:
    """The fingerprints of rows, as they are recorded."""
    ordered = in_order(rows, golden.facts["columns"])
    years = ordered["date"].dt.year()
    return {str(year): fingerprint(ordered.filter(years == year)) for year in years.unique().sort()}


def recorded_years(version: dict[str, Any], what: str = "values") -> dict[str, str]:
    return {year: facts[what] for year, facts in version["years"].items()}


def year_files(etl: HistoricalETL) -> dict[str, str]:
    return {str(partition.year): partition.checksum for partition in current_manifest(etl).partitions}


def given(golden: Golden, symbols: Iterable[str]) -> pl.DataFrame:
    """What the source gives of some symbols up to the evening of the last run."""
    bars = golden.bars().filter(
        pl.col("symbol").is_in(list(symbols)), pl.col("date").is_between(golden.first, golden.today)
    )
    return in_order(bars, [*KEYS, *GIVEN])


def sessions_of(etl: HistoricalETL, gaps: Iterable[list[Any]]) -> set[tuple[str, str]]:
    """Each missing session; in how many ranges they are kept is no promise."""
    return {
        (symbol, str(day))
        for symbol, first, last, *_ in gaps
        for day in etl.calendar.between(datetime.fromisoformat(first).date(), datetime.fromisoformat(last).date())
    }


def is_intact(etl: HistoricalETL) -> bool:
    """Whether nothing is to be said of it, but that these runs published no catalog."""
    return not [finding for finding in beside_holds(etl) if not str(finding).startswith("catalog")]


def beside_holds(etl: HistoricalETL) -> list[StoreFinding]:
    """What is said of it, but for the holds that stand open."""
    return [finding for finding in etl.verify().findings if finding.field != "holds"]


def open_now(etl: HistoricalETL) -> tuple[list[list[Any]], set[tuple[str, str]]]:
    return as_listed(etl.holds(), HOLDS), sessions_of(etl, as_listed(etl.gaps(), GAPS))


def test_all_of_them_are_here():
    """Else every other test would have nothing to look at. Each new format adds its own; none is taken away."""
    release_1 = "held killed-after killed-before named-raw named-split-adjusted replay without-adj-close"
    kept = {"release-0-before-ledgers", *(f"release-1-{name}" for name in release_1.split())}
    kept |= {f"release-{number}-{name}" for number in (2, 3, 4) for name in ("every-ledger", "killed-after")}
    assert kept <= set(map(str, STORES))
    assert [golden for golden in STORES if golden.archive.exists()]


def test_one_of_them_has_a_row_in_every_ledger_and_what_lies_beside(readable: Readable):
    """So that no format in a data folder is without a recorded store."""
    golden = next(golden for golden in STORES if str(golden) == "release-2-every-ledger")
    assert {name for name, ledger in golden.require_manifest["ledgers"].items() if ledger["rows"]} >= {
        *("actions", "additions", "aliases", "closed_gaps", "closed_holds", "corrections", "flagged_rows", "open_gaps"),
        *("open_holds", "rejected_rows", "replaced_rows", "restatements", "runs", "stale_bars", "symbols", "withheld"),
    }
    assert {row[-1] for row in golden.facts["holds"]} == {"open", "accepted", "split"}
    assert {row[-1] for row in golden.facts["gaps"]} == {"open", "confirmed", "waived", "filled", "ended"}
    assert golden.facts["pins"]
    layout = readable(golden).layout
    assert layout.daily.is_symlink()
    assert read_notes(layout)
    entries = read_entries(layout)
    assert entries
    assert all(entry.content and entry.is_intact() for entry in entries)


def test_a_failed_run_that_no_version_has_is_recorded_by_the_next(root: Path):
    golden = next(golden for golden in STORES if str(golden) == "release-2-every-ledger")
    etl = opened(golden, root)
    failed = pl.col("status") == "failed"
    assert etl.ledger("runs").filter(failed).height == 1
    golden.open(root, golden.following).run_incremental_etl(publish=False)
    assert etl.ledger("runs").filter(failed).height == 2
    assert read_notes(etl.layout) == []


# ── it answers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@of(STORES)
def test_it_verifies_and_reading_changes_nothing(golden: Golden, readable: Readable):
    etl = readable(golden)
    before = tree(etl.layout.root)
    report = etl.verify()
    assert report.ok, report.findings
    assert report.version == golden.require_manifest["version"]
    assert report.rows == sum(year["rows"] for year in golden.require_manifest["years"].values())
    assert etl.scan().collect().height == report.rows
    assert tree(etl.layout.root) == before


@of(STORES)
def test_every_kept_version_answers_with_what_was_recorded(golden: Golden, readable: Readable):
    etl = readable(golden)
    columns = ", ".join(f'"{name}"' for name in golden.facts["columns"])
    assert etl.versions()["version"].to_list() == [version["version"] for version in golden.facts["versions"]]
    for version in golden.facts["versions"]:
        number = version["version"]
        assert by_year(golden, etl.scan(version=number).collect()) == recorded_years(version)
        reported = etl.query_sql(f"SELECT {columns} FROM daily_prices", version=number)
        assert by_year(golden, reported) == recorded_years(version)
        assert etl.cite(number) == f"historical_daily@v{number}:{version['checksum']}"
        manifest = etl.manifest(number)
        assert manifest is not None
        assert {str(year.year): year.checksum for year in manifest.partitions} == recorded_years(version, "file")


@of(STORES)
def test_every_ledger_of_every_kept_version_has_its_rows(golden: Golden, readable: Readable):
    etl = readable(golden)
    for version in golden.facts["versions"]:
        for name, recorded in version["ledgers"].items():
            state, _, rest = name.partition("_")
            if state not in {"open", "closed"}:
                rows = etl.ledger(name, version=version["version"]).select(golden.facts["ledger_columns"][name])
                assert (rows.height, fingerprint(rows)) == (recorded["rows"], recorded["values"]), name
            elif rest:
                both = [version["ledgers"].get(f"{part}_{rest}", {"rows": 0})["rows"] for part in ("open", "closed")]
                assert etl.ledger(rest, version=version["version"]).height == sum(both)


@of(STORES)
def test_a_time_and_a_pin_find_the_version_that_stood(golden: Golden, readable: Readable):
    etl = readable(golden)
    assert {name: pin.version for name, pin in etl.pins().items()} == golden.facts["pins"]
    for name, number in golden.facts["pins"].items():
        assert etl.scan(version=name).collect().equals(etl.scan(version=number).collect())
    kept = golden.facts["versions"]
    for version, after in zip(kept, [*kept[1:], None], strict=True):
        if after and after["version"] != version["version"] + 1:
            continue  # what stood a moment later is not kept
        if after and after["committed_at"] == version["committed_at"]:
            continue
        moment = datetime.fromisoformat(version["committed_at"]) + timedelta(seconds=1)
        found = etl.manifest(as_of=moment)
        assert found is not None
        assert found.version == version["version"]
        assert by_year(golden, etl.scan(as_of=moment).collect()) == recorded_years(version)


@of(STORES)
def test_its_status_is_reported_as_it_was(golden: Golden, readable: Readable):
    etl = readable(golden)
    assert {symbol: str(day) for symbol, day in etl.cursors().items()} == golden.facts["cursors"]
    assert as_listed(etl.holds(all=True), HOLDS) == golden.facts["holds"]
    assert as_listed(etl.holds(), HOLDS) == is_open(golden.facts["holds"])
    assert as_listed(etl.gaps(all=True), GAPS) == golden.facts["gaps"]
    assert as_listed(etl.gaps(), GAPS) == is_open(golden.facts["gaps"])


@of(golden for golden in STORES if golden.facts["told"])
def test_the_story_of_a_bar_is_reported_as_it_was(golden: Golden, readable: Readable):
    etl = readable(golden)
    for story in golden.facts["told"]:
        events = etl.explain(story["symbol"], story["date"]).select("version", "event", "column", "old", "new")
        assert [list(row) for row in events.rows()] == story["events"]


@of(golden for golden in STORES if golden.facts["adjusted"])
def test_adjusted_prices_are_what_they_were(golden: Golden, readable: Readable):
    etl = readable(golden)
    for adjust in ("none", "splits", "total"):
        rows = {
            row[:2]: row[2:] for row in etl.scan(adjust=adjust).collect()[[*KEYS, "open", "close", "volume"]].rows()
        }
        recorded = [row[1:] for row in golden.facts["adjusted"] if row[0] == adjust]
        assert recorded
        for symbol, day, *values in recorded:
            assert rows[datetime.fromisoformat(day).date(), symbol] == pytest.approx(values, rel=1e-9), (symbol, day)


# ── it goes on ─────────────────────────────────────────────────────────────────────────────────────────────────────


@of(SETTLED)
def test_an_update_that_brings_nothing_new_keeps_every_byte(golden: Golden, root: Path):
    etl = opened(golden, root)
    before = committed(root)
    result = etl.run_incremental_etl()
    assert not result.changed
    if not golden.require_manifest["ledgers"]:  # what is known of each symbol is written down for the first time
        assert year_files(etl) == recorded_years(golden.require_manifest, "file")
        assert before.items() - committed(root).items() == {
            ("manifests/historical_daily.json", before["manifests/historical_daily.json"])
        }
        before = committed(root)
        golden.open(root).run_incremental_etl()
    if golden.name == "named-split-adjusted":  # its source takes splits out of its prices, and did not say so
        assert any("split_adjusted" in warning for warning in result.warnings)
        assert year_files(etl) == recorded_years(golden.require_manifest, "file")
        splits = etl.ledger("actions").filter(pl.col("split") != 1)
        assert splits.height
        assert not splits["in_close"].any()
        before = committed(root)
        assert not golden.open(root).run_incremental_etl().warnings
    assert committed(root) == before
    assert open_now(etl) == (is_open(golden.facts["holds"]), sessions_of(etl, is_open(golden.facts["gaps"])))
    assert beside_holds(etl) == []


@of(STORES)
def test_an_update_with_a_session_more_leaves_the_rest_as_it_is(golden: Golden, root: Path):
    etl = opened(golden, root)
    if golden.facts["interrupted"]:
        etl.run_incremental_etl(publish=False)
    holds, gaps = open_now(etl)
    assert holds == is_open(golden.facts["holds"])
    rows, files = in_order(etl.scan().collect(), golden.facts["columns"]), year_files(etl)
    later = golden.open(root, golden.following)
    result = later.run_incremental_etl(publish=False)
    assert result.changed
    assert year_files(later).items() - files.items() == {
        (year, checksum) for year, checksum in year_files(later).items() if year == str(golden.following.year)
    }
    now = in_order(later.scan().collect(), golden.facts["columns"])
    assert now.filter(pl.col("date") <= golden.today).equals(rows)
    held = {symbol for symbol, *_ in holds}
    fetched = golden.bars().filter(pl.col("date") == golden.following, ~pl.col("symbol").is_in(list(held)))
    stored = now.filter(pl.col("date") > golden.today)
    assert in_order(stored, [*KEYS, *GIVEN]).equals(in_order(fetched, [*KEYS, *GIVEN]))
    assert stored["ret"].is_not_null().all()
    holds_now, gaps_now = open_now(later)
    assert holds_now == holds
    assert gaps <= gaps_now
    assert is_intact(later)


@of(golden for golden in STORES if golden.facts["interrupted"])
def test_what_a_killed_writer_left_is_finished_or_undone(golden: Golden, root: Path):
    etl = opened(golden, root)
    assert etl.verify().findings
    stood = golden.require_manifest["version"]
    before = committed(root)
    result = etl.run_incremental_etl()
    brought = str(golden.today) not in golden.facts["cursors"].values()
    assert result.version == stood + brought
    assert result.changed == brought
    assert in_order(etl.scan().collect(), [*KEYS, *GIVEN]).equals(given(golden, golden.facts["symbols"]))
    assert beside_holds(etl) == []
    progress = etl.progress()
    assert progress is not None
    assert (progress.data_version, set(progress.symbol_last_dates.values())) == (result.version, {golden.today})
    if not brought:  # the version stood already: only what shows it was behind
        daily = {name for name in before if name.startswith("historical/daily/")}
        now = committed(root)
        assert {name for name in before if now.get(name) != before[name]} == daily


@of(golden for golden in STORES if golden.facts["whole"])
def test_the_same_bars_in_a_new_store_are_the_same_bytes(golden: Golden, root: Path):
    etl = opened(golden, root)
    new = golden.open(root.parent / "new")
    new.run_full_etl(golden.facts["symbols"], golden.facts["first"], golden.today)
    assert by_year(golden, new.scan().collect()) == recorded_years(golden.require_manifest)
    etl.repack(publish=False)
    assert daily_bytes(new) == daily_bytes(etl)
    assert current_manifest(new).checksum == current_manifest(etl).checksum
    if golden.release == LAYOUT_OF_TODAY and golden.facts["writer"] == f"polars {pl.__version__}":
        # Another Polars, and another layout, may write other bytes for equal rows.
        assert current_manifest(new).checksum == golden.require_manifest["checksum"]


@of(SETTLED)
def test_repacked_it_has_the_same_rows_in_every_version_and_an_update_finds_nothing_new(golden: Golden, root: Path):
    etl = opened(golden, root)
    newest, cursors = golden.require_manifest, etl.cursors()
    ledgers = current_manifest(etl).ledgers
    first = etl.repack(publish=False)
    assert first.version == newest["version"] + (golden.release != LAYOUT_OF_TODAY)
    assert etl.repack(publish=False) == first
    assert by_year(golden, etl.scan().collect()) == recorded_years(newest)
    still_kept = [version for version in golden.facts["versions"] if version["version"] in etl.versions()["version"]]
    assert still_kept
    for version in still_kept:
        assert by_year(golden, etl.scan(version=version["version"]).collect()) == recorded_years(version)
    kept = {name: files for name, files in current_manifest(etl).ledgers.items() if name != "runs"}
    assert kept == {name: files for name, files in ledgers.items() if name != "runs"}
    assert etl.cursors() == cursors
    assert all(block.current for p in current_manifest(etl).partitions for block in read_blocks(root / p.path))
    assert etl.verify().ok
    files = year_files(etl)
    golden.open(root).run_incremental_etl(publish=False)
    assert year_files(etl) == files


@of(golden for golden in STORES if golden.facts["interrupted"])
def test_repacked_after_a_run_that_was_broken_off_nothing_is_left_behind(golden: Golden, root: Path):
    etl = opened(golden, root)
    repacked = etl.repack()
    assert by_year(golden, etl.scan().collect()) == recorded_years(golden.require_manifest)
    progress = etl.store.context.progress()
    assert progress is not None
    assert progress.data_version == repacked.version == etl.catalog.shown_version()
    assert [finding.field for finding in etl.verify().findings if finding.field == "progress"] == []


@of(golden for golden in SETTLED if golden.facts["holds"])
def test_a_hold_that_was_recorded_can_be_accepted(golden: Golden, root: Path):
    etl = opened(golden, root)
    before = etl.scan().collect()
    acceptable = [hold for hold in is_open(golden.facts["holds"]) if hold[1] not in BARRED]
    assert acceptable
    for symbol, code, *_ in acceptable:
        result = etl.accept(symbol, reason="looked at", by="anna")
        assert result.outcomes[symbol] is Outcome.OK, code
        stored = in_order(etl.scan(symbol).collect(), [*KEYS, *GIVEN])
        assert stored.equals(given(golden, [symbol])), code
        assert symbol not in etl.holds()["symbol"]
    assert as_listed(etl.holds(), HOLDS) == [hold for hold in is_open(golden.facts["holds"]) if hold not in acceptable]
    others = ~pl.col("symbol").is_in([symbol for symbol, *_ in acceptable])
    columns = golden.facts["columns"]
    assert in_order(etl.scan().collect().filter(others), columns).equals(in_order(before.filter(others), columns))
    for symbol, code, *_ in is_open(golden.facts["holds"]):
        if code in BARRED:
            with pytest.raises(ConfigurationError):
                etl.accept(symbol, reason="looked at", by="anna")
    assert beside_holds(etl) == []


# ── versions, catalog, archives ────────────────────────────────────────────────────────────────────────────────────


@of(SETTLED)
def test_an_old_version_can_stand_again(golden: Golden, root: Path):
    etl = opened(golden, root)
    oldest, newest = golden.facts["versions"][0], golden.require_manifest
    said = [finding.field for finding in beside_holds(etl) if finding.field != "catalog"]
    etl.pin("newest")
    for wanted, name in ((oldest, oldest["version"]), (newest, "newest")):
        version = current_manifest(etl).version
        assert etl.rollback(name, reason="to look", publish=False).version == version + 1
        assert by_year(golden, etl.scan().collect()) == recorded_years(wanted)
        assert year_files(etl) == recorded_years(wanted, "file")
        assert set(daily_bytes(etl)) == {f"{year}.parquet" for year in wanted["years"]}
    assert [finding.field for finding in beside_holds(etl) if finding.field != "catalog"] == said
    assert {symbol: str(day) for symbol, day in etl.cursors().items()} == golden.facts["cursors"]


@of(STORES)
def test_the_catalog_is_built_for_the_place_where_it_now_lies(golden: Golden, root: Path):
    etl = opened(golden, root)
    etl.publish_catalog()
    ledgers = golden.require_manifest["ledgers"]
    with duckdb.connect(etl.layout.catalog, read_only=True) as catalog:
        rows = catalog.execute(f"SELECT {', '.join(COLUMNS)} FROM daily_prices").fetchall()
        prices = pl.DataFrame(rows, schema=COLUMNS, orient="row")
        assert by_year(golden, prices) == recorded_years(golden.require_manifest)
        for name in {"holds", "gaps", *ledgers}:
            if name.partition("_")[0] in {"open", "closed"}:
                continue
            parts = [name, f"open_{name}", f"closed_{name}"]
            rows = sum(ledgers[part]["rows"] for part in parts if part in ledgers)
            assert catalog.execute(f"SELECT count(*) FROM {name}").fetchone() == (rows,), name


@of(SETTLED)
def test_it_goes_out_and_comes_in(golden: Golden, root: Path):
    etl = opened(golden, root)
    archive = etl.export(root.parent / "archive.tar")
    fetched = golden.open(root.parent / "came")
    assert import_store(fetched.store.state, archive).version == golden.require_manifest["version"]
    manifest = "manifests/historical_daily.json"
    assert (fetched.layout.root / manifest).read_bytes() == (root / manifest).read_bytes()
    assert daily_bytes(fetched) == daily_bytes(etl)
    assert read_recorded(fetched.layout.root)["versions"] == [golden.require_manifest]
    assert as_listed(fetched.holds(all=True), HOLDS) == golden.facts["holds"]
    assert beside_holds(fetched) == []


@of(golden for golden in STORES if "exported" in golden.facts)
def test_what_the_release_exported_comes_in_and_goes_on(golden: Golden, root: Path):
    exported = next(v for v in golden.facts["versions"] if v["version"] == golden.facts["exported"])
    etl = golden.open(root)
    assert import_store(etl.store.state, golden.archive).version == exported["version"]
    assert read_recorded(root)["versions"] == [exported]
    assert beside_holds(etl) == []
    etl.run_incremental_etl(publish=False)
    assert in_order(etl.scan().collect(), [*KEYS, *GIVEN]).equals(given(golden, golden.facts["symbols"]))
    assert by_year(golden, etl.scan().collect()) == recorded_years(golden.require_manifest)


@of(golden for golden in SETTLED if golden.facts["pins"])
def test_a_copy_without_hard_links_is_as_good(golden: Golden, root: Path):
    etl = opened(golden, root)
    for path in etl.layout.daily.iterdir():
        aside = path.with_name("aside")
        shutil.copyfile(path, aside)
        aside.replace(path)
    assert etl.verify().ok
    before = committed(root)
    assert not etl.run_incremental_etl(publish=False).changed
    assert committed(root) == before
    assert by_year(golden, etl.scan().collect()) == recorded_years(golden.require_manifest)
