"""A run that others overtake again and again still comes to its commit."""

from datetime import date, timedelta

from historical_etl import HistoricalETL
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, at, changing, standing, store, stored

DAY = date(2012, 11, 7)


class Overtaken(HistoricalETL):
    """A store whose writer finds, whenever it goes for the lock, that another one was faster."""

    times = 0

    def lock(self):
        self.times += 1
        other = changing("BRK.B", DAY + timedelta(days=self.times % 2), volume=float(self.times))
        store(self.layout.root, ScriptedFetcher(SHORT, alter=other)).run_full_etl("BRK.B", DAY, "2012-11-08", False)
        return super().store.context.lock()


def test_a_run_is_not_overtaken_for_ever(root):
    store(root, ScriptedFetcher(SHORT)).run_full_etl(["BRK.B", "HALT"], "2012-11-01", "2013-01-31")
    late = changing("HALT", DAY, volume=77.0)
    etl = Overtaken.open(root, ScriptedFetcher(SHORT, alter=late), clock=at(date(2013, 3, 1)))
    result = etl.run_full_etl("HALT", "2012-11-01", "2012-11-30")
    rows = stored(etl).filter(symbol="HALT", date=DAY)
    assert rows["volume"].to_list() == [77.0]
    assert result.corrections == 1
    assert etl.times > 3, "it was overtaken"
    runs = etl.ledger("runs")
    assert sorted(runs["version"]) == list(range(1, standing(etl).version + 1)), "and undid nothing of the others"
