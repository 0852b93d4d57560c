"""What people type or keep in text files: symbols, universes, settings."""

import os
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from historical_etl import ConfigurationError, Settings, load_settings, normalize_symbols
from historical_etl.settings import given_settings
from historical_etl.sources.universe import MembershipTable, packaged_universe
from historical_etl.sources.vendors.optional_clients import key_from
from historical_etl.symbols import SYMBOL_PATTERN
from historical_etl.vendor_settings import VENDOR_GROUPS, variable_of
from historical_etl_tests.proofs.hostile.mutations import ODD, fuzz, spoilt_bytes

PLACE = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "TZ"}}
SECRET = "s3cr3t-S3CR3T"
SYMBOL_CHARS = st.characters(codec=None) | st.sampled_from("ABCabc019.-^=, \n\t\0'\"/*?[%$;ßſıﬁ²")

# ── symbols ────────────────────────────────────────────────────────────────────────────────────────────────────────


@fuzz(200)
@given(st.text(SYMBOL_CHARS, max_size=40) | st.lists(st.text(SYMBOL_CHARS, max_size=34), max_size=3))
@example(["ß"])  # upper case: SS
@example(["ﬁx", "ſ"])
@example("A\n")
@example(["../../x", "-A", "A B", "\ud800", ""])
@example("0" * 32)
@example("0" * 33)
def test_symbols(given_):
    """Accepted are only letters of ASCII, and the message of a refusal holds no line end of the input."""
    texts = given_.split(",") if isinstance(given_, str) else given_
    try:
        found = normalize_symbols(given_)
    except ConfigurationError as error:
        assert "\n" not in str(error)
    else:
        assert found
        assert set(found) == {text.strip().upper() for text in texts if text.strip()}
        assert all(text.strip().isascii() for text in texts if text.strip())
        assert all(len(symbol) <= 32 for symbol in found)


@pytest.mark.parametrize("other", [None, 1.5, True, b"AAPL", ["A"], float("nan")], ids=repr)
def test_what_is_no_text_is_no_symbol(other):
    with pytest.raises(ConfigurationError, match="refused"):
        normalize_symbols([other])


def test_bytes_are_no_list_of_symbols():
    with pytest.raises(ConfigurationError, match="refused"):
        normalize_symbols(b"AAPL")  # pyright: ignore[reportArgumentType] - on purpose


# ── universe files ─────────────────────────────────────────────────────────────────────────────────────────────────

UNIVERSE = b"ticker,start_date,end_date\nBRK.B,2010-02-16,\nGONE,2001-01-02,2011-09-01\nGONE,2012-01-03,2012-06-01\n"


