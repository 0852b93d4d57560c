"""A peer is timed only as long as it has the rows that we have."""

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from benchmarks.peers.peer import EVERYTHING, Question, digest, panel, sql
from benchmarks.peers.process import Answer, PeerError, PeerProcess, installed
from benchmarks.peers.serve import PEERS, Served
from benchmarks.peers.team import PeerResult, Team, team

DAYS = [date(2024, 1, day) for day in (2, 3, 4)]


def prices(close: float = 10.0, days: list[date] = DAYS) -> pl.DataFrame:
    keys = [(day, symbol) for symbol in ("A", "B") for day in days]
    rows = pl.DataFrame(keys, schema={"date": pl.Date, "symbol": pl.String}, orient="row")
    return rows.with_columns(pl.lit(close).alias(name) for name in ("open", "high", "low", "close")).with_columns(
        volume=100.0, adj_close=close
    )


class Memory:
    """A peer that keeps a frame."""

    def __init__(self) -> None:
        self.rows = prices().clear()
        self.loses = 0
        self.refuses = False

    def given(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows

    def fill(self, rows: pl.DataFrame) -> None:
        self.rows = pl.concat([self.rows, rows])

    def upsert(self, rows: pl.DataFrame, *, whole: bool) -> None:
        if self.refuses:
            raise ValueError("no room")
        kept = self.rows.join(rows, on=["date", "symbol"], how="anti")
        self.rows = pl.concat([kept, rows.tail(rows.height - self.loses)])

    def read(self, question: Question) -> pl.DataFrame:
        return self.rows if question == EVERYTHING else self.rows.filter(pl.col("symbol") == question.symbol)

    def close(self) -> None: ...


class Beside(PeerProcess):
    """A peer in this process, asked in the same words."""

    def __init__(self, name: str, peer: Memory) -> None:
        self.name = name
        self._served = Served(peer)
        self.closed = False

    def _ask(self, **asked: str) -> Answer:
        try:
            return Answer.model_validate(self._served.answer(json.dumps(asked)))
        except ValueError as error:
            raise PeerError(f"{self.name}: {error}") from error

    def close(self) -> None:
        self.closed = True


def beside(peer: Memory, folder: Path) -> tuple[Team, PeerResult, Beside]:
    process, results = Beside("memory", peer), {"memory": PeerResult()}
    return Team([process], results, folder), results["memory"], process


def test_a_peer_with_our_rows_is_timed_once_for_each_turn(tmp_path: Path) -> None:
    peers, result, _ = beside(Memory(), tmp_path)
    peers.fill([prices(days=DAYS[:1]), prices(days=DAYS[1:])], "fill")
    for _ in range(3):
        peers.upsert(prices(11.0), "upsert")
    peers.read(Question("rows", symbol="B"), "symbol", digest(prices(11.0).filter(pl.col("symbol") == "B")))
    peers.check(lambda: digest(prices(11.0)))

    assert result.fault == ""
    assert {what: len(times) for what, times in result.seconds.items()} == {"fill": 1, "upsert": 3, "symbol": 1}
    assert not list(tmp_path.iterdir())


def test_a_peer_that_lost_a_row_is_wrong_and_is_asked_no_more(tmp_path: Path) -> None:
    peer = Memory()
    peers, result, process = beside(peer, tmp_path)
    peers.fill([prices()], "fill")
    peer.loses = 1
    peers.upsert(prices(11.0), "upsert")
    peers.check(lambda: digest(prices(11.0)))

    assert result.fault.startswith("wrong: 5 rows")
    assert process.closed
    peers.upsert(prices(12.0), "upsert")
    assert len(result.seconds["upsert"]) == 1


def test_a_peer_with_another_answer_is_wrong(tmp_path: Path) -> None:
    peers, result, _ = beside(Memory(), tmp_path)
    peers.fill([prices()], "fill")
    peers.read(Question("rows", symbol="B"), "symbol", digest(prices()))
    assert result.fault.startswith("wrong: 3 rows")
    assert "symbol" not in result.seconds


def test_a_peer_that_fails_says_why_and_has_no_time(tmp_path: Path) -> None:
    peer = Memory()
    peers, result, _ = beside(peer, tmp_path)
    peer.refuses = True
    peers.upsert(prices(), "upsert")
    assert result.fault == "memory: no room"
    assert not result.seconds


def test_a_process_that_ends_at_once_is_a_fault_of_the_peer(tmp_path: Path) -> None:
    program = tmp_path / "env" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    results: dict[str, PeerResult] = {}
    with team({"delta": tmp_path / "env"}, tmp_path / "work", results) as peers:
        peers.upsert(prices(), "upsert")
    assert results["delta"].fault == "delta: its process ended with 3"


def test_only_what_was_installed_whole_takes_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "delta").mkdir()
    (tmp_path / "delta" / ".stamp").touch()
    (tmp_path / "duckdb").mkdir()
    assert installed(tmp_path) == {"delta": tmp_path / "delta"}
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == [n for n in PEERS if n != "delta"]


def test_the_digest_of_rows_depends_on_what_they_are_and_not_on_their_order() -> None:
    rows = prices()
    same = digest(rows)
    assert digest(rows.sort("date", descending=True)) == same
    assert digest(pl.concat([rows.head(2), rows.tail(4)], rechunk=False)) == same
    assert digest(rows.with_columns(ret=0.1, year=2024)) == same
    assert digest(prices(10.0000001)) != same
    assert digest(rows.head(5)) != same
    assert digest(pl.concat([rows.head(5), rows.head(1)])) != same
    swapped = rows.with_columns(symbol=pl.when(pl.col("symbol") == "A").then(pl.lit("B")).otherwise(pl.lit("C")))
    assert digest(swapped) != same


def test_the_digest_of_a_panel_counts_its_symbols() -> None:
    closes = prices().select("date", "symbol", "close")
    assert panel(closes).columns == ["date", "A", "B"]
    assert digest(panel(closes)) == digest(panel(closes.reverse()))
    assert digest(panel(closes)) != digest(panel(closes.filter(pl.col("symbol") == "A")))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (EVERYTHING, "SELECT * FROM t"),
        (Question("rows", symbol="A"), "SELECT * FROM t WHERE symbol = 'A'"),
        (
            Question("rows", start=DAYS[0], end=DAYS[1]),
            "SELECT * FROM t WHERE date BETWEEN DATE '2024-01-02' AND DATE '2024-01-03'",
        ),
        (Question("mean"), "SELECT symbol, avg(close) AS close FROM t GROUP BY symbol"),
    ],
)
def test_a_question_in_sql(question: Question, expected: str) -> None:
    assert sql(question, "t") == expected
