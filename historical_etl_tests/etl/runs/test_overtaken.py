"""A run that others overtake again and again still comes to its commit."""

from datetime import date, timedelta

from historical_etl import DATASET_ID, HistoricalETL, ManifestManager
from historical_etl.store.layout import Layout
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, at, changing, current_manifest, store, stored

DAY = date(2012, 11, 7)


class Overtaken(ManifestManager):
    """The manifests of a writer that finds, whenever it goes for the lock, that another one was faster."""

    times = 0

    def acquire_lock(self, dataset=DATASET_ID, writer_id="", timeout_seconds=30):
        self.times += 1
        other = changing("BRK.B", DAY + timedelta(days=self.times % 2), volume=float(self.times))
        store(self.layout.root, ScriptedFetcher(SHORT, alter=other)).run_full_etl("BRK.B", DAY, "2012-11-08", False)
        return super().acquire_lock(dataset, writer_id, timeout_seconds)


def test_a_run_is_not_overtaken_for_ever(root):
    store(root, ScriptedFetcher(SHORT)).run_full_etl(["BRK.B", "HALT"], "2012-11-01", "2013-01-31")
    late = changing("HALT", DAY, volume=77.0)
    clock, layout = at(date(2013, 3, 1)), Layout(root)
    manifests = Overtaken(layout, clock=clock)
    fetcher = ScriptedFetcher(SHORT, alter=late)
    etl = HistoricalETL(fetcher, layout.storage, layout.catalog, manifests, clock=clock)
    result = etl.run_full_etl("HALT", "2012-11-01", "2012-11-30")
    rows = stored(etl).filter(symbol="HALT", date=DAY)
    assert rows["volume"].to_list() == [77.0]
    assert result.corrections == 1
    assert manifests.times > 3, "it was overtaken"
    runs = etl.ledger("runs")
    assert sorted(runs["version"]) == [*range(1, current_manifest(etl).version + 1)], "and undid none of the others"
