"""An argument of a wrong type is an error of ours, whatever public method it is given to."""

import inspect
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL, Settings, UnifiedDataFetcher
from historical_etl.arguments import require_type, typed_arguments
from historical_etl.etl.maintenance import Maintenance
from historical_etl.etl.reader import StoredPrices, StoreVersions
from historical_etl.etl.runs import PriceRuns
from historical_etl.symbols import normalize_symbols
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, store

#: Parameters that take any object, or that say themselves what they take.
_LEFT_ALONE = {"fetcher", "adjust"}


def methods(kind: type) -> Iterator[tuple[str, Callable[..., object]]]:
    for name, member in vars(kind).items():
        function = getattr(member, "__func__", member)
        if isinstance(function, FunctionType) and (not name.startswith("_") or name == "__init__"):
            yield f"{kind.__name__}.{name}".removesuffix(".__init__"), function


@pytest.mark.parametrize("kind", [HistoricalETL, StoredPrices, StoreVersions, Maintenance, PriceRuns])
def test_no_public_method_takes_an_object_of_another_type(kind: type) -> None:
    tried = 0
    for where, function in methods(kind):
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in {"self", "cls", *_LEFT_ALONE} or parameter.kind is parameter.VAR_KEYWORD:
                continue
            needed = {
                other.name: ConfigurationError  # a class, which fits nothing that is asked
                for other in inspect.signature(function).parameters.values()
                if other.default is other.empty and other.kind is not other.VAR_KEYWORD
            }
            with pytest.raises(ConfigurationError, match=r" of the type .*\. Next: ") as refused:
                function(**needed | {parameter.name: object()})
            assert refused.value.where == where
            tried += 1
    assert tried


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda etl: etl.run_year("2022"),
            r"year is of the type str \[HistoricalETL.run_year\].*give an integer",
        ),
        (lambda etl: etl.run_year(True), r"year is of the type bool"),
        (lambda etl: etl.prefetched(["2022"]), r"years is of the type list .*give a list with an integer as each item"),
        (lambda etl: etl.prefetched("2022"), r"years is of the type str "),
        (lambda etl: etl.scan(5), r"symbols is of the type int .*give a list, a string or None"),
        (lambda etl: etl.run_year(2012, ["AAPL", 5]), r"1 symbol\(s\) refused: '\(5\)'"),
        (lambda etl: etl.scan(as_of=5), r"as_of is of the type int .*give a datetime, a date, a string or None"),
        (lambda etl: etl.verify(quick="no"), r"quick is of the type str .*give True or False"),
        (
            lambda etl: etl.store.versions.vacuum(keep_days="9"),
            r"keep_days is of the type str \[StoreVersions.",
        ),
        (lambda etl: type(etl).open(etl.layout.root, expect=6), r"expect is of the type int .*a string or None"),
        (lambda etl: type(etl).open(5), r"root is of the type int .*give a string or a path"),
        (lambda etl: type(etl).open(etl.layout.root, 5).run_year(2012, "AAPL"), r"int is no source of prices"),
        (lambda etl: etl.run_year(np.bool_(True)), r"year is of the type bool .*give an integer"),
    ],
)
def test_it_is_named_with_what_to_give_instead(
    root: Path, call: Callable[[HistoricalETL], object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call(store(root, ScriptedFetcher(SHORT)))
    assert not root.exists()


NO_DAY: Any = pd.NaT


@pytest.mark.parametrize(
    "call",
    [
        lambda etl: etl.scan(start=NO_DAY),
        lambda etl: etl.scan(end=NO_DAY),
        lambda etl: etl.scan(as_of=NO_DAY),
        lambda etl: etl.run_full_etl("AAPL", NO_DAY, "2012-02-01"),
        lambda etl: etl.run_full_etl("AAPL", "2012-02-01", NO_DAY),
        lambda etl: etl.waive("AAPL", NO_DAY, reason="a holiday", by="anna"),
        lambda etl: etl.rename("FB", "META", NO_DAY),
        lambda etl: etl.split("FB", NO_DAY, reason="another company", by="anna"),
        lambda etl: etl.explain("FB", NO_DAY),
        lambda etl: UnifiedDataFetcher(Settings()).get_universe(NO_DAY),
        lambda etl: UnifiedDataFetcher(Settings()).get_daily_prices("IBM", "2012-01-03", NO_DAY),
        lambda etl: etl.settings.changed({"start": NO_DAY}),
        lambda etl: etl.settings.changed({"replay_from": NO_DAY}),
        lambda etl: type(etl).open(etl.layout.root, etl.source, clock=lambda: NO_DAY).last_closed_session(),
    ],
    ids=range(14),
)
def test_what_pandas_has_for_no_date_is_no_date(root: Path, call: Callable[[HistoricalETL], object]) -> None:
    """It is a datetime by its class, and fits no comparison."""
    with pytest.raises(ConfigurationError, match=r"NaT"):
        call(store(root, ScriptedFetcher(SHORT)))
    assert not root.exists()


@pytest.mark.parametrize("blank", ["", "  "], ids=["empty", "blanks"])
def test_no_path_is_not_the_current_folder(root: Path, blank: str) -> None:
    for call in (
        lambda: HistoricalETL.open(blank),
        lambda: HistoricalETL(ScriptedFetcher(SHORT), blank),
        lambda: HistoricalETL(ScriptedFetcher(SHORT), root / "historical", blank),
    ):
        with pytest.raises(ConfigurationError, match=r"The path of the store is blank.*name a folder"):
            call()


def test_a_truth_of_numpy_is_one(root: Path) -> None:
    etl = store(root, ScriptedFetcher(SHORT))
    etl.run_year(2012, "BRK.B", publish=np.bool_(False))  # pyright: ignore[reportArgumentType] - that is the test
    assert not etl.layout.catalog.exists()
    assert etl.verify(quick=np.bool_(True)).ok  # pyright: ignore[reportArgumentType] - likewise


@pytest.mark.parametrize(
    "table", [pd.DataFrame({"symbol": ["IBM"]}), pl.DataFrame({"symbol": ["IBM"]})], ids=["pandas", "polars"]
)
def test_a_table_is_no_list_of_symbols(root: Path, table: Any) -> None:
    """To go through one of pandas gives the names of its columns."""
    etl = store(root, ScriptedFetcher(SHORT))
    for call in (
        lambda: etl.run_year(2012, table),
        lambda: etl.run_incremental_etl(table),
        lambda: etl.settings.changed({"symbols": table}),
    ):
        with pytest.raises(ConfigurationError, match=r"A table is no list of symbols.*one column"):
            call()
    for column in (pd.Series(["IBM"]), pd.Index(["IBM"]), pl.Series(["IBM"]), np.array(["IBM"])):
        assert normalize_symbols(column) == ["IBM"]


def test_what_resembles_a_type_is_taken_and_python_names_what_is_missing() -> None:
    for value, annotation in (
        (np.int64(2022), int),
        (2022, float),
        (datetime(2022, 1, 1), date),  # noqa: DTZ001 - its zone does not matter here
        (PurePosixPath("data"), str | Path),
        (pl.Series(["AAPL"]), list[str] | pl.Series),
        ((2021, 2022), tuple[int, ...]),
        (None, int | None),
    ):
        require_type(value, annotation, name="it", where="here")

    @typed_arguments
    class Taken:
        def method(self, one: int, *others: str, **named: object) -> tuple[object, ...]:
            """Its name and its words stay."""
            return one, *others, *named.values()

    assert Taken().method(1, "a", b=2) == (1, "a", 2)
    assert Taken.method.__doc__ == "Its name and its words stay."
    with pytest.raises(TypeError, match=r"method\(\) missing 1 required positional argument: 'one'"):
        Taken().method()  # pyright: ignore[reportCallIssue] - that is the test
