"""Settings: what stands in `.env`, what is no file, and what must not be printed."""

import json
import os
import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from historical_etl import ConfigurationError, Settings, load_settings
from historical_etl.settings import unknown_variables
from historical_etl.vendor_settings import VENDOR_GROUPS, TiingoSettings
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.saying import Saying

KEY = "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432"
BASE_URL = "HISTORICAL_ETL_TIINGO_BASE_URL"
KEYS = [variable for group in VENDOR_GROUPS.values() for variable in group.variables]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("HISTORICAL_ETL_") or name in KEYS:
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return command_line(tmp_path, capsys, monkeypatch)


def env(text: str) -> None:
    Path(".env").write_text(text)


def refused(*words: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.where
    assert caught.value.todo
    assert KEY not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    return caught.value


# ── where a key is sent ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "line",
    [
        f"{BASE_URL}=https://elsewhere.example",
        "historical_etl_tiingo_base_url=https://elsewhere.example/",
        'HISTORICAL_ETL_TIINGO={"base_url": "https:\\/\\/elsewhere.example"}',
        f"export {BASE_URL}='https://elsewhere.example'",
    ],
)
def test_a_base_url_in_the_folders_file_does_not_get_the_key_of_the_environment(monkeypatch, line):
    monkeypatch.setenv("TIINGO_API_KEY", KEY)
    env(f"{line}\n")
    refused("TIINGO_API_KEY", ".env", BASE_URL)
    if "{" not in line:  # that is of the whole group
        with pytest.raises(ConfigurationError):
            TiingoSettings()
    env(f"{line}\nTIINGO_API_KEY={KEY}x\n")
    refused("TIINGO_API_KEY")  # the environment's key goes before the file's


def test_nor_the_key_that_a_program_gives():
    env(f"{BASE_URL}=https://elsewhere.example\n")
    with pytest.raises(ConfigurationError, match="TIINGO_API_KEY"):
        TiingoSettings(api_key=SecretStr(KEY))


def test_a_base_url_may_be_where_its_key_is(monkeypatch):
    env(f"{BASE_URL}=https://proxy.example/tiingo\nTIINGO_API_KEY={KEY}\n")
    assert load_settings().tiingo.base_url == "https://proxy.example/tiingo"
    env("")
    monkeypatch.setenv("TIINGO_API_KEY", KEY)
    monkeypatch.setenv(BASE_URL, "https://proxy.example/tiingo")
    assert load_settings().tiingo.base_url == "https://proxy.example/tiingo"
    assert Settings().changed({"exchange": "XLON"}).tiingo.secrets == (KEY,)


def test_a_server_on_this_machine_may_stand_anywhere(monkeypatch):
    monkeypatch.setenv("TIINGO_API_KEY", KEY)
    for host in ("127.0.0.1:9", "localhost:9", "[::1]:9"):
        env(f"{BASE_URL}=http://{host}\n")
        assert load_settings().tiingo.base_url == f"http://{host}"


def test_an_address_in_the_folders_file_takes_nothing_of_the_environment_along(monkeypatch):
    monkeypatch.setenv("OTHER_SECRET", KEY)
    env("HISTORICAL_ETL_YFINANCE_BASE_URL=https://elsewhere.example/${OTHER_SECRET}\n")
    refused("HISTORICAL_ETL_YFINANCE_BASE_URL")


@pytest.mark.parametrize(
    "url",
    ["http://api.tiingo.com", "http://localhost@api.example", "http://127.0.0.1.example", "http://localhost.example"],
)
@pytest.mark.parametrize("vendor", VENDOR_GROUPS)
def test_an_address_without_tls_is_refused(monkeypatch, vendor, url):
    monkeypatch.setenv(f"HISTORICAL_ETL_{vendor.upper()}_BASE_URL", url)
    refused("https", f"HISTORICAL_ETL_{vendor.upper()}_BASE_URL")


