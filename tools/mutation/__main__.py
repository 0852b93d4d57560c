"""Change the store's code in one place, run the tests that execute that place, and see whether one of them notices.

`python -m tools.mutation FOLDER [--seed N] [--sample N] [--modules a,b]`, in a checkout. FOLDER gets a copy of the
code, in which the changes are made, and the results. The tests run once with coverage, which says what each of them
executes and how long it takes; that stays in FOLDER as `map.json`. Each mutant is tried in a process of its own, by the
tests that execute the place, as many as fit into `--seconds`; what survives them is tried by the others, up to
`--more-seconds`. A mutant that hangs is killed and counts as noticed.
"""

import argparse
import ast
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tools.mutation.operators import Edit, edits_of, mutated
from tools.mutation.trials import FAILED, PYTEST, Mutant, Trial, Trials, changed_function, fresh

_STORE: Final = Path("historical_etl/store")
_COPIED: Final = (
    "historical_etl",
    "historical_etl_tests",
    "benchmarks",
    "tools",
    "pyproject.toml",
    "README.md",
    "docs",
)
#: Fast ones of what is built upon the store; the whole suite notices more.
_TESTS: Final = ("store", "test_durable.py", "proofs/hostile/test_records.py")
_NOT_SLOW: Final = "not writer_at_work and not no_path_shows and not threads_do_not and not failing_disk"
_TOOK: Final = re.compile(r"^(\d+\.\d+)s (?:call|setup|teardown) +(\S.*)$")
_TIMES: Final = itertools.count(1_000_000_000)
_UNLISTED: Final = 0.005
#: Tests that look at what the modules are made of, and execute no line of them.
_IMPORTED: Final = "/test_values.py::"
#: What a test may take, in multiples of what it took when the map was made, and seconds on top.
_SLACK, _START = 6, 60


class Map(NamedTuple):
    """Which tests execute each line of each module (its name and the line as text), and what each takes in seconds."""

    lines: dict[str, dict[str, list[str]]]
    seconds: dict[str, float]

    def tests(self, module: str, first: int, last: int) -> list[str]:
        """The tests of some lines, of the whole module if those are executed on import only.

        Those that are named after the module come first, then the fastest.
        """
        lines = self.lines.get(module, {})
        found = {test for line in range(first, last + 1) for test in lines.get(str(line), [])}
        if not found:
            found = {test for tests in lines.values() for test in tests}
            found |= {test for test in self.seconds if _IMPORTED in test}
        own = f"/test_{module.rpartition('.')[2]}.py"
        return sorted(found, key=lambda test: (own not in test, self.seconds.get(test, _UNLISTED), test))

    def files(self) -> list[str]:
        """Where all tests are; pytest does not list the seconds of the fastest."""
        tests = {test for lines in self.lines.values() for tests in lines.values() for test in tests}
        return sorted({test.partition("::")[0] for test in tests | set(self.seconds)})


#: The trial of the trial itself: the tests must pass in a forked process.
_NOTHING: Final = Mutant("", 0)


def main() -> None:
    options = _options()
    folder: Path = options.folder.resolve()
    copy = folder / "copy"
    if Path.cwd() != copy:
        _make_copy(folder, copy)
        command = [sys.executable, "-m", "tools.mutation", *sys.argv[1:]]
        command[3] = str(folder)
        os.chdir(copy)
        os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": str(copy)})  # noqa: S606 - itself
    known = _map(folder)
    mutants = _sampled(options.modules.split(",") if options.modules else [], options.seed, options.sample)
    results = folder / "results.jsonl"
    settled = ("killed", "hung") if options.survivors else ("killed", "hung", "survived")
    done = {mutant for mutant, r in _last(results).items() if r["outcome"] in settled}
    told = os.fdopen(os.dup(1), "w", buffering=1)
    states: dict[Mutant, str] = {}

    def report(trial: Trial, outcome: str, by: str) -> None:
        states[trial.mutant] = outcome
        if trial.mutant is _NOTHING:
            if outcome != "survived":
                told.write(f"{by or outcome} does not pass without a change\n")
                os._exit(1)
            return
        told.write(f"{outcome:9} {trial.module}:{trial.edit.at} {trial.edit.what}\n")
        facts = {"line": trial.edit.line, "at": trial.edit.at, "what": trial.edit.what, "tests": len(trial.tests)}
        with results.open("a") as stream:
            stream.write(json.dumps({**trial.mutant._asdict(), **facts, "outcome": outcome, "by": by}) + "\n")

    def trials() -> Iterator[Trial]:
        fast = sorted(known.seconds, key=known.seconds.__getitem__)[:150]
        yield Trial(_NOTHING, Edit(0, 0, 0, "", lambda: None), None, fast, 300)
        for mutant in mutants:
            if mutant not in done and time.time() < options.until:
                yield from _trials(mutant, known, options, report, states)

    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.dont_write_bytecode = True
    plugin = Trials(trials(), report, folder / "noticed")
    pytest.main([*PYTEST, "-x", "--tb=line", *known.files()], plugins=[plugin])
    sys.stdout = told
    _report(_last(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the copy and the results go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0, help="how many mutants; 0 for all")
    parser.add_argument("--modules", default="", help="names such as vacuum,archive.read; all if empty")
    parser.add_argument("--seconds", type=float, default=20, help="of tests, by the map, for each mutant")
    parser.add_argument("--more-seconds", type=float, default=90, help="of tests for what survives those")
    parser.add_argument(
        "--survivors", action="store_true", help="try those again that survived; give them more seconds"
    )
    parser.add_argument("--until", type=float, default=float("inf"), help="begin none after this time (Unix)")
    return parser.parse_args()


def _make_copy(folder: Path, copy: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(copy, ignore_errors=True)
    for name in _COPIED:
        source, target = Path(name), copy / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _map(folder: Path) -> Map:
    path = folder / "map.json"
    if not path.exists():
        print("Running the tests once with coverage", flush=True)
        data, settings = folder / "coverage", folder / "coverage.ini"
        settings.write_text(f"[run]\ndata_file = {data}\nsource_pkgs = historical_etl.store\n")
        tests = [str(path) for name in _TESTS for path in sorted(Path("historical_etl_tests").rglob(name))]
        coverage = [
            "--cov",
            f"--cov-config={settings}",
            "--cov-context=test",
            "--cov-report=",
            "--durations=0",
            "--durations-min=0",
        ]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *PYTEST, "-k", _NOT_SLOW, *coverage, *tests],
            capture_output=True,
            text=True,
            check=False,
        )
        (folder / "baseline.log").write_text(ran.stdout + ran.stderr)
        path.write_text(json.dumps(_read_coverage(data, ran.stdout)))
    return Map(*json.loads(path.read_text()))


