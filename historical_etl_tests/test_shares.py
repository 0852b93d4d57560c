"""The shares of the large proofs: the same for one seed, others for another one, and something of every room."""

from fractions import Fraction
from pathlib import Path

import pytest

from historical_etl_tests.shares import PARTS, RUN, chosen_cases, drawn, number_of, seed_of_commit

POINTS = range(1000)


@pytest.fixture
def seeded(monkeypatch):
    return lambda seed: monkeypatch.setattr(RUN, "seed", seed)


def test_a_share_is_drawn_by_the_seed_and_by_its_name(seeded):
    seeded("one")
    share = drawn(POINTS, 10, "kills")
    assert len(set(share)) == 10
    assert share == sorted(share) == drawn(POINTS, 10, "kills")
    assert share != drawn(POINTS, 10, "cuts")
    seeded("two")
    assert share != drawn(POINTS, 10, "kills")


def test_where_there_are_no_more_points_all_are_taken():
    assert drawn([3, 1, 2], 3, "kills") == [3, 1, 2]


def test_numbers_fit_in_32_bits_and_follow_from_what_they_are_for(seeded):
    seeded("one")
    numbers = {number_of("state", at) for at in POINTS}
    assert len(numbers) == len(POINTS)
    assert max(numbers) < 2**32


def test_the_environment_comes_before_the_commit(monkeypatch):
    commit = seed_of_commit()
    assert commit
    monkeypatch.setenv("HISTORICAL_ETL_TESTS_SEED", "mine")
    assert seed_of_commit() == "mine"


@pytest.mark.parametrize("path", PARTS)
def test_what_is_shared_is_there(path):
    assert (Path(__file__).parent / path).exists()
    assert all(0 < part <= 1 for part in PARTS[path])


def test_a_share_is_spread_over_as_many_files_as_it_can(request, seeded, monkeypatch):
    monkeypatch.setattr("historical_etl_tests.shares.PARTS", {".": (Fraction(1, 2), Fraction(1, 3))})
    items = request.session.items
    shares: list[list[str]] = []
    for seed in ("one", "two", "one"):
        seeded(seed)
        shares.append([item.nodeid for item in chosen_cases(items)])
    assert shares[0] == shares[2]
    order = {item.nodeid: at for at, item in enumerate(items)}
    files, tests = files_of(order), names_of(order)
    for share in shares:
        assert share == sorted(share, key=lambda nodeid: order[nodeid])
        assert len(names_of(share)) == (len(tests) + 1) // 2
        assert len(files_of(share)) == min(len(files), len(names_of(share)))


def test_each_path_with_a_share_of_its_own_has_a_test_in_it(request, seeded, monkeypatch):
    items = request.session.items
    files = files_of(item.nodeid for item in items)
    least = Fraction(1, 10**6)
    paths = [path.partition("historical_etl_tests/")[2] for path in files]
    monkeypatch.setattr("historical_etl_tests.shares.PARTS", dict.fromkeys([".", *paths[1:]], (least, least)))
    seeded("one")
    assert files_of(item.nodeid for item in chosen_cases(items)) == files
    assert len(chosen_cases(items)) == len(files)


def files_of(nodeids):
    return {nodeid.partition("::")[0] for nodeid in nodeids}


def names_of(nodeids):
    return {nodeid.partition("[")[0] for nodeid in nodeids}


@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_cases_in_a_share_have_other_values(number, letter, request, seeded, monkeypatch):
    monkeypatch.setattr("historical_etl_tests.shares.PARTS", {".": (Fraction(1), Fraction(3, 4))})
    name = request.node.nodeid.partition("[")[0]
    mine = [item for item in request.session.items if item.nodeid.startswith(name)]
    if len(mine) == 8:  # not only some of them were asked for
        seeded("one")
        chosen = [item.callspec.params for item in chosen_cases(mine) if isinstance(item, pytest.Function)]
        assert len(chosen) == 6
        assert {params["number"] for params in chosen} == {1, 2, 3, 4}
        assert {params["letter"] for params in chosen} == {"a", "b"}
