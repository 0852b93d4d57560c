"""A query runs in a process of its own: what it takes or breaks ends there."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from historical_etl import CatalogError, ConfigurationError, HistoricalETL
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, store

#: Each takes more time or memory than there is, in a part that DuckDB itself does not watch.
GREEDY: Final = {
    "one call of one function": "SELECT levenshtein(repeat('a', 60000), repeat('b', 60000))",
    "a constant is folded": "SELECT len(range(60000000))",
    "a larger one": "SELECT len(range(500000000))",
    "a constant among rows": "SELECT len(list_sort(range(90000000))) FROM daily_prices",
    "texts": "SELECT len(string_agg(repeat('x', 100000))) FROM range(100000)",
    "a list of lists": "SELECT len([range(9000000) FOR i IN range(1000)])",
    "a plan that doubles": "WITH a0 AS NOT MATERIALIZED (SELECT 1 AS x), "
    + ", ".join(
        f"a{n} AS NOT MATERIALIZED (SELECT * FROM a{n - 1} UNION ALL SELECT * FROM a{n - 1})" for n in range(1, 22)
    )
    + " SELECT count(*) FROM a21",
    "no end": "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT count(*) FROM r",
    "an answer": "SELECT repeat('x', 1000) AS x FROM range(100_000_000)",
    "a sort": "SELECT * FROM range(60_000_000) t(i) ORDER BY hash(i)",
}
SECONDS, MEMORY = 1.0, 256 * 1024**2
#: On top of the memory: what a worker holds before it begins, and room for threads.
BESIDE: Final = 320 * 1024**2
#: Seconds after which something is stuck; no result depends on it.
CEILING: Final = 240
ENDLESS: Final = "SELECT count(*) FROM range(100_000_000_000) a, range(100_000_000_000) b"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own") / "data"
    store(root, ScriptedFetcher(SHORT), SHORT.last).run_full_etl(SHORT.symbols, SHORT.first, SHORT.last)
    return root


@pytest.fixture(scope="module")
def etl(root: Path) -> HistoricalETL:
    return store(root, ScriptedFetcher(SHORT), SHORT.last)


def children(of: int | None = None) -> set[int]:
    """The processes in which a process has its queries run."""
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == (of or os.getpid()) and b"catalog.statement" in (folder / "cmdline").read_bytes():
                    found.add(int(folder.name))
    return found


def busy_one(pids: set[int]) -> int:
    """Wait until one of some workers has computed for a while since now."""
    ticks, until = {pid: _ticks(pid) for pid in pids}, time.monotonic() + CEILING
    while time.monotonic() < until:
        for pid in pids:
            if _ticks(pid) >= ticks[pid] + os.sysconf("SC_CLK_TCK") // 5:
                return pid
        time.sleep(0.02)
    pytest.fail("none of them has begun")


def _ticks(pid: int) -> int:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def resident(pid: int | str) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@contextmanager
def peaks() -> Generator[dict[str, int]]:
    """The largest size of this process and of any worker within the block."""
    most = {"own": resident("self"), "worker": 0}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            most["own"] = max(most["own"], resident("self"))
            most["worker"] = max([most["worker"], *map(resident, children())])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


@pytest.mark.parametrize("name", GREEDY)
def test_what_takes_too_much_is_stopped_whatever_part_of_it_does(root: Path, name: str) -> None:
    """Watched from outside: the memory of the worker, and that of this process. Without a stop it takes minutes."""
    etl = store(root, ScriptedFetcher(SHORT), SHORT.last, query_timeout_seconds=SECONDS, query_memory=MEMORY)
    before = resident("self")
    with peaks() as most, pytest.raises(CatalogError, match="stopped: ") as caught:
        etl.query_sql(GREEDY[name])
    assert "HISTORICAL_ETL_QUERY_MEMORY" in caught.value.todo
    assert most["worker"] < MEMORY + BESIDE
    assert most["own"] < before + BESIDE


def test_the_one_after_it_is_answered(etl: HistoricalETL, root: Path) -> None:
    strict = store(root, ScriptedFetcher(SHORT), SHORT.last, query_timeout_seconds=SECONDS)
    with pytest.raises(CatalogError, match=r"stopped: .*\b1 s"):
        strict.query_sql(GREEDY["one call of one function"])
    assert etl.query_sql("SELECT 1 AS one").item() == 1


def test_a_thread_that_takes_memory_beside_it_stops_no_query(root: Path) -> None:
    etl = store(root, ScriptedFetcher(SHORT), SHORT.last, query_memory="100MB")
    with ThreadPoolExecutor(1) as pool:
        growth = pool.submit(lambda: len(bytearray(400 * 1024**2)))
        assert etl.query_sql("SELECT count(*) FROM range(3_000_000) t(i) WHERE hash(i) % 7 = 1").height == 1
        assert growth.result()


def test_many_threads_have_a_process_each(etl: HistoricalETL) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda n: etl.query_sql("SELECT ? + count(*) FROM partitions", [n]).item(), range(30))
    assert list(answers) == [n + 2 for n in range(30)]
    assert len(children()) <= 2  # idle ones


def test_one_that_died_while_idle_is_replaced(etl: HistoricalETL) -> None:
    etl.query_sql("SELECT 1")
    for pid in children():
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert etl.query_sql("SELECT 2 AS two").item() == 2


def test_one_that_is_killed_at_work_is_reported(etl: HistoricalETL) -> None:
    etl.query_sql("SELECT 1")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(etl.query_sql, ENDLESS)
        os.kill(busy_one(children()), signal.SIGKILL)
        with pytest.raises(CatalogError, match="stopped: its process died of SIGKILL"):
            answer.result(CEILING)


PROGRAM: Final = """
import sys
from historical_etl import HistoricalETL
etl = HistoricalETL.open(sys.argv[1])
print(etl.query_sql("SELECT 1 AS one").item(), flush=True)
try:
    etl.query_sql(sys.argv[2])