def test_a_host_that_looks_like_another_one_is_refused(monkeypatch):
    monkeypatch.setenv(BASE_URL, "https://api.t\u0456ingo.com")
    refused("ASCII")


# ── what is no file of settings ────────────────────────────────────────────────────────────────────────────────────


def odd_files(place: Path) -> dict[str, Path]:
    """Everything that has a name and is no file to be read."""
    made = {name: place / name for name in ("pipe", "folder", "socket", "device", "huge", "loop")}
    os.mkfifo(made["pipe"])
    made["folder"].mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(made["socket"]))
    made["device"].symlink_to("/dev/zero")
    with made["huge"].open("wb") as file:
        file.truncate(1 << 40)  # sparse
    made["loop"].symlink_to(made["loop"])
    return made


ODD = ["pipe", "folder", "socket", "device", "huge", "loop"]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_file_is_refused_at_once_as_dotenv(folder, odd):
    odd_files(folder)[odd].rename(folder / ".env") if odd != "loop" else (folder / ".env").symlink_to(".env")
    refused(".env", "cannot be read")


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("variable", ["UNIVERSE", "CALENDAR_CORRECTIONS", "FILES_SYMBOLS"])
def test_what_is_no_file_is_refused_at_once_by_every_setting_that_names_one(cli, variable, odd):
    cli.set(**{variable: str(odd_files(cli.folder)[odd])})
    answer = cli("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL")
    assert answer.code == 2
    assert f"HISTORICAL_ETL_{variable}" in answer.err or odd in answer.err
    assert not cli.data.exists()


@pytest.mark.parametrize("variable", ["UNIVERSE", "CALENDAR_CORRECTIONS", "FILES_SYMBOLS"])
def test_a_file_that_a_setting_names_has_at_most_16_mib(cli, variable):
    path = cli.folder / "names.csv"
    with path.open("wb") as file:
        file.truncate(2**24 + 1)
    cli.set(**{variable: str(path)})
    answer = cli("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL")
    assert answer.code == 2
    assert "it has more than 16,777,216 bytes" in answer.err


@pytest.mark.parametrize("odd", ["pipe", "socket", "device", "loop"])
def test_what_is_no_file_is_reported_as_such_where_prices_are_named(cli, odd):
    cli.set(SOURCE="files", FILES_PATH=str(odd_files(cli.folder)[odd]))
    answer = cli("backfill", "--from", "2012", "--to", "2012")
    assert answer.code == 2
    assert "HISTORICAL_ETL_FILES_PATH" in answer.err
    assert odd == "loop" or "neither a file nor a folder" in answer.err


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_file_is_refused_at_once_as_a_file_of_renames(cli, odd):
    assert cli("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL").code == 0
    answer = cli("rename", "--file", str(odd_files(cli.folder)[odd]), "--reason", "x", "--by", "me")
    assert answer.code == 2
    assert "The renames cannot be read" in answer.err


# ── how `.env` is written ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfHISTORICAL_ETL_EXCHANGE=XLON\n",
        b"HISTORICAL_ETL_EXCHANGE=XLON\r\n",
        b"\xef\xbb\xbfhistorical_etl_exchange = 'XLON'\r\n# the end",
        b'export HISTORICAL_ETL_EXCHANGE="XLON"',
    ],
)
def test_the_marks_that_editors_leave_hide_no_setting(content):
    Path(".env").write_bytes(content)
    assert load_settings().exchange == "XLON"


def test_one_variable_with_two_values_is_refused():
    env("HISTORICAL_ETL_EXCHANGE=XLON\nOTHER=1\nOTHER=2\nhistorical_etl_exchange=XTKS\n")
    error = refused("HISTORICAL_ETL_EXCHANGE", "lines 1 and 4")
    assert "XTKS" not in str(error)
    env("HISTORICAL_ETL_EXCHANGE=XLON\nOTHER=1\nOTHER=2\nHISTORICAL_ETL_EXCHANGE=XLON\n")
    assert load_settings().exchange == "XLON"


