"""The commands for versions and repair, as people and programs call them."""

import polars as pl

from historical_etl.store.layout import Layout
from historical_etl_tests.saying import Saying

ROWS = "SELECT count(*) AS n FROM daily_prices"


def count(answer) -> int:
    return answer.document[0]["n"]


def test_versions_are_listed_pinned_compared_and_brought_back(filled, tmp_path):
    """`filled` commits 2012 and 2013 one after the other."""
    listed = filled("versions", "--json").document["versions"]
    assert [row["version"] for row in listed] == [1, 2]
    assert [row["command"] for row in listed] == ["backfill", "backfill"]
    shown = filled("versions").out
    assert "current, in the catalog" in shown
    assert "2012-2013" in shown

    citation = filled("cite").out.strip()
    assert citation == f"historical_daily@v2:{listed[1]['checksum']}"
    assert filled("cite", "--version", "1", "--json").document["version"] == 1

    assert filled("pin", "paper", "--version", "1").code == 0
    assert "paper" in filled("versions").out
    again = filled("pin", "paper")
    assert again.code == 2
    assert "pins version 1 already" in again.err
    whole, first = count(filled("query", ROWS, "--json")), count(filled("query", ROWS, "--json", "--version", "paper"))
    assert first < whole == 1360

    target = tmp_path / "diff.parquet"
    reported = filled("diff", "paper", "--json", "-o", str(target)).document
    assert (reported["added"], reported["removed"], reported["changed"]) == (whole - first, 0, 0)
    assert pl.read_parquet(target).height == whole - first
    assert "AAPL" in filled("diff", "2", "1").out
    assert "the same bars" in filled("diff", "2", "2").out

    back = filled("rollback", "paper", "--reason", "to try", "--json")
    assert (back.code, back.document["version"], back.document["changed"]) == (0, 3, True)
    assert count(filled("query", ROWS, "--json")) == first
    assert filled("verify").code == 0
    assert "is current already" in filled("rollback", "1").err
    assert filled("rollback", "2").code == 0
    assert count(filled("query", ROWS, "--json")) == whole

    dry = filled("vacuum", "--dry-run", "--keep-versions", "1", "--keep-days", "0", "--json").document
    assert dry["removed"] == [2, 3]
    assert dry["kept"] == {"1": "pinned as paper", "4": "the current version"}
    assert filled("vacuum", "--keep-versions", "1", "--keep-days", "0").code == 0
    assert [row["version"] for row in filled("versions", "--json").document["versions"]] == [1, 4]
    assert filled("unpin", "paper").code == 0
    assert filled("unpin", "paper").code == 2


def test_what_there_is_not_is_a_usage_error(filled):
    for arguments in (
        ("query", ROWS, "--version", "9"),
        ("query", ROWS, "--as-of", "2001-01-01"),
        ("query", ROWS, "--as-of", "soon"),
        ("diff", "1", "none"),
        ("rollback", "9"),
        ("pin", "7"),
        ("cite", "--version", "x"),
        ("vacuum", "--keep-versions", "0"),
        ("vacuum", "--keep-versions", "1000001"),
        ("vacuum", "--keep-days", "-1"),
        ("vacuum", "--keep-days", str(10**12)),
    ):
        answer = filled(*arguments)
        assert answer.code == 2, arguments
        assert "next:" in answer.err


def test_in_an_empty_store(cli):
    assert "Nothing was committed yet" in cli("versions").err
    for arguments in (("cite",), ("pin", "paper"), ("rollback", "1"), ("diff", "1", "2"), ("vacuum",), ("repair",)):
        assert cli(*arguments).code in (1, 2)


def test_repair_says_what_it_did_and_what_is_left(filled):
    layout = Layout(filled.data)
    healthy = filled("repair")
    assert healthy.code == 0
    assert healthy.out == Saying("Nothing was damaged", "version 2 is current")

    layout.daily_file(2012).unlink()
    layout.progress_file().write_bytes(b"{")
    repaired = filled("repair")
    assert repaired.code == 0
    assert "repaired: daily/2012.parquet is linked" in repaired.out
    assert "All is well again" in repaired.out

    damaged = next(layout.objects.glob("2013-*.parquet"))
    damaged.chmod(0o644)
    damaged.write_bytes(b"\0" + damaged.read_bytes()[1:])
    verified = filled("verify")
    assert verified.code == 1
    assert "historical-etl repair" in verified.out
    left = filled("repair")
    assert left.code == 3
    assert "to fetch: 2013, " in left.out
    assert "repair --refetch" in left.out
    (year,) = filled("repair", "--json").document["to_fetch"]
    assert (year["year"], "AAPL" in year["symbols"]) == (2013, True)
    assert filled("repair", "--refetch").code == 0
    assert filled("verify").code == 0
    assert count(filled("query", ROWS, "--json")) == 1360


def test_repair_needs_no_source(filled):
    filled.set(SOURCE="tiingo")  # without a key
    layout = Layout(filled.data)
    layout.daily_file(2012).unlink()
    assert filled("repair").code == 0
    assert layout.daily_file(2012).exists()