def _read_coverage(data: Path, told: str) -> Map:
    from coverage import CoverageData

    coverage = CoverageData(str(data))
    coverage.read()
    failing = set(FAILED.findall(told))  # can notice nothing
    if failing:
        print(f"Left out, since they fail as it is: {', '.join(sorted(failing))}", flush=True)
    lines: dict[str, dict[str, list[str]]] = {}
    for file in coverage.measured_files():
        by_line = coverage.contexts_by_lineno(file)
        tests = {
            str(line): sorted({c.rpartition("|")[0] for c in contexts} - failing - {""})
            for line, contexts in by_line.items()
        }
        lines[_module(Path(file).relative_to(_STORE.absolute()))] = {
            line: names for line, names in tests.items() if names
        }
    seconds = Counter[str]()
    for line in told.splitlines():
        if took := _TOOK.match(line):
            seconds[took[2]] += float(took[1])  # pyright: ignore[reportArgumentType] - a Counter counts seconds as well
    return Map(lines, {test: took for test, took in seconds.items() if test not in failing})


def _sampled(modules: list[str], seed: int, sample: int) -> list[Mutant]:
    sources = {_module(path.relative_to(_STORE)): path.read_text() for path in sorted(_STORE.rglob("*.py"))}
    chosen = [name for name in sources if not modules or name in modules]
    mutants = [Mutant(name, number) for name in chosen for number in range(len(edits_of(sources[name])))]
    random.Random(seed).shuffle(mutants)
    return mutants[:sample] if sample else mutants


def _module(path: Path) -> str:
    """The name of a module below the store's package, by its path: `archive.read`."""
    return ".".join(path.with_suffix("").parts)


def _trials(
    mutant: Mutant,
    known: Map,
    options: argparse.Namespace,
    report: Callable[[Trial, str, str], None],
    states: Mapping[Mutant, str],
) -> Iterator[Trial]:
    """The trials of one mutant, until it is noticed; meanwhile the file holds it."""
    path = _STORE.joinpath(*mutant.module.split(".")).with_suffix(".py")
    original = path.read_text()
    changed, edit = mutated(original, mutant.number)
    before, after = (
        compile(source, str(path.absolute()), "exec") for source in (ast.unparse(ast.parse(original)), changed)
    )
    code = changed_function(before, after)
    tests = known.tests(mutant.module, edit.line, edit.last)
    try:
        _write(path, changed)
        for chosen in _batches(tests, known, options.seconds, options.more_seconds):
            limit = _START + _SLACK * sum(known.seconds.get(test, _UNLISTED) for test in chosen)
            trial = Trial(mutant, edit, code, chosen, limit)
            if code is None:
                report(trial, *fresh(chosen, limit))
            else:
                yield trial
            if states[mutant] != "survived":
                return
        if not tests:
            report(Trial(mutant, edit, code, [], 0), "survived", "")
    finally:
        _write(path, original)


def _batches(tests: list[str], known: Map, seconds: float, more: float) -> list[list[str]]:
    """The tests in two turns: those that fit into `seconds`, and those that then fit into `more`; at least one."""
    turns: list[list[str]] = [[], []]
    spent, turn = 0.0, 0
    for test in tests:
        spent += known.seconds.get(test, _UNLISTED)
        if turn == 0 and spent > seconds and turns[0]:
            turn = 1
        if turn == 1 and spent > seconds + more:
            break
        turns[turn].append(test)
    return [turn for turn in turns if turn]


def _write(path: Path, source: str) -> None:
    # Bytecode is known by the source's time in whole seconds and its size: each version gets another time.
    path.write_text(source)
    at = next(_TIMES)
    os.utime(path, (at, at))


def _last(results: Path) -> dict[Mutant, dict[str, object]]:
    """The last result of each mutant."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {Mutant(r["module"], r["number"]): r for r in map(json.loads, lines)}


def _report(results: Mapping[Mutant, Mapping[str, object]]) -> None:
    """The score by module, and what survived."""
    outcomes = {mutant: str(r["outcome"]) for mutant, r in results.items() if r["outcome"] != "error"}
    print(f"{'module':18}{'mutants':>8}{'noticed':>8}{'score':>8}")
    for module in [*sorted({mutant.module for mutant in outcomes}), ""]:
        of = [outcome for mutant, outcome in outcomes.items() if module in ("", mutant.module)]
        noticed = sum(outcome != "survived" for outcome in of)
        print(f"{module or 'all':18}{len(of):8}{noticed:8}{noticed / max(1, len(of)):8.1%}")
    for mutant, r in sorted(results.items()):
        if r["outcome"] == "survived":
            print(f"{mutant.module}:{r['at']} {r['what']}")


if __name__ == "__main__":
    main()
