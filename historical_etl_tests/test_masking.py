"""Masking takes secrets out of texts, and nothing else."""

from datetime import date

import pytest

from historical_etl.masking import masked
from historical_etl.settings import load_settings
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.scenario import at

KEY = "9f8e7d6c5b4a3928"


@pytest.fixture
def cli(tmp_path, capsys, monkeypatch) -> CommandLine:
    return command_line(tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("key", ["a", "all", "tall", "install", "st"])
def test_a_short_key_takes_no_word_apart(key):
    text = "pip install 'PATH/TO/CHECKOUT[tiingo]' in /srv/last_store, all of it"
    assert masked(text, [key]) == text
    assert Reader("tiingo", (), (key,)).clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "/srv/historical/daily/2012.parquet",
        "historical/daily/2012.parquet",
        "see /data/historical",
        "run `historical-etl verify`",
        "historical_etl.errors",
        "prehistorical and historically",
    ],
)
def test_a_path_and_a_word_stay_whole(text):
    assert masked(text, ["historical"]) == text


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"the key {KEY}.",
        f"https://host/path?apiKey={KEY}&x=1",
        f"https://host/{KEY}/x",
        f"https://me:{KEY}@host/",
        f'{{"key": "{KEY}"}}',
        f"Bearer {KEY}\nmore",
        f"b'token={KEY}\\r\\n{KEY}'",
        f"next%3DapiKey%3D{KEY}%26",
        f"Token:{KEY}, again: ({KEY})",
    ],
)
def test_a_whole_token_is_masked_wherever_it_is(text):
    assert KEY not in masked(text, [KEY])
    assert "***" in masked(text, [KEY])


def test_a_key_is_masked_as_an_address_and_as_json_spell_it():
    key = 'a+b/c="d\\e=='
    for text in ("x=a%2Bb%2Fc%3D%22d%5Ce%3D%3D&y", r'{"k": "a+b/c=\"d\\e=="}', f"key {key}"):
        assert "***" in masked(text, [key])


def test_a_key_that_an_answer_is_cut_in_leaves_no_half():
    reader = Reader("tiingo", (), (KEY,))
    for extra in range(len(KEY)):
        text = "{" + f'"{KEY}' + '"' + "x" * (200 - extra)
        with pytest.raises(Refusal) as caught:
            reader.parse(200, {"content-type": "application/json"}, text, at(date(2013, 1, 2))())
        assert not any(KEY[first:] in caught.value.what for first in range(len(KEY) - 2))


def test_a_key_that_is_too_short_to_be_one_is_reported_when_settings_are_read(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIINGO_API_KEY", "abc")
    load_settings()
    assert "TIINGO_API_KEY has fewer than 8 characters" in caplog.text
    caplog.clear()
    monkeypatch.setenv("TIINGO_API_KEY", "abcdefgh")
    load_settings()
    assert not caplog.text


def test_the_doctor_spells_all_words_whatever_the_key(cli):
    cli.set(SOURCE="sample")
    for key in ("a", "data", "e", "parquet"):
        cli.patch.setenv("TIINGO_API_KEY", key)
        answer = cli("doctor", "--offline")
        assert "***" not in answer.out
