"""One flipped bit, in every kind of file: named by `verify`, never a wrong row, and repaired by `repair`.

The bits are chosen by a seed, so a failure can be repeated; `--torture` tries many more of them.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ChecksumMismatchError, HistoricalETL, Outcome
from historical_etl.store.staging import Staging
from historical_etl_tests.etl.conftest import CORRECTED, opened
from historical_etl_tests.scenario import KEYS, SHORT, ScriptedFetcher, changing, daily_bytes

ROWS = "SELECT * FROM daily_prices ORDER BY symbol, date"


@pytest.fixture(scope="session")
def rich(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one of every kind of file."""
    root = tmp_path_factory.mktemp("rot") / "data"
    shutil.copytree(pristine, root)
    etl = opened(root, source())
    etl.repair()
    etl.manifests.quarantine.copy_bytes("rows.parquet", b"refused rows", "impossible", "historical_daily")
    Staging(etl.layout, "b" * 16).put({"rows": etl.scan().collect()}, {"BRK.B": Outcome.OK}, {})
    etl.run_year(2013)  # progress has a backup
    etl.pin("paper")
    return root


def source() -> ScriptedFetcher:
    """It gives what is stored, so that a year can be fetched again."""
    symbol, day = CORRECTED
    return ScriptedFetcher(SHORT, alter=changing(symbol, day, volume=4321.0))


KINDS: dict[str, str] = {
    "object of the current version": "historical/objects/2012-*.parquet",
    "object of January": "historical/objects/2013-*.parquet",
    "ledger": "historical/ledgers/*.parquet",
    "manifest": "manifests/historical_daily.json",
    "history": "manifests/history/*.json",
    "pin": "manifests/pins/*.json",
    "catalog": "duckdb/historical_catalog.duckdb",
    "record of the catalog": "manifests/historical_daily.catalog",
    "progress": "sync_progress/historical_daily_progress.json",
    "staged rows": "staging/*/*.parquet",
    "staged record": "staging/*/*.json",
    "quarantined rows": "quarantine/*/rows.parquet",
    "record of a quarantined file": "quarantine/*/reason.json",
}


@pytest.fixture
def flips(request: pytest.FixtureRequest) -> int:
    """How many bits of each kind of file are tried."""
    return 60 if request.config.getoption("--torture") else 2


def flip_a_bit(path: Path, dice: random.Random) -> int:
    content = bytearray(path.read_bytes())
    position = dice.randrange(len(content) * 8)
    content[position // 8] ^= 1 << position % 8
    path.chmod(0o644)
    path.write_bytes(content)
    return position


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_bit(rich: Path, root: Path, kind: str, flips: int, subtests: pytest.Subtests):
    for number in range(flips):
        dice = random.Random(f"{kind} {number}")
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(rich, root)
        etl = opened(root, source())
        etl.repair()  # links daily/, and the catalog names this folder
        true = etl.query_sql(ROWS)
        bytes_before = daily_bytes(etl)
        path = dice.choice(sorted(root.glob(KINDS[kind])))
        position = flip_a_bit(path, dice)
        with subtests.test(kind, file=path.name, bit=position):
            check_rot(etl, path, true, bytes_before)


def check_rot(etl: HistoricalETL, path: Path, true: pl.DataFrame, bytes_before: dict[str, bytes]) -> None:
    report = etl.verify()
    assert any(names(path, finding.field) for finding in report.findings), report.findings
    for read in reads(opened(etl.layout.root, source())):
        with suppress(ChecksumMismatchError):  # refused is right, too
            assert_frame_equal(read(), true)
    repaired = opened(etl.layout.root, source()).repair(refetch=True)
    assert repaired.ok, repaired
    again = opened(etl.layout.root, source())
    assert_frame_equal(again.query_sql(ROWS), true)
    assert {name: len(content) for name, content in daily_bytes(again).items()} == {
        name: len(content) for name, content in bytes_before.items()
    }
    assert daily_bytes(again) == bytes_before
    assert again.run_incremental_etl().outcomes


def names(path: Path, field: str) -> bool:
    """Whether a finding is about that file."""
    folder = path.parent.name
    return {
        "objects": field.startswith(("object ", "daily/")),
        "ledgers": field.startswith("ledger"),
        "history": field.startswith("history"),
        "pins": field.startswith("pin"),
        "duckdb": field.startswith("catalog"),
        "sync_progress": field.startswith("progress"),
        "manifests": field.startswith("catalog" if path.suffix == ".catalog" else "historical_daily.json"),
    }.get(folder, field.startswith(("staging/", "quarantine/")))


def reads(etl: HistoricalETL) -> Iterator[Callable[[], pl.DataFrame]]:
    yield lambda: etl.query_sql(ROWS)
    yield lambda: etl.scan().select(SHORT.bars().columns).collect().sort(KEYS[::-1])


def test_damage_in_one_year_leaves_the_others_readable(etl: HistoricalETL):
    path = next(etl.layout.objects.glob("2013-*.parquet"))
    flip_a_bit(path, random.Random(1))
    expected = etl.scan(end="2012-12-31").collect().height
    assert etl.query_sql("SELECT count(*) AS n FROM daily_prices WHERE date < '2013-01-01'").item() == expected
    for sql in ("SELECT count(*) FROM daily_prices", "SELECT max(close) FROM daily_prices WHERE year(date) = 2013"):
        with pytest.raises(ChecksumMismatchError, match="2013"):
            etl.query_sql(sql)
    with pytest.raises(ChecksumMismatchError, match="2013"):
        etl.scan(start="2013-01-01")


def test_rot_is_found_though_the_file_was_read_before(etl: HistoricalETL):
    """What is remembered of a file ends when its inode, size or times change."""
    etl.query_sql(ROWS)
    path = next(etl.layout.objects.glob("2013-*.parquet"))
    flip_a_bit(path, random.Random(2))
    with pytest.raises(ChecksumMismatchError):
        etl.query_sql(ROWS)
