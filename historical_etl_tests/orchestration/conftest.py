"""One Dagster project for each test, over a folder of its own."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from historical_etl.sources.base import PriceSource
from historical_etl_tests.orchestration.harness import Project, sample, scripted


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make a project; without a source it serves the scripted market, 2010 to 2013."""
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:

        def make(source: PriceSource | None = None, at: datetime | None = None) -> Project:
            return Project(root, instance, source or scripted(), at)

        yield make


@pytest.fixture
def sample_project(project: Callable[..., Project]) -> Project:
    return project(sample())
