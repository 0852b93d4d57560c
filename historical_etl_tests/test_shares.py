"""The shares of the large proofs: the same for one seed, others for another one, and something of every test."""

from fractions import Fraction

import pytest

from historical_etl_tests.shares import RUN, chosen_cases, drawn, number_of, part_of, seed_of_commit

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


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("field/test_renames.py", (Fraction(1, 4), Fraction(1, 4))),
        ("sources/vendors/test_yahoo.py", (1, Fraction(1, 4))),
        ("sources/test_files.py", (1, 1)),
        ("test_settings.py", (1, 1)),
    ],
)
def test_only_what_takes_long_is_shared(path, parts):
    assert part_of(f"historical_etl_tests/{path}") == parts


def test_every_file_has_a_test_in_each_share(request, seeded, monkeypatch):
    monkeypatch.setattr("historical_etl_tests.shares.PARTS", {".": (Fraction(1, 2), Fraction(1, 3))})
    items = request.session.items
    shares: list[list[str]] = []
    for seed in ("one", "two", "one"):
        seeded(seed)
        shares.append([item.nodeid for item in chosen_cases(items)])
    assert shares[0] == shares[2]
    order = {item.nodeid: at for at, item in enumerate(items)}
    files = {nodeid.partition("::")[0] for nodeid in order}
    for share in shares:
        assert share == sorted(share, key=lambda nodeid: order[nodeid])
        assert {nodeid.partition("::")[0] for nodeid in share} == files


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
