"""What the store hands out is not changed by whoever holds it, and counts from nothing."""

import importlib
import pkgutil
from dataclasses import is_dataclass

import pytest
from pydantic import BaseModel

import historical_etl.store
from historical_etl.store.failed_runs import RunRecord
from historical_etl.store.vacuum import VacuumReport
from historical_etl.store.verify.findings import error
from historical_etl_tests.store.small import START

#: Work in progress, each in the hands of one function.
CHANGING = {"_Check"}
MODULES = [module.name for module in pkgutil.walk_packages(historical_etl.store.__path__, "historical_etl.store.")]


def values(module: str) -> list[type]:
    found = vars(importlib.import_module(module)).values()
    return [kind for kind in found if isinstance(kind, type) and kind.__module__ == module and is_value(kind)]


def is_value(kind: type) -> bool:
    return is_dataclass(kind) or issubclass(kind, BaseModel)


@pytest.mark.parametrize("module", MODULES)
def test_values_are_frozen(module):
    for kind in values(module):
        if issubclass(kind, BaseModel):
            assert kind.model_config.get("frozen") or kind.__name__ in CHANGING, kind
        else:
            assert vars(kind)["__dataclass_params__"].frozen or kind.__name__ in CHANGING, kind


def test_a_run_that_says_nothing_counts_nothing():
    run = RunRecord(run_id="x", started=START, finished=START, status="failed")
    counts = {name: value for name, value in run.model_dump().items() if isinstance(value, int)}
    assert len(counts) == 14
    assert set(counts.values()) == {0}


def test_a_vacuum_that_removes_nothing_counts_nothing():
    report = VacuumReport()
    assert (report.removed, report.kept, report.files, report.size_bytes) == ((), {}, 0, 0)


def test_a_finding_names_three_of_many():
    assert error("field", "words", "next", "abcd").sample == ("a", "b", "c")