def test_two_spellings_of_one_variable_in_the_environment_are_refused(monkeypatch):
    monkeypatch.setenv("HISTORICAL_ETL_EXCHANGE", "XLON")
    monkeypatch.setenv("historical_etl_exchange", "XTKS")
    refused("HISTORICAL_ETL_EXCHANGE")


@pytest.mark.parametrize(
    "line",
    [
        'HISTORICAL_ETL_SOURCE="files',
        "HISTORICAL_ETL_SOURCE files",
        "HISTORICAL_ETL_SOURCE",
        "export HISTORICAL_ETL_SOURCE",
        "HISTORICAL_ETL_SORCE",
        f"TIINGO_API_KEY: {KEY}",
    ],
)
def test_a_line_of_ours_that_cannot_be_read_is_refused(line, caplog):
    env(f"OTHER tool's line\n\n# and a blank one\n{line}\n")
    error = refused("line 4 is no NAME=value")
    assert not caplog.records, "it is not called ignored before"
    assert error.where == str(Path(".env").absolute())
    assert KEY not in str(error)


def test_a_line_of_others_that_cannot_be_read_is_reported_once_and_does_no_harm(caplog):
    env(f"OTHER\n\n{KEY}\n={KEY}\nHISTORICAL_ETL_EXCHANGE=XLON\nits own: {KEY}\n")
    assert load_settings().exchange == "XLON"
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [Saying("Lines 1, 3, 4 and 6", Path(".env").absolute(), "ignored")]
    env("OTHER=1\nOTHER\n")
    caplog.clear()
    load_settings()
    (record,) = caplog.records
    assert record.getMessage() == Saying("Line 2", Path(".env").absolute(), "ignored")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FILES", '{"decimal": ",", "decimal": "."}'),
        ("FILES_COLUMNS", "date=Date,date=Day"),
        ("FILES_SYMBOLS", "BRK B=BRK.B,BRK B=BRK.A"),
        ("TIINGO", '{"rate": "5/hour", "rate": "6/hour"}'),
    ],
)
def test_one_name_with_two_values_in_a_setting_is_refused(monkeypatch, name, text):
    monkeypatch.setenv(f"HISTORICAL_ETL_{name}", text)
    refused(f"HISTORICAL_ETL_{name}")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HISTORICAL_ETL_SORCE", "HISTORICAL_ETL_SOURCE"),
        ("HISTORICL_ETL_SOURCE", "HISTORICAL_ETL_SOURCE"),
        ("HISTORICAL_ELT_DATA_DIR", "HISTORICAL_ETL_DATA_DIR"),
        ("TIINGO_APIKEY", "TIINGO_API_KEY"),
        *((f"HISTORICAL_ETL_{variable}", variable) for group in VENDOR_GROUPS.values() for variable in group.variables),
        ("HISTORICAL_ETL_TIINGO_APIKEY", "TIINGO_API_KEY"),
        ("HISTORICAL_ETL_TIINGO_RATES", "HISTORICAL_ETL_TIINGO_RATE"),
        ("\uff28ISTORICAL_ETL_SOURCE", "HISTORICAL_ETL_SOURCE"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelt_name_is_reported_with_the_nearest_one(monkeypatch, caplog, place, name, meant):
    if place == ".env":
        Path(".env").write_text(f"{name}=x\n", encoding="utf-8")
    else:
        monkeypatch.setenv(name, "x")
    assert unknown_variables() == {name: meant}
    load_settings()
    assert f"did you mean {meant}?" in caplog.text


# ── what is not printed ────────────────────────────────────────────────────────────────────────────────────────────

ANYWHERE = [f"HISTORICAL_ETL_{name.upper()}" for name in Settings.model_fields if name not in (*VENDOR_GROUPS, "files")]
OF_GROUPS = [
    *(f"HISTORICAL_ETL_FILES_{name.upper()}" for name in type(Settings().files).model_fields),
    *(f"HISTORICAL_ETL_TIINGO_{name.upper()}" for name in TiingoSettings.model_fields if name != "api_key"),
    "HISTORICAL_ETL_EODHD_MARKET",
    "HISTORICAL_ETL_MASSIVE_UNIVERSE",
]


@pytest.mark.parametrize("key", [KEY, "sk_live_9aB7xYz12345QwertyUIO", "s3cr3t-S3CR3T"])
@pytest.mark.parametrize("variable", [*ANYWHERE, *OF_GROUPS])
def test_a_key_in_the_wrong_variable_is_not_printed(cli, variable, key):
    cli.patch.setenv(variable, key)
    for arguments in (("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL"), ("status",)):
        if variable != "HISTORICAL_ETL_DATA_DIR":  # a folder is made of that name
            answer = cli(*arguments)
            assert key.lower() not in (answer.out + answer.err).lower(), arguments


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FILES_ADJUSTMENT", KEY, "looks like a key"),  # it would be committed
        ("FILES_DATE_FORMAT", KEY, "with % as in"),
        ("FILES_DATE_FORMAT", "dd.mm.yyyy", "with % as in"),
        ("LOCK_TIMEOUT_SECONDS", "1e400", "less than or equal to"),
        ("QUERY_TIMEOUT_SECONDS", "1e300", "less than or equal to"),
    ],
)
def test_a_value_that_means_nothing_is_refused_when_settings_are_read(monkeypatch, name, value, words):
    monkeypatch.setenv(f"HISTORICAL_ETL_{name}", value)
    refused(f"HISTORICAL_ETL_{name}", words)


