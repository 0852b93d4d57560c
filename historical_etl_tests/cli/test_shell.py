"""Through real processes: streams, signals and what is imported."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from historical_etl_tests.cli.conftest import PROGRAM, CommandLine

HEAVY = ("polars", "duckdb", "pandas", "exchange_calendars", "dagster")
LIST_IMPORTS = f"""
import sys
from historical_etl.cli import main
code = main(sys.argv[1:])
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["status", "--json"]])
def test_help_and_status_import_nothing_heavy(common: CommandLine, arguments):
    ran = subprocess.run([sys.executable, "-c", LIST_IMPORTS, *arguments], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"


@pytest.mark.parametrize(
    "arguments", [["status"], ["--help"], ["query", "SELECT 1"], ["query", "SELECT 1", "-f", "csv"]]
)
def test_a_reader_that_left_is_no_traceback(common: CommandLine, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        answer = common.process(*arguments, stdout=writing)
    finally:
        os.close(writing)
    assert (answer.code, answer.err) == (141, "")


def test_a_full_disk_behind_stdout_is_reported(common: CommandLine):
    for arguments in (["query", "SELECT 1", "-f", "csv"], ["status"]):
        with Path("/dev/full").open("wb") as full:
            answer = common.process(*arguments, stdout=full)
        assert answer.code == 1
        assert "No space left" in answer.err
        assert "Traceback" not in answer.err


def test_parquet_goes_through_a_pipe_and_not_to_a_terminal(common: CommandLine):
    ran = common.process("query", "SELECT 1 AS one", "--format", "parquet")
    assert ran.out[:4] == ran.out[-4:] == "PAR1"
    code, shown = in_terminal(["query", "SELECT 1", "--format", "parquet"])
    assert code == 2
    assert "not written to a terminal" in shown


def test_a_query_from_stdin(common: CommandLine):
    assert common.process("query", "-", "-f", "csv", given="SELECT count(*) AS n FROM daily_prices").out == "n\n1360\n"


def test_a_terminal_gets_progress_and_colours_unless_it_asks_not_to(cli: CommandLine):
    code, shown = in_terminal(["backfill", "--from", "2013"])
    assert code == 0
    assert "Preparing" in shown
    assert "205" in shown
    assert "\x1b[1" in in_terminal(["status"])[1]
    cli.patch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in in_terminal(["status"])[1]


def test_columns_that_do_not_fit_are_named_and_no_number_is_cut(common: CommandLine):
    _, shown = in_terminal(["query", "SELECT * FROM daily_prices ORDER BY ALL LIMIT 1"], columns=40)
    assert "409.4  412.5  409\r\n" in shown
    assert "do not fit this terminal" in shown
    assert "adj_close" in shown


def test_an_interrupted_run_says_so_and_goes_on_when_called_again(cli: CommandLine):
    process = subprocess.Popen([*PROGRAM, "backfill"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    assert process.stderr.readline() == "2000: committed (1 of 14)\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert cli("verify").code == 0
    assert 2000 in cli("backfill", "--json").document["years_resumed"]


def test_streams_that_are_closed_or_know_no_unicode(common: CommandLine):
    command = f'"{sys.executable}" -c "import sys; from historical_etl.cli import main; sys.exit(main())" '
    assert subprocess.run(["sh", "-c", command + "status >&-"], check=False).returncode == 0
    assert subprocess.run(["sh", "-c", command + "status 2>&- >/dev/null"], check=False).returncode == 0
    common.patch.setenv("PYTHONIOENCODING", "ascii")
    answer = common.process("query", "SELECT 'é' AS x")
    assert (answer.code, answer.out.split()) == (0, ["x", "\\xe9"])


def in_terminal(arguments: list[str], columns: int = 120) -> tuple[int, str]:
    """Run the command on a terminal of its own; its exit code and all that was shown."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the other end was closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return process.wait(timeout=60), shown.decode(errors="replace")
