"""Where everything lies, and which paths a store cannot have."""

from pathlib import Path

import pytest

from historical_etl import ConfigurationError
from historical_etl.store.layout import Layout


def test_each_dataset_has_a_history_of_its_own(tmp_path):
    layout = Layout(tmp_path)
    assert layout.history_file(7) == tmp_path / "manifests" / "history" / "00000007.json"
    assert layout.history_file(7, "other") == tmp_path / "manifests" / "history" / "other" / "00000007.json"


@pytest.mark.parametrize("path", ["x" * 256, "\u00e9" * 128, "/".join(["x" * 250] * 16)], ids=["name", "bytes", "path"])
def test_a_path_that_is_too_long_is_refused_by_name(tmp_path, path):
    with pytest.raises(ConfigurationError, match="too long"):
        Layout(tmp_path / path)


def test_a_name_may_be_as_long_as_the_file_system_lets_it(tmp_path):
    assert Layout(tmp_path / ("x" * 255)).root.name == "x" * 255


def test_what_a_manifest_records_is_found_wherever_the_store_is(tmp_path):
    layout = Layout(tmp_path / "a" / ".." / "data")
    assert layout.root == tmp_path / "data"
    recorded = layout.relative(layout.object_file(2019, "0123456789abcdef" * 4))
    assert recorded == "historical/objects/2019-0123456789abcdef.parquet"
    assert layout.resolve(recorded) == Path(layout.root) / recorded
