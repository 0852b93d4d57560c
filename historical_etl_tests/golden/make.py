"""Make the recorded stores of a release: `python -m historical_etl_tests.golden.make RELEASE [STORE …]`.

It says how the stores that lie here were made, and makes those of a later release; one that is there is never made
again. Equal code gives equal rows, ledgers and manifests: the clock and the sources are the story's own.
"""

import argparse
import json
import lzma
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from historical_etl import FetchRequest, HistoricalETL
from historical_etl_tests.golden.recorded import FOLDER, read_recorded
from historical_etl_tests.golden.stories import OF_OLD, STORIES, Stage, Story

#: Never packed: the lock names the machine.
_LEFT_OUT: Final = ("manifests/historical_daily.lock",)
_CATALOG: Final = ("duckdb/historical_catalog.duckdb", "manifests/historical_daily.catalog")
_EPOCH: Final = 1_400_000_000  # of the first file in an archive
#: What a backfill asks for before its first session, and does not store, lies within these.
_LEAD: Final = timedelta(days=60)


def make(folder: Path, name: str) -> None:
    """Live a story, and write down the store, its source and what it must answer."""
    story = STORIES[name]()
    scratch = Path(tempfile.gettempdir()) / "historical-etl-golden"  # a fixed one, since a catalog names its place
    scratch.mkdir()
    try:
        root = scratch / "data"
        stage = Stage(root, story.source, story.options)
        story.play(stage)
        bars, actions = _given(story)
        info = {key: value for key, value in asdict(story.source(story.today).info).items() if key in _SAID}
        facts = {
            "source": info,
            "actions": actions,
            "symbols": list(story.symbols),
            "first": str(story.first),
            "today": str(story.today),
            "following": str(story.following),
            "options": {key: str(value) if isinstance(value, date) else value for key, value in story.options.items()},
            "whole": story.whole,
            "interrupted": story.interrupted,
            **read_recorded(root),
            "told": _reported(stage.at(story.today), story.bars) if story.bars else [],
            "adjusted": _adjusted(stage.at(story.today)) if story.adjusted else [],
        }
        if story.exported:
            facts["exported"] = stage.at(story.today).pins()[story.exported].version
            stage.at(story.today).export(folder / f"{name}.export.tar", story.exported)
        left_out = _LEFT_OUT if story.catalog else (*_LEFT_OUT, *_CATALOG)
        _pack(root, folder / f"{name}.tar.xz", left_out)
    finally:
        shutil.rmtree(scratch)
    bars.write_parquet(folder / f"{name}.parquet", compression="zstd", compression_level=19)
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


_SAID: Final = ("name", "version", "adjustment", "split_adjusted")


def _given(story: Story) -> tuple[pl.DataFrame, list[list[Any]] | None]:
    """What the source gives on the two evenings; fails if what it gave on the first is not a part of the second."""
    request = FetchRequest(tuple(story.symbols), story.first - _LEAD, story.following)
    earlier, later = (story.source(day).fetch(request) for day in (story.today, story.following))
    frame, before = (answer.frame.filter(pl.col("date") <= story.following) for answer in (later, earlier))
    order = ["date", "symbol"]
    assert frame.filter(pl.col("date") <= story.today).equals(before.filter(pl.col("date") <= story.today))
    named = getattr(later, "actions", None)
    return frame.sort(order, maintain_order=True), _plain(named)


def _plain(actions: pl.DataFrame | None) -> list[list[Any]] | None:
    return None if actions is None else [list(row) for row in actions.with_columns(pl.col("date").cast(str)).rows()]


def _reported(etl: HistoricalETL, bars: Sequence[tuple[str, date]]) -> list[dict[str, Any]]:
    """The stories of some bars, without their texts."""
    names = ("version", "event", "column", "old", "new")
    return [
        {"symbol": symbol, "date": str(day), "events": [list(row) for row in etl.explain(symbol, day)[names].rows()]}
        for symbol, day in bars
    ]


def _adjusted(etl: HistoricalETL) -> list[list[Any]]:
    """The first and the last bar of each symbol, adjusted in every way."""
    found: list[list[Any]] = []
    for adjust in ("none", "splits", "total"):
        rows = etl.scan(adjust=adjust).collect().sort("symbol", "date")
        ends = pl.concat([rows.group_by("symbol", maintain_order=True).first(), rows.group_by("symbol").last()])
        ends = ends.sort("symbol", "date").select("symbol", pl.col("date").cast(str), "open", "close", "volume")
        found += [[adjust, *row] for row in ends.rows()]
    return found


def _pack(root: Path, target: Path, left_out: Sequence[str]) -> None:
    """Every file and symbolic link, in the order of names; a second name of one file is a hard link, as on disk."""
    times: dict[str, int] = {}  # no two alike, since a copy in daily/ is known by its size and its time
    with (
        lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for path in sorted(root.rglob("*")):
            if (path.is_file() or path.is_symlink()) and str(path.relative_to(root)) not in left_out:
                entry = tar.gettarinfo(path, str(path.relative_to(root)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                entry.mtime = times.setdefault(entry.linkname or entry.name, _EPOCH + len(times))
                if not entry.isreg():
                    tar.addfile(entry)
                    continue
                with path.open("rb") as content:
                    tar.addfile(entry, content)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the stores of a release."""
    parser = argparse.ArgumentParser(prog="python -m historical_etl_tests.golden.make", description=__doc__)
    parser.add_argument("release", help="the folder that they come into, beside this file")
    parser.add_argument("stores", nargs="*", default=[], help=f"some of {', '.join(STORIES)}")
    options = parser.parse_args(arguments)
    folder = FOLDER / options.release
    folder.mkdir(exist_ok=True)
    for name in options.stores or [story for story in STORIES if story not in OF_OLD]:
        if (folder / f"{name}.json").exists():
            print(f"{options.release}/{name} is there already: left alone")
            continue
        make(folder, name)
        print(f"{options.release}/{name}: {sum(path.stat().st_size for path in folder.glob(f'{name}.*')):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
