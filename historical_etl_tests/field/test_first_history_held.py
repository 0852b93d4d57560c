"""A store whose very first history is held: the hold is seen, and a person's word lets the history in."""

from datetime import date
from pathlib import Path

import pytest

from historical_etl import HistoricalETL, Outcome
from historical_etl.cli import main
from historical_etl_tests.field.series import NAME, Series, column, opened, update, walk
from historical_etl_tests.scenario import current_manifest, daily_bytes, store

LAST = 60


class Alone(Series):
    """Of the one symbol only: nothing keeps it company."""

    def fetch(self, request):
        answer = super().fetch(request)
        outcomes = {symbol: outcome for symbol, outcome in answer.outcomes.items() if symbol == NAME}
        return type(answer)(answer.frame.filter(symbol=NAME), outcomes, {}, answer.actions)


def in_pence(count: int = 80) -> list[float]:
    """Half of the closes come a hundred times too high: which half is the wrong one, nobody can tell."""
    closes = walk(count)
    closes[20:50] = [close * 100 for close in closes[20:50]]
    return closes


def filled(root: Path, closes: list[float]) -> HistoricalETL:
    source = Alone(closes)
    etl = opened(root, source, source.days[LAST])
    etl.run_full_etl([NAME], source.days[0], source.days[LAST])
    return etl


@pytest.fixture
def held(root) -> HistoricalETL:
    return filled(root, in_pence())


def test_the_hold_is_seen_everywhere(held, root, capsys):
    assert held.holds().select("symbol", "code").rows() == [(NAME, "level_jump")]
    assert held.gaps(all=True).is_empty()
    assert held.query_sql("SELECT count(*) AS n FROM daily_prices").item() == 0
    assert held.query_sql("SELECT count(*) AS n FROM partitions").item() == 0
    assert held.scan().collect().is_empty()
    assert held.scan(NAME, adjust="splits").collect().is_empty()
    assert held.explain(NAME, held.holds()["session"][0])["event"].to_list() == ["held"]
    report = held.verify()
    assert report.ok
    assert [finding.field for finding in report.findings] == ["holds"]
    for command, fact in (
        (["holds"], "level_jump"),
        (["status"], "no bar is stored"),
        (["verify"], "Undamaged, see the notes"),
        (["versions"], "1"),
        (["query", "SELECT symbol, code FROM holds"], "level_jump"),
    ):
        assert main(["--data-dir", str(root), *command]) == 0
        assert fact in capsys.readouterr().out
    assert main(["--data-dir", str(root), "status", "--check"]) == 0


def test_update_asks_again_and_a_history_that_is_right_now_is_stored(held, root):
    assert update(root, Alone(in_pence()), LAST + 1)[1].outcomes == {NAME: Outcome.HELD}
    etl, result = update(root, Alone(walk(80)), LAST + 2)
    assert (result.outcomes, etl.holds().height) == ({NAME: Outcome.OK}, 0)
    assert column(etl, "close") == walk(80)[: LAST + 3]
    assert daily_bytes(etl) == daily_bytes(filled_through(root.parent / "straight", LAST + 2))


def filled_through(root: Path, at: int) -> HistoricalETL:
    source = Alone(walk(80))
    etl = opened(root, source, source.days[at])
    etl.run_full_etl([NAME], source.days[0], source.days[at])
    return etl


def test_one_word_on_a_jump_and_its_way_back_brings_the_history_in(held, root):
    assert held.accept(NAME, reason="quoted in pence, and back", by="anna").held == {}
    assert column(held, "close") == in_pence()[: LAST + 1]
    assert held.holds().is_empty()
    assert [finding.field for finding in held.verify().findings] == []
    assert update(root, Alone(in_pence()), LAST + 1)[1].complete


def test_a_version_without_bars_can_be_pinned_cited_exported_compared_and_rolled_back_to(held, root):
    held.pin("empty")
    assert held.cite().startswith("historical_daily@v1")
    copy = root.parent / "copy"
    held.export(copy)
    taken = opened(copy, Alone(walk(80)), Alone(walk(80)).days[LAST])
    assert taken.holds().height == 1
    update(root, Alone(walk(80)), LAST + 1)
    etl = opened(root, Alone(walk(80)), Alone(walk(80)).days[LAST + 1])
    assert etl.diff("empty").height
    back = etl.rollback("empty", reason="to look at it again")
    assert (back.end_date, back.row_count, etl.holds().height) == (None, 0, 1)
    assert daily_bytes(etl) == {}
    assert etl.verify().ok
    assert etl.run_incremental_etl().outcomes == {NAME: Outcome.OK}


def test_a_first_history_that_brings_nothing_makes_no_version(root):
    source = Alone(walk(80))
    etl = store(root, source, source.days[LAST])
    etl.run_full_etl([NAME], date(2020, 1, 2), date(2020, 2, 3))
    assert etl.manifest() is None


def test_repair_of_a_store_without_bars_and_of_its_damaged_ledger(held, root):
    assert not held.repair().lost
    path = root / current_manifest(held).ledgers["open_holds"][0].path
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    assert not held.verify().ok
    held.repair()
    assert held.verify().ok
    assert filled(root, walk(80)).scan().collect().height == LAST + 1
