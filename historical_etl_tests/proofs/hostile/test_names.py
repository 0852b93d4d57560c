"""Roots, files and symbols with names that only a file system likes."""

from datetime import date

import duckdb
import pytest

from historical_etl import ConfigurationError, HistoricalETL, Settings
from historical_etl.cli import main
from historical_etl.settings import FilesSettings
from historical_etl.sources.files import FilesSource
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, store, stored, tree

FIRST, LAST = date(2012, 12, 27), date(2013, 1, 4)
COUNT = "SELECT count(*) FROM daily_prices"

NAMES = (
    *("it's", '"quoted"', "two  words", " leading", "trailing ", ".hidden", "...", "a.b..c", "-rf", "--help"),
    *("a\nb", "tab\there", "\x01\x1b[31m", "*", "[a-z]", "a[", "{x}", "{}", "%s %d %%", "100%", "$HOME", "`id`"),
    *("a;b", "a--b", "ümläut", "株価", "🎈", "e\u0301", "\u202etfel", "\u200b", "#", "&", "|", "=1", "x" * 200),
    *("year=2012", "NULL", "null.parquet", "historical_daily.json", "http:", "s3:"),
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_store_works_under_any_name(root, name):
    etl = store(root / name, ScriptedFetcher(SHORT), LAST)
    result = etl.run_full_etl(["BRK.B", "HALT"], FIRST, LAST)
    rows = SHORT.expected(["BRK.B", "HALT"], FIRST, LAST).height
    assert result.catalog_error is None
    assert stored(etl).height == rows == etl.query_sql(COUNT).item()
    with duckdb.connect(str(etl.layout.catalog), read_only=True) as connection:
        assert connection.sql(COUNT).fetchall() == [(rows,)]
    assert etl.run_incremental_etl().changed is False
    assert [path.name for path in root.iterdir()] == [name], "nothing was written beside it"


@pytest.mark.parametrize("name", ["what?", "a?b=c", "\\", "c:\\x", "a\\nb"], ids=ascii)
def test_a_question_mark_or_backslash_costs_the_catalog_file_alone(root, name):
    etl = store(root / name, ScriptedFetcher(SHORT), LAST)
    result = etl.run_full_etl(["BRK.B"], FIRST, LAST)
    assert result.catalog_error is not None
    assert "DuckDB takes no path with" in result.catalog_error
    assert "catalog_path" in result.catalog_error
    assert etl.query_sql(COUNT).item() == stored(etl).height > 0
    assert not etl.layout.catalog.exists()


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 256, "é" * 128, "\ud800", chr(0xDCFF), "d/" * 2500], ids=lambda n: ascii(n)[:9]
)
def test_what_can_be_no_path_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ConfigurationError) as caught:
        store(tmp_path / name, ScriptedFetcher(SHORT), LAST)
    assert caught.value.todo
    str(caught.value).encode()
    assert list(tmp_path.iterdir()) == []


#: Not one of them may reach a file name, SQL, or a vendor's address.
NO_SYMBOLS = (
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "A/B/C",
        "A/.B",
        "A\\B",
        "..",
        ".",
        "-A",
        "A B",
        "A'B",
        'A"B',
        "A;B",
        "A\nB",
        "A\0B",
    ),
    *("A?B", "A*", "[A]", "A%", "A" * 33, "ß", "Ａ", "É", "\ud800", "\u202eA", "$A", "&x=1", "#A", "A:B", "A|B"),
)


@pytest.fixture(scope="module")
def etl(tmp_path_factory) -> HistoricalETL:
    etl = store(tmp_path_factory.mktemp("symbols") / "data", ScriptedFetcher(SHORT), LAST)
    etl.run_full_etl(["BRK.B"], FIRST, LAST)
    return etl


@pytest.mark.parametrize("symbol", NO_SYMBOLS, ids=ascii)
def test_a_symbol_that_is_none_is_refused_by_name_wherever_it_enters(etl, symbol):
    before = tree(etl.layout.root)
    doors = (
        lambda: etl.run_full_etl([symbol], FIRST, LAST),
        lambda: etl.run_year(2012, [symbol]),
        lambda: etl.run_incremental_etl([symbol]),
        lambda: etl.scan([symbol]),
        lambda: etl.accept(symbol, reason="x", by="y"),
        lambda: etl.waive(symbol, FIRST, reason="x", by="y"),
        lambda: etl.explain(symbol, FIRST),
        lambda: Settings().changed({"symbols": symbol}),
    )
    for door in doors:
        with pytest.raises(ConfigurationError) as caught:
            door()
        shown = ascii(caught.value.what)
        assert "refused" in shown
        assert ascii(symbol.upper() if symbol.isascii() else symbol)[1:-1].replace("\\", "") in shown.replace("\\", "")
    assert tree(etl.layout.root) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("backfill", "--symbols", "A/../B"),
        ("update", "--symbols", "A/../B"),
        ("explain", "A/../B", "2012-12-28"),
        ("accept", "A/../B", "--reason", "x"),
        ("gaps", "--symbol", "A/../B"),
        ("gaps", "waive", "A/../B", "--from", "2012-12-28", "--reason", "x"),
    ],
    ids=" ".join,
)
def test_and_on_the_command_line(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "'A/../B'" in capsys.readouterr().err
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.mark.parametrize("name", ["a b", "it's", "[x]", "ü", "-x", "a\nb", "%s", "what?", "..."], ids=ascii)
def test_files_to_be_read_may_have_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name.lstrip('.')}x.csv").write_text("date,symbol,close,volume\n2012-05-18,FB,38.23,1\n")
    found = FilesSource(FilesSettings(path=str(folder))).members(None, None)
    assert found == ["FB"]


@pytest.mark.parametrize(
    "path",
    ["a\0b", "x" * 300, "~nobody-of-this-name/x", "[", "**/\0", "/" + "d/" * 3000, "\ud800"],
    ids=lambda n: ascii(n)[:9],
)
def test_a_path_that_names_no_file(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        FilesSource(FilesSettings.model_construct(path=path))
    assert caught.value.todo
