"""A source of another package is found by its name, without a change to this one."""

import sys
from datetime import date

import polars as pl
import pytest

from historical_etl import ConfigurationError, FetchRequest, Outcome, Settings, UnifiedDataFetcher

MODULE = """
from dataclasses import dataclass

import polars as pl

from historical_etl import FetchResult, Outcome, SourceInfo, empty_frame


@dataclass(frozen=True)
class AcmeSource:
    exchange: str
    info = SourceInfo(name="acme", version="acme-prices 1.0", adjustment="raw")

    def fetch(self, request):
        row = {"date": request.start, "symbol": request.symbols[0], "close": 12.5, "volume": 1.0}
        frame = pl.concat([empty_frame(), pl.DataFrame([row])], how="diagonal")
        return FetchResult(frame, {request.symbols[0]: Outcome.OK})

    def members(self, start, end):
        return ["ACME"]


def make(settings):
    return AcmeSource(settings.exchange)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package with an entry point, as pip leaves it."""

    def install(point: str) -> None:
        (tmp_path / "acme_prices.py").write_text(MODULE)
        info = tmp_path / "acme_prices-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-prices\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[historical_etl.sources]\n{point}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "acme_prices", raising=False)

    return install


def test_it_is_used_by_its_name(package):
    package("Acme = acme_prices:make")
    fetcher = UnifiedDataFetcher(Settings(source=" ACME ", exchange="XLON"))
    result = fetcher.fetch(FetchRequest(("ACME",), date(2024, 1, 2), date(2024, 1, 3)))
    assert (fetcher.info.version, fetcher.members(None, None)) == ("acme-prices 1.0", ["ACME"])
    assert result.outcomes == {"ACME": Outcome.OK}
    assert result.frame.filter(pl.col("close") == 12.5).height == 1
    assert fetcher._source.exchange == "XLON"  # pyright: ignore[reportAttributeAccessIssue]


def test_it_is_named_among_the_sources_there_are(package):
    package("acme = acme_prices:make")
    with pytest.raises(ConfigurationError, match=r"sample, files, tiingo, .*, acme"):
        UnifiedDataFetcher(Settings(source="acne"))


def test_it_cannot_take_the_name_of_one_of_ours(package):
    package("sample = acme_prices:make")
    assert UnifiedDataFetcher(Settings(source="sample")).info.version.startswith("bokeh_sampledata")


@pytest.mark.parametrize("point", ["acme = acme_prices:no_such_thing", "acme = no_such_module:make"])
def test_one_that_cannot_be_loaded_is_reported_by_its_entry_point(package, point):
    package(point)
    with pytest.raises(ConfigurationError, match="of another package cannot be loaded") as caught:
        UnifiedDataFetcher(Settings(source="acme"))
    assert point.partition(" = ")[2] in str(caught.value.where)
