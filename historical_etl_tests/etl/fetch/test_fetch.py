"""What may be given as a source of prices, and what is said of an object that is none."""

from datetime import date
from functools import cached_property

import pytest

from historical_etl import ConfigurationError, HistoricalETL
from historical_etl_tests.scenario import INFO, SHORT, ScriptedSource, store


class Parts:
    """A source whose `info` a subclass gives in its own way."""

    def __init__(self) -> None:
        self.other = ScriptedSource(SHORT)

    def fetch(self, request):
        return self.other.fetch(request)

    def members(self, start, end):
        return self.other.members(start, end)


class AsMethod(Parts):
    def info(self):
        return INFO


class AsNumber(Parts):
    info = 5


class AsStatic(Parts):
    @staticmethod
    def info():
        return INFO


class Without(Parts):
    pass


class AsProperty(Parts):
    @property
    def info(self):
        return INFO


class AsCached(Parts):
    @cached_property
    def info(self):
        return INFO


class AsAttribute(Parts):
    def __init__(self) -> None:
        super().__init__()
        self.info = INFO


class Handing(Parts):
    """One that hands on to another what it does not do itself."""

    def __getattr__(self, name):
        return getattr(self.other, name)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (AsMethod, r"The info of AsMethod is a method.*@property"),
        (AsStatic, r"The info of AsStatic is a method.*@property"),
        (AsNumber, r"The info of AsNumber is of the type int.*SourceInfo"),
        (Without, r"Without has no info.*SourceInfo"),
    ],
)
def test_a_source_that_does_not_say_what_it_is_is_named(root, kind, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        HistoricalETL.open(root, kind())
    assert refused.value.where == "fetcher"
    assert not root.exists()


@pytest.mark.parametrize("kind", [AsProperty, AsCached, AsAttribute, Handing])
def test_it_may_say_so_in_any_way_that_python_has(root, kind):
    etl = store(root, kind(), SHORT.last)
    assert etl.run_full_etl("BRK.B", SHORT.first, date(2012, 12, 31)).changed