@fuzz(150)
@given(content=spoilt_bytes(UNIVERSE))
@example(content=b"\xef\xbb\xbf")
@example(content=b"\n\n\n")
@example(content=UNIVERSE.decode().encode("utf-16"))
@example(content=b'ticker,start_date,end_date\n"' + b"A" * 200_000)
@example(content="ticker,start_date,end_date\nß,2010-02-16,\n".encode())
def test_a_universe_file(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("universe") / "members.csv"
    path.write_bytes(content)
    try:
        table = MembershipTable.from_csv(path)
    except ConfigurationError as error:
        assert "members.csv, line" in str(error)
    else:
        members = table.members(None, None)
        assert members == sorted(set(normalize_symbols(members)))
        assert all(table.intervals(symbol) for symbol in members)


@pytest.mark.parametrize(
    "path", ["a\0b", "x" * 300, "/dev/null", ".", "no/such", "\udcff", "~nobody-of-this-name/x", ""], ids=ascii
)
def test_a_universe_that_is_no_file(path):
    with pytest.raises(ConfigurationError) as caught:
        MembershipTable.from_csv(path)
    assert caught.value.todo


@pytest.mark.parametrize("name", ["", "sp500.csv", "../sp500", "x" * 9999, "a\0b", "\ud800"], ids=lambda name: name[:9])
def test_a_packaged_universe_that_is_none(name):
    with pytest.raises(ConfigurationError, match="sp500"):
        packaged_universe(name)


def test_many_stays_of_one_symbol_take_no_square_of_the_time(tmp_path):
    """Sixty thousand stays: with each compared to each, this would be minutes."""
    path = tmp_path / "members.csv"
    days = [date.fromordinal(first) for first in range(700_000, 700_000 + 60_000)]
    stays = "".join(f"A,{day},{day.fromordinal(day.toordinal() + 1)}\n" for day in days)
    path.write_text(f"ticker,start_date,end_date\n{stays}")
    assert len(MembershipTable.from_csv(path).intervals("A")) == len(days)


# ── settings ───────────────────────────────────────────────────────────────────────────────────────────────────────

VARIABLES = [
    *(f"HISTORICAL_ETL_{name.upper()}" for name in Settings.model_fields),
    *(f"HISTORICAL_ETL_FILES_{name.upper()}" for name in type(Settings().files).model_fields),
    *(
        variable_of(vendor, name, field)
        for vendor, group in VENDOR_GROUPS.items()
        for name, field in group.model_fields.items()
    ),
]
TEXTS = st.sampled_from([*map(str, ODD), '{"a": 1}', '["x"]', "http://[", "https://u:p@h", "1/day", "9" * 9 + "/day"])


@pytest.fixture
def environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def put(values: dict[str, str]) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            if "\0" not in value:
                with suppress(UnicodeEncodeError):  # what no environment can hold
                    monkeypatch.setenv(name, value)

    return put


def use(settings: Settings) -> None:
    """What is done with settings before anything is read or written."""
    from historical_etl import HistoricalETL
    from historical_etl_tests.scenario import SHORT, ScriptedFetcher, at

    assert settings.is_production in {True, False}
    for vendor in VENDOR_GROUPS:
        group = getattr(settings, vendor)
        assert group.requests > 0
    given_settings(settings)
    HistoricalETL.open("data", ScriptedFetcher(SHORT), settings=settings, clock=at(SHORT.last)).last_closed_session()


@fuzz(120)
@given(st.data())
def test_settings_from_the_environment(environment, data):
    environment(data.draw(st.dictionaries(st.sampled_from(VARIABLES), TEXTS | st.text(max_size=20), max_size=3)))
    try:
        use(load_settings())
    except ConfigurationError as error:
        assert error.where
        assert error.todo


DOTENV = (
    b"HISTORICAL_ETL_DATA_DIR=prices\nHISTORICAL_ETL_SYMBOLS='AAPL, BRK.B'\nHISTORICAL_ETL_START=2004-08-19\n"
    b'HISTORICAL_ETL_FILES_COLUMNS=date=Date\nHISTORICAL_ETL_TIINGO_RATE=5/minute\nTIINGO_API_KEY="k"\n'
)


@fuzz(100)
@given(content=spoilt_bytes(DOTENV))
@example(content=b"HISTORICAL_ETL_SOURCE=\xff\n")
@example(content=b"HISTORICAL_ETL_DATA_DIR=a\0b\n")
@example(content=DOTENV.decode().encode("utf-16"))
@example(content=b"HISTORICAL_ETL_DATA_DIR=${HISTORICAL_ETL_DATA_DIR}\n" * 50)
def test_settings_from_a_file(environment, content):
    environment({})
    Path(".env").write_bytes(content)
    try:
        use(load_settings())
    except ConfigurationError as error:
        assert error.where
        assert error.todo


def test_a_folder_for_a_file_of_settings(environment):
    environment({})
    Path(".env").mkdir()
    with pytest.raises(ConfigurationError, match="it is a folder"):
        load_settings()


KEYS = {
    variable_of(vendor, name, field): (vendor, name)
    for vendor, group in VENDOR_GROUPS.items()
    for name, field in group.model_fields.items()
    if "SecretStr" in str(field.annotation)
}


@pytest.mark.parametrize("odd", ["\udcff", "\n", "ü", " x", "\r\nHost: elsewhere"], ids=ascii)
@pytest.mark.parametrize("variable", KEYS)
def test_a_key_that_is_refused_is_not_printed(environment, monkeypatch, variable, odd):
    environment({})
    monkeypatch.setenv(variable, f"{SECRET}{odd}{SECRET}")  # a surrogate: bytes that are no UTF-8
    key = getattr(getattr(load_settings(), KEYS[variable][0]), KEYS[variable][1])
    with pytest.raises(ConfigurationError) as caught:
        key_from(key, variable)
    assert caught.value.where == variable
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *((f"HISTORICAL_ETL_{vendor.upper()}_BASE_URL", f"ftp://me:{SECRET}@host") for vendor in VENDOR_GROUPS),
        *((f"HISTORICAL_ETL_{vendor.upper()}_BASE_URL", f"https://me:{SECRET}@host?x=1") for vendor in VENDOR_GROUPS),
        ("HISTORICAL_ETL_TIINGO_BASE_URL", f"me:{SECRET}@host"),
        ("HISTORICAL_ETL_TIINGO_BASE_URL", f"https://me:{SECRET}@[host"),
        ("HISTORICAL_ETL_TIINGO_BASE_URL", f"https://host/?token={SECRET}"),
        ("HISTORICAL_ETL_TIINGO", f'{{"api_key": "{SECRET}", "rate": "x"}}'),
        ("HISTORICAL_ETL_TIINGO", f'["{SECRET}"]'),
        ("HISTORICAL_ETL_TIINGO", f'"{SECRET}"'),
        ("HISTORICAL_ETL_TIINGO", SECRET),
        ("HISTORICAL_ETL_ALPACA", f'{{"secret_key": ["{SECRET}"], "key_id": {{"a": "{SECRET}"}}}}'),
        ("HISTORICAL_ETL_START", f"https://me:{SECRET}@host"),
    ],
)
def test_no_message_about_a_setting_holds_a_secret(environment, variable, value):
    environment({variable: value})
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.where
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("changes", [{"tiingo": SECRET}, {"tiingo": {"api_key": [SECRET]}}, {"tiingo": [SECRET]}])
def test_nor_does_one_about_an_option(changes):
    with pytest.raises(ConfigurationError) as caught:
        Settings().changed(changes)
    assert SECRET not in str(caught.value)


def test_settings_that_hold_secrets_do_not_print_them(environment):
    environment({name: f"{SECRET}{number}" for number, name in enumerate(KEYS)})
    settings = load_settings()
    for vendor, name in KEYS.values():
        key = getattr(getattr(settings, vendor), name)
        assert isinstance(key, SecretStr)
        assert key.get_secret_value().startswith(SECRET)
    assert SECRET not in f"{settings!r} {settings} {given_settings(settings)} {settings.model_dump_json()}"


def test_the_pattern_is_the_published_one():
    signs = r"[A-Z0-9.\-^=&_]"
    short, long = rf"\^?[A-Z0-9]{signs}{{0,30}}", rf"[A-Z0-9]{signs}{{31}}"
    parted = rf"\^?[A-Z0-9]{signs}{{0,14}}/[A-Z0-9]{signs}{{0,14}}"
    assert rf"^(?:{short}|{long}|{parted})$" == SYMBOL_PATTERN
