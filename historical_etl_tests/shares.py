"""What a run tries of the proofs that are too large for every run: a share, drawn by a seed.

The seed follows from the commit, so that each commit tries another share and a run of one commit can be repeated:
`make test SEED=…`. It also seeds Hypothesis and the order of the tests. All of it is tried by `make torture`.
"""

import os
import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import settings

__all__ = ["PARTS", "RUN", "SEED_VARIABLE", "chosen_cases", "drawn", "examples", "number_of", "seed_of_commit"]

_T = TypeVar("_T")

#: Names the seed where no option does.
SEED_VARIABLE: Final = "HISTORICAL_ETL_TESTS_SEED"
#: Where there is no repository, as in an unpacked source distribution.
_FALLBACK: Final = "no-commit"
_ROOT: Final = Path(__file__).parents[1]
#: What `make test` tries in a folder or file: the part of its tests, and the part of the cases of each of them that is
#: parametrized. A test belongs to the longest path it lies in. Listed is what takes long; of all else everything is
#: tried.
PARTS: Final[Mapping[str, tuple[Fraction, Fraction]]] = {
    "catalog": (Fraction(1, 2), Fraction(1, 3)),
    "cli": (Fraction(1, 3), Fraction(1, 3)),
    "etl/compare": (Fraction(1, 2), Fraction(1, 2)),
    "etl/health": (Fraction(1, 2), Fraction(1, 2)),
    "etl/maintenance": (Fraction(1, 3), Fraction(1, 4)),
    "etl/reader": (Fraction(1, 2), Fraction(1, 4)),
    "etl/runs": (Fraction(1, 2), Fraction(1, 3)),
    "field": (Fraction(1, 8), Fraction(1, 4)),
    "golden": (Fraction(1), Fraction(1, 2)),
    "orchestration": (Fraction(1, 3), Fraction(1, 2)),
    # Each command is a process of its own, which takes seconds to load Dagster.
    "orchestration/test_command_line.py": (Fraction(1, 3), Fraction(1, 2)),
    "proofs/crash/test_crash_matrix.py": (Fraction(1), Fraction(1, 3)),
    "proofs/faults": (Fraction(1, 8), Fraction(1, 4)),
    "proofs/hostile": (Fraction(1, 4), Fraction(1, 4)),
    "sources": (Fraction(1, 2), Fraction(1, 2)),
    "sources/vendors": (Fraction(1, 4), Fraction(1, 4)),
    "store/archive": (Fraction(1, 2), Fraction(1, 2)),
    "store/verify": (Fraction(1, 3), Fraction(1, 2)),
    "test_settings_files.py": (Fraction(1), Fraction(1, 4)),
    # One of the two tests of Dagster's pages.
    "ui": (Fraction(1, 2), Fraction(1)),
}
_ALL: Final = (Fraction(1), Fraction(1))
#: How many times as many examples Hypothesis tries with `--hypothesis-profile torture`.
_TORTURE: Final = 20


@dataclass
class Run:
    """This run of the tests, in each of its processes.

    Attributes:
        seed: from which all shares are drawn.
    """

    seed: str = _FALLBACK


RUN: Final = Run()


def seed_of_commit() -> str:
    """The seed that the environment names, else the commit that is checked out, else a fixed one."""
    if named := os.environ.get(SEED_VARIABLE):
        return named
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True, cwd=_ROOT
        )
    except (OSError, subprocess.CalledProcessError):
        return _FALLBACK
    return found.stdout.strip()


def number_of(*names: object) -> int:
    """A number below 2**32 that follows from the seed and from what it is for."""
    text = " ".join(map(str, (RUN.seed, *names)))
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big")


def drawn(points: Sequence[_T], most: int, name: str) -> list[_T]:
    """So many of some points in their order, or all where there are no more.

    Args:
        points: to draw from.
        most: how many to draw.
        name: what they are drawn for; another name draws others.
    """
    if len(points) <= most:
        return list(points)
    chosen = random.Random(number_of(name)).sample(range(len(points)), most)
    return [points[index] for index in sorted(chosen)]


def examples(count: int) -> int:
    """How many examples of Hypothesis a test tries: so many, and twenty times as many with the profile `torture`."""
    return count * (_TORTURE if settings.get_current_profile_name() == "torture" else 1)


def chosen_cases(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """A share of the tests, in their order: of each path in `PARTS` some tests, of each of them some cases.

    Tests of a file from which none is drawn yet come first, and so do cases with a value that no case before them has:
    the share is spread over as many files, and each test over as many values, as its size allows. Every path has at
    least one test in it, and every test that is tried at least one case.
    """
    rooms: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        name = item.nodeid.partition("[")[0]
        rooms.setdefault(_room_of(name), {}).setdefault(name, []).append(item)
    chosen = {
        item.nodeid
        for room, tests in rooms.items()
        for parts in [PARTS.get(room, _ALL)]
        for name in _varied(list(tests), parts[0], str, lambda name: {name.partition("::")[0]})
        for item in _varied(tests[name], parts[1], lambda item: item.nodeid, _values)
    }
    return [item for item in items if item.nodeid in chosen]


def _varied(
    things: Sequence[_T], part: Fraction, name: Callable[[_T], str], values: Callable[[_T], AbstractSet[object]]
) -> Sequence[_T]:
    """A part of some things, at least one; first those with a value that none before them has."""
    most = -(-len(things) * part.numerator // part.denominator)
    if most >= len(things):
        return things
    seen: set[object] = set()
    first: list[_T] = []
    rest: list[_T] = []
    for thing in sorted(things, key=lambda thing: number_of(name(thing))):
        found = values(thing)
        (rest if found <= seen else first).append(thing)
        seen |= found
    return [*first, *rest][:most]


def _values(item: pytest.Item) -> set[tuple[str, int]]:
    """The parameters of a case; the cases of one test share the objects."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return set()
    return {(name, id(value)) for name, value in item.callspec.params.items()}


def _room_of(nodeid: str) -> str:
    """The longest path in `PARTS` that a test lies in; of other tests their file."""
    path = nodeid.partition("::")[0].partition("historical_etl_tests/")[2]
    return next((above for above in [path, *map(str, Path(path).parents)] if above in PARTS), path)
