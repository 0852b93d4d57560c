"""Change the store's code in one place, run the tests that execute that place, and see whether one of them notices.

`python -m historical_etl_tests.mutation.run FOLDER [--seed N] [--sample N] [--modules a,b]`, in a checkout. FOLDER gets
a copy of the code, in which the changes are made, and the results. The tests run once with coverage, which says what
each of them executes and how long it takes; that is kept in FOLDER as `map.json`. Each mutant is tried in a process that
is forked before Polars has started its threads, by the fastest tests that execute the place, as many as fit into
`--seconds`; what survives them is tried by the others, up to `--more-seconds`. A mutant that hangs is killed and counts
as noticed.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from historical_etl_tests.mutation.operators import edits_of, mutated

_STORE: Final = "historical_etl/store"
_COPIED: Final = ("historical_etl", "historical_etl_tests", "benchmarks", "pyproject.toml", "README.md", "docs")
_TESTS: Final = ("store", "test_durable.py", "catalog", "etl", "hostile/test_records.py", "hostile/test_files.py")
_PYTEST: Final = ("-p", "no:cacheprovider", "-p", "no:randomly", "-q", "-n", "0", "-W", "ignore:Module already imported")
_TOOK: Final = re.compile(r"^(\d+\.\d+)s (?:call|setup|teardown) +(\S.*)$")
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)
_BROKEN: Final = 99
_UNLISTED: Final = 0.005
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
        own = f"/test_{module}.py"
        return sorted(found, key=lambda test: (own not in test, self.seconds.get(test, _UNLISTED), test))


class Mutant(NamedTuple):
    """The change of this number in a module."""

    module: str
    number: int


def main() -> None:
    options = _options()
    folder: Path = options.folder.resolve()
    copy = folder / "copy"
    if Path.cwd() != copy:
        _make_copy(folder, copy)
        command = [sys.executable, "-m", "historical_etl_tests.mutation.run", *sys.argv[1:]]
        command[3] = str(folder)
        os.chdir(copy)
        os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": str(copy)})  # noqa: S606 - itself
    known = _map(folder)
    mutants = _sampled(options.modules.split(",") if options.modules else [], options.seed, options.sample)
    outcome, told = _run(sorted(known.seconds, key=known.seconds.__getitem__)[:100], 5, folder / "log")
    if outcome != "survived":
        sys.exit(f"The tests do not pass without a change: {told}")
    results = folder / "results.jsonl"
    done = {(r["module"], r["number"]) for r in _read(results)} if not options.again else set()
    for mutant in mutants:
        if tuple(mutant) in done or time.time() > options.until:
            continue
        found = _try(mutant, known, options.seconds, options.more_seconds, folder)
        with results.open("a") as stream:
            stream.write(json.dumps(found) + "\n")
        print(f"{found['outcome']:9} {mutant.module}:{found['at']} {found['what']}", flush=True)
    _tell(_read(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the copy and the results go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0, help="how many mutants; 0 for all")
    parser.add_argument("--modules", default="", help="names such as vacuum,leases; all if empty")
    parser.add_argument("--seconds", type=float, default=20, help="of tests, by the map, for each mutant")
    parser.add_argument("--more-seconds", type=float, default=90, help="of tests for what survives those")
    parser.add_argument("--again", action="store_true", help="try those as well that have a result already")
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
        tests = [f"historical_etl_tests/{name}" for name in _TESTS]
        coverage = ["--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report=", "--durations=0", "-vv"]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *_PYTEST, *coverage, *tests], capture_output=True, text=True, check=False
        )
        (folder / "baseline.log").write_text(ran.stdout + ran.stderr)
        path.write_text(json.dumps(_read_coverage(data, ran.stdout)))
    return Map(*json.loads(path.read_text()))


def _read_coverage(data: Path, told: str) -> Map:
    from coverage import CoverageData  # noqa: PLC0415 - not into the processes that are forked

    coverage = CoverageData(str(data))
    coverage.read()
    failing = set(_FAILED.findall(told))  # can notice nothing
    if failing:
        print(f"Left out, since they fail as it is: {', '.join(sorted(failing))}", flush=True)
    lines: dict[str, dict[str, list[str]]] = {}
    for file in coverage.measured_files():
        by_line = coverage.contexts_by_lineno(file)
        tests = {str(line): sorted({c.rpartition("|")[0] for c in contexts} - failing - {""}) for line, contexts in by_line.items()}
        lines[Path(file).stem] = {line: names for line, names in tests.items() if names}
    seconds = Counter[str]()
    for line in told.splitlines():
        if took := _TOOK.match(line):
            seconds[took[2]] += float(took[1])  # pyright: ignore[reportArgumentType] - a Counter counts seconds as well
    return Map(lines, dict(seconds))


def _sampled(modules: list[str], seed: int, sample: int) -> list[Mutant]:
    paths = [path for path in sorted(Path(_STORE).glob("*.py")) if not modules or path.stem in modules]
    mutants = [Mutant(path.stem, number) for path in paths for number in range(len(edits_of(path.read_text())))]
    random.Random(seed).shuffle(mutants)
    return mutants[:sample] if sample else mutants


def _try(mutant: Mutant, known: Map, seconds: float, more: float, folder: Path) -> dict[str, object]:
    path = Path(_STORE) / f"{mutant.module}.py"
    original = path.read_text()
    changed, edit = mutated(original, mutant.number)
    tests = known.tests(mutant.module, edit.line, edit.last)
    outcome, by, started = "survived", "", time.monotonic()
    try:
        _write(path, changed)
        for chosen in _batches(tests, known, seconds, more):
            outcome, by = _run(chosen, sum(known.seconds.get(test, _UNLISTED) for test in chosen), folder / "log")
            if outcome != "survived":
                break
    finally:
        _write(path, original)
    took = round(time.monotonic() - started, 1)
    facts = {"line": edit.line, "at": edit.at, "what": edit.what, "tests": len(tests), "seconds": took}
    return {**mutant._asdict(), **facts, "outcome": outcome, "by": by}


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
    _write.turn += 1
    path.write_text(source)
    os.utime(path, (1_000_000_000 + _write.turn, 1_000_000_000 + _write.turn))


_write.turn = 0


def _run(tests: list[str], expected: float, log: Path) -> tuple[str, str]:
    """Run tests in a forked process: what came of it, and the test that noticed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be_the_child(tests, log)
    status = _await(child, time.monotonic() + _START + _SLACK * expected)
    if status is None:
        return "hung", ""
    told = log.read_text(errors="replace")
    failed = _FAILED.search(told)
    if status == _BROKEN or (status in (4, 5) and "ImportError while loading conftest" not in told):
        return "error", told[-300:]
    return ("survived", "") if status == 0 else ("killed", failed[1] if failed else f"status {status}")