except KeyboardInterrupt:
    print("interrupted", etl.query_sql("SELECT 2 AS two").item(), flush=True)
"""


@pytest.fixture
def at_work(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process, in the middle of a query without end."""
    command = [sys.executable, "-c", PROGRAM, str(root), ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_its_process_does_not_outlive_the_one_that_asked(at_work: "subprocess.Popen[str]") -> None:
    worker = busy_one(children(at_work.pid))
    at_work.kill()
    at_work.wait()
    until = time.monotonic() + CEILING
    while Path(f"/proc/{worker}/statm").exists() and resident(worker):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_interrupt_ends_the_query_and_nothing_else(at_work: "subprocess.Popen[str]") -> None:
    busy_one(children(at_work.pid))
    os.killpg(at_work.pid, signal.SIGINT)
    assert at_work.stdout is not None
    assert at_work.stdout.readline() == "interrupted 2\n"
    assert at_work.wait(CEILING) == 0


def test_a_fork_takes_none_away(root: Path) -> None:
    """Polars does not work in a fork; but one that ends leaves the workers of this process alone."""
    code = (
        "import os, sys\nfrom historical_etl import HistoricalETL\netl = HistoricalETL.open(sys.argv[1])\n"
        "ask = lambda: etl.query_sql('SELECT 7 AS seven').item()\nassert ask() == 7\npid = os.fork()\n"
        "if pid == 0: sys.exit(0)\nassert os.waitpid(pid, 0)[1] == 0\n"
        "from historical_etl_tests.catalog.test_own_process import children\n"
        "before = children()\nassert len(before) == 1\nassert ask() == 7\nassert children() == before"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True, timeout=CEILING)


def test_a_script_without_a_guard_for_its_main_part_works(root: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from historical_etl import HistoricalETL\n"
        f"print(HistoricalETL.open({str(root)!r}).query_sql('SELECT 1').item())"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=CEILING)
    assert done.stdout == "1\n"


def test_it_has_no_key_and_no_secret(root: Path) -> None:
    code = PROGRAM.replace("try:", "import os, time\nwhile True: time.sleep(1)\ntry:")
    environment = {**os.environ, "HISTORICAL_ETL_TIINGO__API_KEY": "s3cr3t-s3cr3t", "AWS_SECRET_ACCESS_KEY": "s3cr3t"}
    command = [sys.executable, "-c", code, str(root), ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        (worker,) = children(process.pid)
        given = Path(f"/proc/{worker}/environ").read_bytes()
        process.kill()
    assert b"TZ=UTC" in given
    assert b"s3cr3t" not in given


def test_values_of_any_common_type_arrive(etl: HistoricalETL) -> None:
    values = [1, 2.5, "x", None, True, Decimal("1.25"), [1, 2], {"a": 1}, b"\x00", float("inf")]
    marks = ", ".join("?" for _ in values)
    for in_process in (False, True):
        row = etl.query_sql(f"SELECT {marks}", values, in_process=in_process).row(0)
        assert list(row) == values


def test_a_value_that_cannot_be_passed_is_reported(etl: HistoricalETL) -> None:
    with pytest.raises(CatalogError, match="cannot be passed on"):
        etl.query_sql("SELECT ?", [lambda: 1])


def test_where_no_process_can_be_started_it_is_reported(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom historical_etl import CatalogError, HistoricalETL\netl = HistoricalETL.open(sys.argv[1])\n"
        "for sys.executable in ('/nowhere/python', '/bin/false'):\n"
        "    try: etl.query_sql('SELECT 1')\n    except CatalogError as error: print(error)\n"
        "print(etl.query_sql('SELECT 1', in_process=True).item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True, timeout=CEILING
    )
    one, other, answer = done.stdout.splitlines()
    assert one == Saying("not run", "/nowhere/python", "No such file or directory")
    assert other == Saying("not run", "interpreter")
    assert "in_process=True" in one
    assert answer == "1"


CLOSED: Final = """
import os, sys
from historical_etl import HistoricalETL
for number in (0, 1, 2): os.close(number)
answer = HistoricalETL.open(sys.argv[1]).query_sql("SELECT 7 AS seven").item()
open(sys.argv[2], "w").write(str(answer))
"""
LAST: Final = """
import atexit, sys
from historical_etl import HistoricalETL
etl = HistoricalETL.open(sys.argv[1])
sql = "SELECT count(DISTINCT year(date)) FROM daily_prices"
atexit.register(lambda: open(sys.argv[2], "w").write(str(5 + etl.query_sql(sql).item())))
"""
UNKNOWN: Final = """
import sys
from historical_etl import CatalogError, HistoricalETL
sys.executable = None
try:
    HistoricalETL.open(sys.argv[1]).query_sql("SELECT 7 AS seven")
except CatalogError as error:
    open(sys.argv[2], "w").write("7" if "does not say where its interpreter is" in error.what else error.what)
"""


@pytest.mark.parametrize("code", [CLOSED, LAST, UNKNOWN], ids=["closed", "last", "unknown"])
def test_wherever_it_is_asked_it_answers_or_says_why_not(root: Path, tmp_path: Path, code: str) -> None:
    """Without standard streams, at the end of the interpreter, without the name of an interpreter."""
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", code, str(root), str(out)], check=True, timeout=CEILING)
    assert out.read_text() == "7"


def test_what_is_asked_counts_towards_its_memory(root: Path) -> None:
    etl = store(root, ScriptedFetcher(SHORT), SHORT.last, query_memory="100MB")
    with peaks() as most, pytest.raises(CatalogError, match=r"stopped: .*\b0\.1 GB"):
        etl.query_sql("SELECT length(?)", ["x" * 200_000_000])
    with pytest.raises(CatalogError, match="stopped: "):
        etl.query_sql("SELECT length(?)", ["x" * 90_000_000])
    assert most["worker"] < 100 * 1024**2 + BESIDE


#: What a frame cannot hold would come as another value, or as a panic of Polars.
ODD: Final = (
    "SELECT INTERVAL 1 DAY AS x",
    "SELECT 340282366920938463463374607431768211455::UHUGEINT AS x",
    "SELECT 170141183460469231731687303715884105727::HUGEINT AS x",
    "SELECT -100000000000000000000000000000000000000::HUGEINT AS x",
    "SELECT '12:00:00+03'::TIMETZ AS x",
    "SELECT '10110'::BIT AS x",
    "SELECT 12345678901234567890123456789012345678901234567890::BIGNUM AS x",
    "SELECT 'infinity'::DATE AS x",
    "SELECT '-infinity'::TIMESTAMP AS x",
    "SELECT 'infinity'::TIMESTAMPTZ AS x",
    "SELECT union_value(a := 1) AS x",
    "SELECT [INTERVAL 1 DAY] AS x",
)


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize("sql", ODD)
def test_a_value_that_a_frame_cannot_hold_is_refused(etl: HistoricalETL, sql: str, in_process: bool) -> None:
    with pytest.raises(CatalogError, match="cannot hold: x") as caught:
        etl.query_sql(sql, in_process=in_process)
    assert "CAST(x AS VARCHAR)" in caught.value.todo
    (text,) = etl.query_sql(sql.replace("SELECT", "SELECT CAST(").replace(" AS x", " AS VARCHAR) AS x")).row(0)
    assert text


def test_large_numbers_and_days_that_a_frame_can_hold_arrive(etl: HistoricalETL) -> None:
    nines = 10**38 - 1
    sql = f"SELECT {nines}::HUGEINT AS a, -{nines}::HUGEINT AS b, DATE '9999-12-31' AS c, DATE '0001-01-01' AS d"
    assert [str(value) for value in etl.query_sql(sql).row(0)] == [
        str(nines),
        str(-nines),
        "9999-12-31",
        "0001-01-01",
    ]


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize(
    ("sql", "params", "error"),
    [
        (None, None, ConfigurationError),
        (b"SELECT 1", None, ConfigurationError),
        ("SELECT ?", 5, ConfigurationError),
        ("SELECT ?", [object], CatalogError),
    ],
)
def test_what_is_no_query_is_an_error(
    etl: HistoricalETL, sql: str, params: list[object], error: type[Exception], in_process: bool
) -> None:
    with pytest.raises(error):
        etl.query_sql(sql, params, in_process=in_process)


def test_in_this_process_the_answer_is_the_same(etl: HistoricalETL) -> None:
    sql = "SELECT * FROM daily_prices ORDER BY symbol, date"
    before = children()
    here = etl.query_sql(sql, in_process=True)
    assert children() == before
    assert here.equals(etl.query_sql(sql))
    with pytest.raises(CatalogError, match="refused"):
        etl.query_sql("SELECT * FROM '/etc/hostname'", in_process=True)


@pytest.mark.parametrize("in_process", [False, True])
def test_times_are_in_utc_whatever_the_zone_of_the_machine(root: Path, in_process: bool) -> None:
    code = (
        "import sys\nfrom historical_etl import HistoricalETL\n"
        "at = 'max(hour(committed_at)), max(committed_at)::VARCHAR'\n"
        "sql = f\"SELECT current_setting('TimeZone'), {at} FROM additions\"\n"
        f"print(*HistoricalETL.open(sys.argv[1]).query_sql(sql, in_process={in_process}).row(0))"
    )
    reported = {
        zone: subprocess.run(
            [sys.executable, "-c", code, str(root)],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
            timeout=CEILING,
        ).stdout
        for zone in ("UTC", "Asia/Tokyo")
    }
    assert reported["UTC"].startswith("UTC ")
    assert reported["Asia/Tokyo"] == reported["UTC"]
