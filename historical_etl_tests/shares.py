"""What a run tries of the proofs that are too large for every run: a share, drawn by a seed.

The seed follows from the commit, so that each commit tries another share and a run of one commit can be repeated:
`make test SEED=…`. It also seeds Hypothesis and the order of the tests. All of it is tried by `make torture`.
"""

import os
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import settings

__all__ = ["RUN", "SEED_VARIABLE", "chosen_cases", "drawn", "examples", "number_of", "part_of", "seed_of_commit"]

_T = TypeVar("_T")

#: Names the seed where no option does.
SEED_VARIABLE: Final = "HISTORICAL_ETL_TESTS_SEED"
#: Where there is no repository, as in an unpacked source distribution.
_FALLBACK: Final = "no-commit"
_ROOT: Final = Path(__file__).parents[1]
#: What `make test` tries in a folder or file: the part of the tests in each file, and the part of the cases of each of
#: them that is parametrized. The longest path counts. Listed is what takes long; of all else everything is tried.
PARTS: Final[Mapping[str, tuple[Fraction, Fraction]]] = {
    "cli": (Fraction(1), Fraction(1, 3)),
    # What these commands do is tested below them, in all cases.
    "cli/test_archive.py": (Fraction(1, 2), Fraction(1, 3)),
    "cli/test_identity.py": (Fraction(1, 2), Fraction(1, 3)),
    "cli/test_review.py": (Fraction(1, 2), Fraction(1, 3)),
    "cli/test_versions.py": (Fraction(1, 2), Fraction(1, 3)),
    "etl/maintenance": (Fraction(1, 2), Fraction(1, 4)),
    "etl/reader": (Fraction(1, 2), Fraction(1, 4)),
    "field": (Fraction(1, 4), Fraction(1, 4)),
    "proofs/faults": (Fraction(1, 3), Fraction(1, 4)),
    "proofs/hostile": (Fraction(1, 2), Fraction(1, 4)),
    "sources/vendors": (Fraction(1), Fraction(1, 4)),
    # Whole stores, filled by a vendor evening by evening.
    "sources/vendors/test_eodhd_store.py": (Fraction(1, 2), Fraction(1, 4)),
    "sources/vendors/test_plans_anew.py": (Fraction(1, 2), Fraction(1, 4)),
    "sources/vendors/test_plans_in_stores.py": (Fraction(1, 2), Fraction(1, 4)),
    "sources/vendors/test_whole_store.py": (Fraction(1, 2), Fraction(1, 4)),
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
    """A share of the tests, in their order: of each file some tests, and of each parametrized test some cases.

    Cases with a value that no case before them has are drawn first, so that the share of each test varies all of its
    parameters. Every file has at least one test in it, and every test that is tried at least one case.
    """
    files: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        name = item.nodeid.partition("[")[0]
        files.setdefault(name.partition("::")[0], {}).setdefault(name, []).append(item)
    chosen = {
        item.nodeid
        for path, tests in files.items()
        for name in drawn(list(tests), _count(len(tests), part_of(path)[0]), path)
        for item in _some(tests[name], part_of(path)[1])
    }
    return [item for item in items if item.nodeid in chosen]


def _some(cases: Sequence[pytest.Item], part: Fraction) -> Sequence[pytest.Item]:
    most = _count(len(cases), part)
    if most >= len(cases):
        return cases
    shuffled = sorted(cases, key=lambda item: number_of(item.nodeid))
    seen: set[tuple[str, int]] = set()
    first: list[pytest.Item] = []
    rest: list[pytest.Item] = []
    for item in shuffled:
        values = _values(item)
        (rest if values <= seen else first).append(item)
        seen |= values
    return [*first, *rest][:most]


def _count(whole: int, part: Fraction) -> int:
    """A part of a number, at least one."""
    return -(-whole * part.numerator // part.denominator)


def _values(item: pytest.Item) -> set[tuple[str, int]]:
    """The parameters of a case; the cases of one test share the objects."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return set()
    return {(name, id(value)) for name, value in item.callspec.params.items()}


def part_of(path: str) -> tuple[Fraction, Fraction]:
    """The part of the tests in a file, and the part of their cases, that is tried in every run."""
    below = path.partition("historical_etl_tests/")[2]
    above = [below, *map(str, Path(below).parents)]
    return next((PARTS[folder] for folder in above if folder in PARTS), _ALL)