def _be_the_child(tests: list[str], log: Path) -> None:
    status = _BROKEN
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        for limit, size in ((resource.RLIMIT_FSIZE, 1 << 29), (resource.RLIMIT_DATA, 3 << 30)):
            resource.setrlimit(limit, (size, size))
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        import pytest  # noqa: PLC0415 - loaded before, without a look at the code under test

        status = int(pytest.main([*_PYTEST, "-x", *tests]))
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - told in the log; the process must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _await(child: int, deadline: float) -> int | None:
    """The exit status of a child, None if it had to be killed; what it left behind goes with it."""
    status: int | None = None
    while time.monotonic() < deadline:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.02)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if status is None:
        os.waitpid(child, 0)
    return status


def _read(results: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def _tell(results: list[dict[str, object]]) -> None:
    """The score by module; of a mutant that was tried more than once, the last result counts."""
    last = {(r["module"], r["number"]): r for r in results if r["outcome"] != "error"}
    print(f"{'module':18}{'mutants':>8}{'noticed':>8}{'score':>8}")
    for module in [*sorted({str(r["module"]) for r in last.values()}), ""]:
        of = [r for r in last.values() if module in ("", r["module"])]
        noticed = sum(r["outcome"] != "survived" for r in of)
        print(f"{module or 'all':18}{len(of):8}{noticed:8}{noticed / max(1, len(of)):8.1%}")


if __name__ == "__main__":
    # Loaded once, for all processes that are forked; nothing of the code under test.
    import duckdb
    import exchange_calendars
    import hypothesis
    import polars
    import pydantic
    import pydantic_settings
    import pytest  # noqa: F401

    main()