@pytest.mark.parametrize("variable", ["SOURCE", "SYMBOLS", "EXCHANGE", "UNIVERSE", "FILES_PATH", "TIINGO_BASE_URL"])
def test_nor_by_the_doctor(cli, variable):
    cli.set(**{variable: KEY})
    answer = cli("doctor", "--offline")
    assert KEY not in answer.out + answer.err


def test_a_key_that_could_be_a_symbol_is_not_sent_as_one(monkeypatch):
    monkeypatch.setenv("APCA_API_KEY_ID", "PKTESTABCDEFGHIJ")
    for text in ("0123456789abcdef0123456789abcdef", "AAPL,PKTESTABCDEFGHIJ", "Qw3rty9UiOp4sDfG"):
        monkeypatch.setenv("HISTORICAL_ETL_SYMBOLS", text)
        assert refused("looks like a key").where == "HISTORICAL_ETL_SYMBOLS"
    monkeypatch.setenv("HISTORICAL_ETL_SYMBOLS", "aapl,US0378331005,aapl240119c00150000,BRK.B,1000SATS-USDT")
    assert len(load_settings().symbols or ()) == 5


def test_what_is_worth_seeing_of_a_wrong_value_is_still_reported(monkeypatch):
    for name, value in (("START", "31.12.2012"), ("KEEP_DAYS", "x"), ("SETTLE_MINUTES", "an hour")):
        monkeypatch.setenv(f"HISTORICAL_ETL_{name}", value)
        refused(value)
        monkeypatch.delenv(f"HISTORICAL_ETL_{name}")


def test_a_password_in_an_address_prints_nowhere(monkeypatch, caplog):
    for vendor in VENDOR_GROUPS:
        monkeypatch.setenv(f"HISTORICAL_ETL_{vendor.upper()}_BASE_URL", "https://me:pass-word@host.example/path")
    with caplog.at_level("DEBUG"):
        settings = load_settings()
    group = settings.tiingo
    assert group.base_url == "https://me:pass-word@host.example/path"  # it is used
    shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json(), repr(group)]
    shown += [f"{dict(settings)!r}", f"{vars(group)!r}", group.model_dump_json(), json.dumps(repr(group.base_url))]
    assert "pass-word" not in "".join(shown) + caplog.text
    assert group.hidden == ("pass-word",)
